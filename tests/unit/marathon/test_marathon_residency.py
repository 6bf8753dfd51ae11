"""Apps with persistent volumes: reserved once, used again, kept while stopped, freed when wiped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from tests.unit.marathon.conftest import make_offer

from phalanx.marathon.engine import offers
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import Accept, Event, Offers

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from tests.unit.marathon.conftest import FakeMaster, Marathon

    Start = Callable[[], AbstractAsyncContextManager[Marathon]]

VOLUME = {"containerPath": "data", "mode": "RW", "persistent": {"size": 100}}
APP: dict[str, Any] = {
    "id": "/prod/db",
    "cmd": "x",
    "cpus": 0.5,
    "mem": 64,
    "role": "prod",
    "backoffSeconds": 0,
    "container": {"type": "MESOS", "volumes": [VOLUME]},
}


def offer_of(*resources: mesos.Resource, hostname: str = "a1") -> Event:
    plain = make_offer(hostname, role="prod")
    offer = msgspec.structs.replace(plain, resources=(*resources, *plain.resources))
    return Event(type="OFFERS", offers=Offers(offers=(offer,)))


def reserved(accept: Accept | None) -> tuple[mesos.Resource, ...]:
    """Return what an agent offers after it has carried out a RESERVE and a CREATE."""
    assert accept is not None
    reserve, create = accept.operations
    assert reserve.reserve is not None
    assert create.create is not None
    whole = Resources.of(reserve.reserve.resources)
    volumes = Resources.of(create.create.volumes)
    [(volume, size)] = volumes.items()
    plain = msgspec.structs.replace(create.create.volumes[0], disk=None)
    left = (whole - Resources.of([plain])) + Resources({volume: size})
    return left.messages(role="prod")


async def start_resident(master: FakeMaster, *, seen: int = 0) -> tuple[Any, Any]:
    """Follow an app from its REVIVE to its running task; return the task and what is reserved."""
    await master.next("REVIVE", seen=seen)
    await master.send(offer_of())
    accept = (await master.next("ACCEPT")).accept
    assert accept is not None
    assert [operation.type for operation in accept.operations] == ["RESERVE", "CREATE"]
    assert accept.filters == mesos.Filters(refuse_seconds=0.0)
    kept = reserved(accept)
    await master.send(offer_of(*kept))
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING")
    return task, kept


async def test_volume_is_reserved_then_used_by_every_incarnation(
    marathon: Marathon, master: FakeMaster
) -> None:
    status, answer = await marathon.ask("POST", "/v2/apps", APP)
    assert status == 201, answer
    task, kept = await start_resident(master)
    volumes = Resources.of(task.resources).volumes
    answer = await marathon.until("/v2/apps/prod/db/tasks", lambda a: a["tasks"][0]["localVolumes"])

    seen = len(master.of("REVIVE"))
    await master.update(task, "TASK_FAILED")
    await master.next("REVIVE", seen=seen)
    await master.send(offer_of(hostname="elsewhere"))
    await master.next("DECLINE")
    await master.send(offer_of(*kept))
    again = (await master.tasks(2))[1]

    [(volume, size)] = volumes.items()
    assert (size, volume.disk.volume.container_path) == (100_000, "data")  # type: ignore[union-attr]  # it has one
    [local] = answer["tasks"][0]["localVolumes"]
    assert local["persistenceId"] == volume.volume
    assert Resources.of(again.resources).volumes == volumes
    assert again.task_id != task.task_id
    assert again.agent_id == task.agent_id


async def test_scaled_down_keeps_its_volume_and_wiped_frees_it(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask("POST", "/v2/apps", APP)
    task, kept = await start_resident(master)
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    await marathon.ask("PUT", "/v2/apps/prod/db", {"instances": 0})
    await master.next("KILL")
    await master.update(task, "TASK_KILLED")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    revived = len(master.of("REVIVE"))
    await marathon.ask("PUT", "/v2/apps/prod/db", {"instances": 1})
    await master.next("REVIVE", seen=revived)
    await master.send(offer_of(*kept))
    again = (await master.tasks(2))[1]
    await master.update(again, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    seen = len(master.of("ACCEPT"))
    revived = len(master.of("REVIVE"))

    await marathon.ask("DELETE", "/v2/apps/prod/db/tasks?wipe=true")
    await master.next("KILL", seen=1)
    await master.update(again, "TASK_KILLED")
    await master.next("REVIVE", seen=revived)
    await master.send(offer_of(*kept))
    accept = (await master.next("ACCEPT", seen=seen)).accept

    assert accept is not None
    destroy, unreserve, reserve, _ = accept.operations
    assert destroy.destroy is not None
    assert unreserve.unreserve is not None
    assert Resources.of(destroy.destroy.volumes) == Resources.of(kept).volumes
    freed = Resources.of(unreserve.unreserve.resources)
    assert freed.scalars == {"cpus": 500, "mem": 64_000, "disk": 100_000}
    assert reserve.type == "RESERVE"


async def test_reservation_without_its_volume_is_freed_and_made_anew(
    marathon: Marathon, master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "RESERVATION_SECONDS", 0.0)
    await marathon.ask("POST", "/v2/apps", APP)
    await master.next("REVIVE")
    await master.send(offer_of())
    first = (await master.next("ACCEPT")).accept
    assert first is not None
    assert first.operations[0].reserve is not None
    plain = Resources.of(first.operations[0].reserve.resources)

    await master.send(offer_of(*plain.messages(role="prod")))  # the CREATE failed
    second = (await master.next("ACCEPT", seen=1)).accept
    assert second is not None
    unreserve, *anew = second.operations
    await master.send(offer_of(*reserved(msgspec.structs.replace(second, operations=tuple(anew)))))
    [task] = await master.tasks(1)

    assert unreserve.unreserve is not None
    assert Resources.of(unreserve.unreserve.resources) == plain
    assert [operation.type for operation in anew] == ["RESERVE", "CREATE"]
    assert Resources.of(task.resources).volumes.scalars == {"disk": 100_000}


async def test_reservation_that_shows_in_parts_is_kept(
    marathon: Marathon, master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "RESERVATION_SECONDS", 0.0)
    await marathon.ask("POST", "/v2/apps", APP)
    await master.next("REVIVE")
    await master.send(offer_of())
    kept = reserved((await master.next("ACCEPT")).accept)
    whole = Resources.of(kept)
    halves = (whole.volumes, whole - whole.volumes)
    shown = [offer_of(*half.messages(role="prod")).offers for half in halves]

    both = tuple(offer for event in shown if event is not None for offer in event.offers)
    await master.send(Event(type="OFFERS", offers=Offers(offers=both)))
    decline = (await master.next("DECLINE")).decline
    await master.send(offer_of(*kept))
    [task] = await master.tasks(1)

    assert decline is not None
    assert len(decline.offer_ids) == 2
    assert Resources.of(task.resources).volumes == whole.volumes


async def test_restart_knows_what_is_reserved(master: FakeMaster, start: Start) -> None:
    async with start() as marathon:
        await master.subscribed()
        await marathon.ask("POST", "/v2/apps", APP)
        await master.next("REVIVE")
        await master.send(offer_of())
        kept = reserved((await master.next("ACCEPT")).accept)

    async with start():
        await master.next("REVIVE", seen=1)
        await master.send(offer_of(*kept))
        [task] = await master.tasks(1)

    assert Resources.of(task.resources).volumes == Resources.of(kept).volumes


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"role": "*"}, "/role"),
        ({"upgradeStrategy": {"maximumOverCapacity": 0.5}}, "/upgradeStrategy/maximumOverCapacity"),
        ({"container": {"volumes": [{**VOLUME, "mode": "RO"}]}}, "/container/volumes(0)/mode"),
        ({"container": {"volumes": [{**VOLUME, "containerPath": "/x"}]}},
         "/container/volumes(0)/containerPath"),
        ({"container": {"volumes": [{**VOLUME, "persistent": {"size": 0}}]}},
         "/container/volumes(0)/persistent/size"),
    ],
)  # fmt: skip
async def test_bad_volume_is_refused(marathon: Marathon, more: dict[str, Any], path: str) -> None:
    status, answer = await marathon.ask("POST", "/v2/apps", {**APP, **more})

    assert status == 422
    assert path in [detail["path"] for detail in answer["details"]]


async def test_what_is_reserved_can_not_be_changed(marathon: Marathon) -> None:
    await marathon.ask("POST", "/v2/apps", APP)

    status, answer = await marathon.ask("PUT", "/v2/apps/prod/db?force=true", {"cpus": 1})

    assert (status, "/prod/db" in answer["message"]) == (422, True)
