"""A lab whose `up` was killed or interrupted leaves nothing that `down` does not remove."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from phalanx.core.error import NotFoundError
from phalanx.labs.lab import Lab
from phalanx.labs.outfit import Bare
from phalanx.labs.place import Place
from phalanx.labs.process import birth_of
from phalanx.labs.record import ProcessRecord, read_record, write_record

Traces = Callable[[str], dict[str, list[str]]]

# Makes a lab in a process of its own, which kills itself at the given call of the given
# function: 9 as a power cut would, 15 as an operator would.
SCRIPT = """
import os, signal, sys
from phalanx.labs import bringup, command, exec, lab, wiring
from phalanx.labs.outfit import Bare, Condition, ProcessSpec

name, module, function, count, number = sys.argv[1:]
module = {"bringup": bringup, "lab": lab, "wiring": wiring}[module]
calls, real = [], getattr(module, function)

def dying(*arguments, **options):
    result = real(*arguments, **options)
    calls.append(1)
    if len(calls) == int(count):
        os.kill(os.getpid(), int(number))
    return result

setattr(module, function, dying)

def outfit(place, topology):
    spec = ProcessSpec("idle", (sys.executable, "-c", "import signal; signal.pause()"))
    return Bare((), {"m1": [spec], "a1": [spec]}, (Condition("never", lambda: "no"),))

lab.Lab.up.__func__.__kwdefaults__["outfit"] = outfit
sys.exit(command.main(["up", "--name", name, "--timeout", "20"]))
"""

STEPS = [
    pytest.param("lab", "write_record", 1, id="record-written"),
    pytest.param("wiring", "ip_batch", 1, id="router-added"),
    pytest.param("wiring", "nft", 1, id="router-strict"),
    pytest.param("wiring", "ip_batch", 3, id="first-node-added"),
    pytest.param("wiring", "ip_batch", 4, id="first-node-plugged"),
    pytest.param("bringup", "build_node", 4, id="all-nodes-built"),
    pytest.param("bringup", "spawn", 1, id="first-process-not-yet-recorded"),
    pytest.param("bringup", "spawn", 2, id="second-process-not-yet-recorded"),
    pytest.param("bringup", "is_alive", 1, id="waiting"),
]


def run_up(name: str, module: str, function: str, count: int, number: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, module, function, str(count), str(number)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("module", "function", "count"), STEPS)
def test_down_after_a_killed_up_leaves_nothing(
    name: str, traces: Traces, module: str, function: str, count: int
) -> None:
    status, _ = run_up(name, module, function, count, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert traces(name)["files"]

    Lab.remove(name)

    assert not any(traces(name).values())


@pytest.mark.parametrize(("module", "function", "count"), STEPS)
def test_interrupted_up_removes_what_it_made(
    name: str, traces: Traces, module: str, function: str, count: int
) -> None:
    status, error = run_up(name, module, function, count, signal.SIGTERM)

    assert (status, error.splitlines()[-1]) == (130, "phalanx lab: interrupted")
    assert not any(traces(name).values())


@pytest.mark.parametrize("text", [None, "{", ""])
def test_lab_without_a_readable_record_is_found_by_its_names(
    name: str, traces: Traces, text: str | None
) -> None:
    lab = Lab.up(name=name, outfit=lambda place, topology: Bare())
    record = lab.directory / "lab.json"
    if text is None:
        record.unlink()
    else:
        record.write_text(text)
    with pytest.raises(NotFoundError, match="only remains"):
        Lab.attach(name)

    Lab.remove(name)

    assert not any(traces(name).values())


def test_mount_inside_a_lab_comes_off_before_files_are_removed(
    name: str, traces: Traces, tmp_path_factory: pytest.TempPathFactory
) -> None:
    precious = tmp_path_factory.mktemp("precious")
    (precious / "file").write_text("of this machine")
    lab = Lab.up(name=name, outfit=lambda place, topology: Bare())
    inside = lab.node("a1").directory / "root"
    inside.mkdir()
    subprocess.run(["mount", "--bind", precious, inside], check=True)

    lab.down()

    assert (precious / "file").read_text() == "of this machine"
    assert not any(traces(name).values())


def test_cgroups_and_what_runs_in_them_go_with_the_lab(name: str, traces: Traces) -> None:
    lab = Lab.up(name=name, outfit=lambda place, topology: Bare())
    with open("/proc/self/mountinfo") as mounts:
        root = next(line.split()[4] for line in mounts if " - cgroup" in line)
    cgroup = f"{root}/phalanx/{name}/a1/deep"
    os.makedirs(cgroup)
    with subprocess.Popen(["sleep", "60"]) as process:
        with open(f"{cgroup}/cgroup.procs", "w") as members:
            members.write(str(process.pid))

        lab.down()

        assert process.wait(timeout=30) == -signal.SIGKILL
    assert not any(traces(name).values())


def test_record_that_names_a_process_of_someone_else_kills_nobody(name: str) -> None:
    # A number is used again one day; the time of birth tells the two apart.
    lab = Lab.up(name=name, outfit=lambda place, topology: Bare())
    with subprocess.Popen(["sleep", "60"]) as bystander:
        birth = birth_of(bystander.pid)
        record = read_record(Place(name))
        assert birth is not None
        assert record is not None
        older = ProcessRecord("a1", "web", ("true",), replace(birth, start=birth.start - 1))
        write_record(Place(name), record.with_process(older))

        lab.down()

        assert bystander.poll() is None
        bystander.kill()
