"""Maintenance: schedules, machines that go down and come up, and whose agents they are."""

import json
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any

import pytest

from phalanx.core.error import InvalidError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.event import AgentAdded, Bus
from phalanx.master.maintenance.maintenance import Maintenance
from phalanx.master.maintenance.schedule import (
    DOWN,
    machines_of,
    started,
    stopped,
    without,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, encode, from_json
from phalanx.mesos.v1.maintenance import Schedule
from phalanx.mesos.v1.mesos import AgentInfo, MachineID

Json = dict[str, Any]
FOO: Json = {"hostname": "Foo", "ip": "198.18.0.2"}
BAR: Json = {"hostname": "bar"}


def window(*ids: Json, start: int = 5, duration: int | None = None) -> Json:
    span: Json = {"start": {"nanoseconds": start}}
    if duration is not None:
        span["duration"] = {"nanoseconds": duration}
    return {"machine_ids": list(ids), "unavailability": span}


def plain(message: Message) -> Any:
    return json.loads(encode(message))


def schedule(*windows: Json) -> Schedule:
    return from_json(Schedule, {"windows": list(windows)})


def ids(*machines: Json) -> list[MachineID]:
    return [from_json(MachineID, machine) for machine in machines]


class Scene:
    """Maintenance of a cluster with one agent on machine ``foo``."""

    def __init__(self, store: MemoryStore) -> None:
        self.ended: list[str] = []
        self.cluster = Cluster(Bus())
        info = from_json(AgentInfo, {"hostname": "foo", "id": {"value": "a1"}})
        self.agent = Agent(
            "a1", info, IPv4Address("198.18.0.2"), "1", Resources(), registered=0.0, heard=0.0
        )
        self.cluster.add_agent(self.agent)
        self.maintenance = Maintenance(
            self.cluster, store, poke=lambda: None, shut_down=self._shut_down
        )

    def _shut_down(self, agents: Sequence[Agent], _why: str) -> None:
        self.ended += [agent.id for agent in agents]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def scene(store: MemoryStore) -> Scene:
    return Scene(store)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        pytest.param(
            [window()], "List of machines in the maintenance window is empty", id="no-machines"
        ),
        pytest.param(
            [window({})], "Both 'hostname' and 'ip' for a machine are empty", id="nameless"
        ),
        pytest.param(
            [window(FOO, duration=-1)], "Unavailability 'duration' is negative", id="negative"
        ),
        pytest.param(
            [window(FOO), window({"hostname": "FOO", "ip": "198.18.0.2"})],
            """Machine '{"hostname":"FOO","ip":"198.18.0.2"}' appears more than once in the"""
            " schedule",
            id="twice",
        ),
        pytest.param([window({"ip": "foo"})], "Failed to parse IPv4: foo", id="no-address"),
    ],
)
async def test_schedule_is_refused_in_words(scene: Scene, windows: list[Json], words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        await scene.maintenance.update(schedule(*windows))

    assert str(caught.value) == words
    assert scene.cluster.machines == {}


async def test_schedule_tells_agents_when_they_are_unavailable(scene: Scene) -> None:
    await scene.maintenance.update(schedule(window(FOO, start=7, duration=3), window(BAR)))

    assert scene.agent.unavailability is not None
    assert plain(scene.agent.unavailability) == {
        "start": {"nanoseconds": 7},
        "duration": {"nanoseconds": 3},
    }
    assert plain(scene.maintenance.status) == {"draining_machines": [{"id": FOO}, {"id": BAR}]}

    await scene.maintenance.update(schedule())

    assert scene.agent.unavailability is None


async def test_agent_that_comes_later_hears_of_the_plan(scene: Scene) -> None:
    await scene.maintenance.update(schedule(window(BAR)))
    info = from_json(AgentInfo, {"hostname": "BAR", "id": {"value": "a2"}})
    late = Agent("a2", info, IPv4Address("198.18.0.3"), "1", Resources(), registered=0.0, heard=0.0)

    scene.cluster.add_agent(late)
    scene.cluster.bus.publish(AgentAdded("a2"))

    assert late.unavailability is not None


async def test_machine_goes_down_and_comes_up(scene: Scene) -> None:
    await scene.maintenance.update(schedule(window(FOO), window(BAR)))

    await scene.maintenance.start(ids(FOO))

    assert scene.ended == ["a1"]
    assert plain(scene.maintenance.status) == {
        "draining_machines": [{"id": BAR}],
        "down_machines": [FOO],
    }
    with pytest.raises(InvalidError, match="is deactivated and cannot be removed"):
        await scene.maintenance.update(schedule(window(BAR)))

    await scene.maintenance.stop(ids(FOO))

    assert plain(scene.cluster.schedule) == plain(schedule(window(BAR)))
    assert plain(scene.maintenance.status) == {"draining_machines": [{"id": BAR}]}


async def test_maintenance_outlives_a_leader(scene: Scene, store: MemoryStore) -> None:
    await scene.maintenance.update(schedule(window(FOO), window(BAR)))
    await scene.maintenance.start(ids(FOO))

    second = Scene(store)
    await second.maintenance.load()

    assert second.cluster.schedule == scene.cluster.schedule
    assert second.cluster.machines == scene.cluster.machines


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        pytest.param({"hostname": "nope"}, "is not part of a maintenance schedule", id="unknown"),
        pytest.param(BAR, "is not in DRAINING mode and cannot be brought down", id="down"),
        pytest.param({}, "Both 'hostname' and 'ip' for a machine are empty", id="nameless"),
    ],
)
def test_start_is_refused_in_words(machine: Json, words: str) -> None:
    machines = started(ids(BAR), machines_of(schedule(window(FOO), window(BAR)), {}))

    with pytest.raises(InvalidError, match=words):
        started(ids(machine), machines)


def test_stop_takes_only_what_is_down() -> None:
    machines = machines_of(schedule(window(FOO, BAR)), {})

    with pytest.raises(InvalidError, match="is not in DOWN mode and cannot be brought up"):
        stopped(ids(FOO), machines)
    down = started(ids(FOO), machines)
    assert [machine.mode for machine in down.values()].count(DOWN) == 1
    assert len(stopped(ids(FOO), down)) == 1


def test_schedule_loses_machines_and_empty_windows() -> None:
    before = schedule(window(FOO, BAR), window({"ip": "198.18.0.9"}))

    assert without(before, ids({"hostname": "foo", "ip": "198.18.0.2"})) == schedule(
        window(BAR), window({"ip": "198.18.0.9"})
    )
    assert without(before, ids({"ip": "198.18.0.9"})) == schedule(window(FOO, BAR))
