"""A name leads to containers on nodes that are heard, as long as there is one."""

from ipaddress import IPv4Address

import msgspec
import pytest

from phalanx.dns.zones.desired import desired_zones
from phalanx.dns.zones.record import RecordType
from phalanx.dns.zones.settings import DEFAULTS, ZoneSettings
from phalanx.net.model.objects import Framework, Liveness, Node, Task, TaskPhase
from phalanx.net.model.view import View

A1, A2 = IPv4Address("198.18.0.101"), IPv4Address("198.18.1.102")
ON_A1, ON_A2 = IPv4Address("9.0.0.2"), IPv4Address("9.0.1.2")
NAMES = ("web.marathon.mesos.", "web.marathon.containerip.dcos.thisdcos.directory.")


def view_of(first: Liveness, second: Liveness) -> View:
    def task(number: int, node: IPv4Address, address: IPv4Address) -> Task:
        return Task(
            "f",
            f"web.{number}",
            "web",
            f"uuid-S{number}",
            node,
            TaskPhase.RUNNING,
            addresses=(address,),
            networks=("dcos",),
        )

    return View().changed(
        [
            Framework("f", "marathon"),
            Node(A1, "a1", agent_id="uuid-S0", liveness=first),
            Node(A2, "a2", agent_id="uuid-S1", liveness=second),
            task(0, A1, ON_A1),
            task(1, A2, ON_A2),
        ]
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param(Liveness.ALIVE, Liveness.ALIVE, {ON_A1, ON_A2}, id="both-heard"),
        pytest.param(Liveness.ALIVE, Liveness.SUSPECT, {ON_A1}, id="one-suspect"),
        pytest.param(Liveness.UNREACHABLE, Liveness.ALIVE, {ON_A2}, id="one-unreachable"),
        pytest.param(Liveness.SUSPECT, Liveness.SUSPECT, {ON_A1, ON_A2}, id="all-silent-keeps-all"),
    ],
)
def test_addresses_follow_liveness(
    name: str, first: Liveness, second: Liveness, expected: set[IPv4Address]
) -> None:
    zones = desired_zones(view_of(first, second), settings=DEFAULTS)

    [zone] = [zone for apex, zone in zones.items() if zone and name.endswith(f".{apex}")]
    assert set(zone.names[name][RecordType.A]) == expected


@pytest.mark.parametrize(
    ("is_checked", "verdicts", "prefers", "expected"),
    [
        pytest.param(True, (True, False), True, {ON_A1}, id="sick-one-leaves"),
        pytest.param(True, (True, None), True, {ON_A1}, id="not-checked-yet-waits"),
        pytest.param(False, (None, None), True, {ON_A1, ON_A2}, id="without-checks-all"),
        pytest.param(False, (None, False), True, {ON_A1}, id="framework-says-sick"),
        pytest.param(True, (False, False), True, {ON_A1, ON_A2}, id="all-sick-keeps-all"),
        pytest.param(True, (True, False), False, {ON_A1, ON_A2}, id="option-off"),
    ],
)
def test_addresses_follow_health(
    is_checked: bool,
    verdicts: tuple[bool | None, ...],
    prefers: bool,
    expected: set[IPv4Address],
) -> None:
    view = view_of(Liveness.ALIVE, Liveness.ALIVE)
    tasks = [
        msgspec.structs.replace(task, is_checked=is_checked, healthy=verdict)
        for task, verdict in zip(view.tasks.values(), verdicts, strict=True)
    ]

    zones = desired_zones(view.changed(tasks), settings=ZoneSettings(prefers_healthy=prefers))

    zone = zones["mesos."]
    assert zone is not None
    assert set(zone.names["web.marathon.mesos."][RecordType.A]) == expected
