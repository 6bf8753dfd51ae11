"""A lab from up to down: processes, power, second ups, failures."""

import re
import signal
import sys
from collections.abc import Callable, Sequence
from time import monotonic

import pytest

from phalanx.core.error import ConfigError, ConflictError, NotFoundError, UnavailableError
from phalanx.labs.lab import Lab, MakeOutfit
from phalanx.labs.outfit import Bare, Condition, ProcessSpec, Wave
from phalanx.labs.place import Place
from phalanx.labs.process import birth_of
from phalanx.labs.topology import Topology
from phalanx.labs.wait import wait_until

Traces = Callable[[str], dict[str, list[str]]]


def pids(lab: Lab) -> dict[tuple[str, str], int | None]:
    return {(n.name, p.name): p.pid for n in lab.status().nodes for p in n.processes}


def serves(lab: Lab, node: str) -> bool:
    return lab.node("c1").run(["curl", "-s", "-m1", f"http://{node}:8000/"]).returncode == 0


def link_addresses(lab: Lab, node: str) -> list[str]:
    """Return those of a node and of the router's bridges."""
    of_node = lab.node(node).run(["ip", "-o", "link", "show", "eth0"]).stdout
    of_router = lab.node("r1").run(["ip", "-o", "link", "show", "type", "bridge"]).stdout
    found = re.findall(r"link/ether (\S+)", of_node + of_router)
    assert len(found) == 1 + len(lab.topology.segments)
    return found


def failing(command: str) -> MakeOutfit:
    def outfit(place: Place, topology: Topology) -> Bare:
        spec = ProcessSpec("web", (sys.executable, "-c", command))
        never = Condition("never", lambda: "not today")
        return Bare((), {"a1": [spec]}, (never,))

    return outfit


def test_everything_is_gone_after_down(name: str, web: MakeOutfit, traces: Traces) -> None:
    lab = Lab.up(name=name, outfit=web)
    assert all(traces(name)[kind] for kind in ("namespaces", "etc", "files", "mounts", "processes"))

    lab.down()

    assert not any(traces(name).values())


def test_every_process_runs_in_its_nodes_network(lab: Lab) -> None:
    assert wait_until(lambda: all(serves(lab, node) for node in ("m1", "a1", "a2")), seconds=60)
    assert all(process.state == "running" for n in lab.status().nodes for process in n.processes)


def test_output_of_a_process_is_in_its_log(lab: Lab) -> None:
    log = lab.node("a1").directory / "log" / "web.log"
    assert wait_until(lambda: serves(lab, "a1"), seconds=60)

    assert wait_until(lambda: "GET / HTTP/1.1" in log.read_text(), seconds=30)


def test_one_process_is_killed_and_the_others_live_on(lab: Lab) -> None:
    before = pids(lab)

    lab.kill("a1", "web")

    assert pids(lab) == before | {("a1", "web"): None}


def test_killed_process_can_be_started_again(lab: Lab) -> None:
    before = pids(lab)
    lab.kill("a1", "web")

    assert lab.start("a1", "web") == ["web"]

    assert pids(lab)["a1", "web"] not in (None, before["a1", "web"])
    assert wait_until(lambda: serves(lab, "a1"), seconds=60)


def test_signal_of_ones_choice_is_sent(lab: Lab) -> None:
    lab.kill("a1", "idle", number=signal.SIGTERM)

    assert wait_until(lambda: pids(lab)["a1", "idle"] is None, seconds=30)


def test_node_without_power_is_silent_and_runs_nothing(lab: Lab) -> None:
    assert wait_until(lambda: serves(lab, "a2"), seconds=60)
    beside = lab.node("a2").run(["sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 & echo $!"])

    lab.kill("a2")

    assert birth_of(int(beside.stdout)) is None
    assert pids(lab)["a2", "web"] is None
    assert not serves(lab, "a2")
    assert {n.name: n.condition for n in lab.status().nodes}["a2"] == "off"


def test_node_with_power_again_comes_back_empty_and_serves(lab: Lab) -> None:
    lab.node("a2").run(["ip", "link", "add", "phx-old", "type", "dummy"])
    lab.kill("a2")

    assert lab.start("a2") == ["web"]

    assert wait_until(lambda: serves(lab, "a2"), seconds=60)
    assert "phx-old" not in lab.node("a2").run(["ip", "link"]).stdout


@pytest.mark.parametrize("node", ["m1", "a1", "a2"])
def test_node_with_power_again_is_known_to_its_neighbours(lab: Lab, node: str) -> None:
    before = link_addresses(lab, node)

    lab.kill(node)
    lab.start(node)

    assert link_addresses(lab, node) == before


@pytest.mark.parametrize(
    ("act", "message"),
    [
        pytest.param(lambda lab: lab.kill("a9"), "node: 'a9': is none of m1, a1", id="no-node"),
        pytest.param(
            lambda lab: lab.kill("a1", "x"), "a1: process: 'x': is none of web, idle", id="process"
        ),
        pytest.param(lambda lab: lab.start("a1"), "a1: runs already", id="node-runs"),
        pytest.param(lambda lab: lab.start("a1", "web"), "a1: web: runs already", id="runs"),
        pytest.param(lambda lab: lab.node("x"), "node: 'x'", id="node"),
    ],
)
def test_what_cant_be_done_says_why(lab: Lab, act: Callable[[Lab], object], message: str) -> None:
    with pytest.raises((ConfigError, ConflictError), match=message):
        act(lab)


def test_node_that_runs_nothing_is_started_only_after_a_loss_of_power(name: str) -> None:
    lab = Lab.up(name=name, outfit=lambda place, topology: Bare())
    try:
        with pytest.raises(ConflictError, match="c1: runs already"):
            lab.start("c1")
        lab.kill("c1")

        assert lab.start("c1") == []
    finally:
        lab.down()


def test_node_without_power_refuses_all_but_start(lab: Lab) -> None:
    lab.kill("a2")

    for act in (lab.kill, lab.partition, lab.heal):
        with pytest.raises(ConflictError, match="a2: is without power"):
            act("a2")
    with pytest.raises(ConflictError, match="a2: is without power: start the whole node"):
        lab.start("a2", "web")
    with pytest.raises(ConflictError, match="a2: web: does not run"):
        lab.kill("a2", "web")


def test_second_up_is_refused_and_harms_nothing(lab: Lab, web: MakeOutfit) -> None:
    before = pids(lab)

    with pytest.raises(ConflictError, match=f"lab {lab.name} is up already"):
        Lab.up(name=lab.name, outfit=web)

    assert pids(lab) == before


def test_down_and_attach_of_none_say_so(name: str) -> None:
    with pytest.raises(NotFoundError, match=f"no lab named {name}"):
        Lab.remove(name)
    with pytest.raises(NotFoundError, match=f"no lab named {name}"):
        Lab.attach(name)


def test_process_that_ends_early_fails_up_with_its_last_words(name: str, traces: Traces) -> None:
    with pytest.raises(UnavailableError, match=r"(?s)a1: web ended early.*no such thing as web"):
        Lab.up(name=name, outfit=failing("raise SystemExit('no such thing as web')"))

    assert not any(traces(name).values())


def test_condition_that_never_holds_fails_up_with_its_reason(name: str, traces: Traces) -> None:
    with pytest.raises(UnavailableError, match=r"not up after 0\.2 s: never: not today"):
        Lab.up(name=name, outfit=failing("import signal; signal.pause()"), seconds=0.2)

    assert not any(traces(name).values())


def test_time_to_come_up_is_for_all_waves_together(name: str) -> None:
    asked: list[float] = []

    def ask(until: float) -> str | None:
        asked.append(monotonic())
        return None if asked[-1] >= asked[0] + until else "not yet"

    class Waves(Bare):
        def waves(self) -> Sequence[Wave]:
            first, second = (Condition("c", lambda until=u: ask(until)) for u in (1.6, 60.0))  # type: ignore[misc]  # bound per turn
            return [Wave({}, (first,)), Wave({}, (second,))]

    with pytest.raises(UnavailableError, match="not up after 2 s: c: not yet"):
        Lab.up(name=name, outfit=lambda place, topology: Waves(), seconds=2.0)

    assert asked[-1] - asked[0] < 3.4  # not 1.6 s and then 2 s


def test_failed_lab_is_kept_when_asked_for_and_removed_by_down(name: str, traces: Traces) -> None:
    outfit = failing("import signal; signal.pause()")
    with pytest.raises(UnavailableError):
        Lab.up(name=name, outfit=outfit, seconds=0.1, keep_on_failure=True)
    try:
        assert wait_until(lambda: len(traces(name)["processes"]) == 1, seconds=60)
        with pytest.raises(ConflictError, match="left half made"):
            Lab.up(name=name, outfit=outfit)
    finally:
        Lab.remove(name, outfit=outfit)

    assert not any(traces(name).values())
