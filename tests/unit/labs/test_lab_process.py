"""Processes, mounts and waiting, on this machine as it is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.error import DataplaneError
from phalanx.labs.exec import spawn
from phalanx.labs.mount import mounts_below, parse_mountinfo, remove_directory
from phalanx.labs.process import (
    Birth,
    ancestry,
    birth_of,
    is_alive,
    kill_all,
    send_signal,
    with_environment,
)
from phalanx.labs.wait import wait_until

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]


@pytest.fixture
def sleeper() -> Iterator[Birth]:
    with subprocess.Popen(SLEEPER) as process:
        birth = birth_of(process.pid)
        assert birth is not None
        yield birth
        process.kill()


def test_process_is_known_by_number_and_start(sleeper: Birth) -> None:
    assert is_alive(sleeper)
    assert not is_alive(replace(sleeper, start=sleeper.start - 1))


def test_signal_goes_to_exactly_the_process_meant(sleeper: Birth) -> None:
    assert not send_signal(replace(sleeper, start=sleeper.start - 1), signal.SIGKILL)
    assert is_alive(sleeper)

    assert send_signal(sleeper, signal.SIGKILL)
    assert wait_until(lambda: not is_alive(sleeper), seconds=30)


def test_ended_process_counts_as_none_before_it_is_reaped(sleeper: Birth) -> None:
    send_signal(sleeper, signal.SIGKILL)

    assert wait_until(lambda: birth_of(sleeper.pid) is None, seconds=30)
    assert Path(f"/proc/{sleeper.pid}").exists()


def test_killing_spares_this_process_and_its_ancestors(sleeper: Birth) -> None:
    assert {os.getpid(), os.getppid()} <= ancestry()

    killed = kill_all(lambda: [sleeper.pid, os.getpid(), os.getppid()])

    assert killed == 1
    assert not is_alive(sleeper)


def test_spawned_process_leads_a_session_and_is_found_by_its_mark(tmp_path: Path) -> None:
    mark = f"PHALANX_TEST={uuid4().hex}"
    environ = dict([mark.split("=")])
    log = tmp_path / "log"
    script = "import os, sys, signal; print('sid', os.getsid(0) == os.getpid(), flush=True)"

    pid = spawn(
        [sys.executable, "-c", f"{script}; signal.pause()"], netns=None, log=log, environ=environ
    )
    try:
        assert wait_until(lambda: bool(log.read_text()), seconds=30)
        assert log.read_text() == "sid True\n"
        assert with_environment(mark) == {pid}
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    finally:
        kill_all(lambda: with_environment(mark))
    assert with_environment(mark) == set()


def test_process_that_cant_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataplaneError, match="spawn true: "):
        spawn(["true"], netns=None, log=tmp_path / "none" / "log", environ={})


MOUNTINFO = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /run/with\\040space rw shared:1 - tmpfs tmpfs rw,mode=755
32 31 0:29 / /run/with\\040space/below rw,relatime - cgroup cgroup rw,cpu
"""


def test_mounts_are_listed_with_their_kind() -> None:
    assert [(str(mount.path), mount.kind) for mount in parse_mountinfo(MOUNTINFO)] == [
        ("/", "ext4"),
        ("/run/with space", "tmpfs"),
        ("/run/with space/below", "cgroup"),
    ]


def test_directory_is_removed_with_all_it_holds(tmp_path: Path) -> None:
    (tmp_path / "lab/deep").mkdir(parents=True)
    (tmp_path / "lab/deep/file").write_text("x")

    remove_directory(tmp_path / "lab")

    assert not (tmp_path / "lab").exists()
    assert mounts_below(tmp_path) == []


def test_waiting_ends_at_its_deadline() -> None:
    assert wait_until(lambda: True, seconds=0)
    assert not wait_until(lambda: False, seconds=0.01)
