"""Values that are too long for one row of a store."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import pytest
from tests.unit.core.conftest import zookeeper  # noqa: F401 - a fixture: a real server

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.store import Store, Stored
from phalanx.core.zookeeper.session import ZooKeeper
from phalanx.core.zookeeper.store import ZooKeeperStore
from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.ledger.long import LEAST_COMPRESSED, PART_BYTES, LongStore
from phalanx.marathon.model.deployment import Action, ActionKind, Change, Deployment
from phalanx.marathon.schedule.planning import stamped

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS = b"x" * LEAST_COMPRESSED
NOISE = random.Random(7).randbytes(3 * PART_BYTES)
VERSION = "2021-01-01T00:00:00.000Z"


class Failing(MemoryStore):
    """A store that is full from some put on."""

    def __init__(self, puts: int) -> None:
        super().__init__()
        self.puts = puts

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        if self.puts == 0:
            raise UnavailableError("full")
        self.puts -= 1
        return await super().put(key, value, version=version)


async def rows(store: Store, *prefixes: str) -> Mapping[str, Stored]:
    """Return all that is under the prefixes."""
    return {key: row for prefix in prefixes for key, row in (await store.list(prefix)).items()}


@pytest.mark.parametrize("value", [b"{}", WORDS, NOISE], ids=["short", "long", "in parts"])
async def test_what_was_put_is_there(value: bytes) -> None:
    below = MemoryStore()
    store = LongStore(below)

    assert await store.put("a/b", value) == 1
    again = LongStore(below)

    assert await again.get("a/b") == Stored(value, 1)
    assert await again.list("a") == {"a/b": Stored(value, 1)}
    assert all(len(row.value) <= PART_BYTES for row in (await rows(below, "a", "parts")).values())


@pytest.mark.parametrize("after", [b"{}", WORDS, NOISE[::-1]], ids=["short", "long", "in parts"])
async def test_parts_go_with_what_they_are_of(after: bytes) -> None:
    below = MemoryStore()
    store = LongStore(below)
    await store.put("a/b", NOISE)
    parts = (await below.list("parts")).keys()

    await store.put("a/b", after)

    assert await store.get("a/b") == Stored(after, 2)
    assert not (await below.list("parts")).keys() & parts
    await store.remove("a/b")
    assert await rows(below, "a", "parts") == {}


@pytest.mark.parametrize("puts", range(4))
async def test_a_put_that_fails_leaves_the_value_before(puts: int) -> None:
    below = Failing(100)
    await LongStore(below).put("a/b", NOISE)
    below.puts = puts

    with pytest.raises(UnavailableError, match="full"):
        await LongStore(below).put("a/b", NOISE[::-1])
    below.puts = 100
    again = LongStore(below)

    assert await again.get("a/b") == Stored(NOISE, 1)
    await again.tidy([])
    assert len(await below.list("parts")) == 4
    assert await again.get("a/b") == Stored(NOISE, 1)


async def test_parts_of_what_nobody_has_listed_stay() -> None:
    below = MemoryStore()
    await LongStore(below).put("versions/a/1", NOISE)
    await below.put("parts/stray/0", b"x")

    again = LongStore(below)
    await again.tidy(["versions"])

    assert await again.get("versions/a/1") == Stored(NOISE, 1)
    assert "parts/stray/0" not in await below.list("parts")


async def test_a_value_whose_part_is_gone_is_named() -> None:
    below = MemoryStore()
    await LongStore(below).put("a/b", NOISE)
    await below.remove(sorted(await below.list("parts"))[1])

    with pytest.raises(UnavailableError, match="a/b can't be read"):
        await LongStore(below).get("a/b")


def deployment_of(count: int) -> Deployment:
    """Return a deployment of so many apps, about 6 KiB of JSON each."""
    noise = random.Random(7)
    changes = []
    for number in range(count):
        raw: dict[str, Any] = {"id": f"/g/a{number}", "cmd": noise.randbytes(2500).hex()}
        changes.append(Change(raw["id"], None, stamped(None, parse_app(raw), VERSION)))
    actions = tuple(Action(ActionKind.SCALE, change.app_id) for change in changes)
    return Deployment(id="d", version=VERSION, changes=tuple(changes), steps=(actions,))


async def test_a_deployment_of_megabytes_is_kept_in_zookeeper(
    zookeeper: str,  # noqa: F811 - the fixture above
) -> None:
    plan = deployment_of(1000)
    address = ZooKeeperAddress(zookeeper, "/marathon")
    assert len(msgspec.json.encode(plan)) > 5_000_000
    async with ZooKeeper(address) as session:
        path = f"/{uuid4()}"
        ledger = Ledger(ZooKeeperStore(session, path))
        await ledger.load()
        await ledger.put_deployment(plan, is_new=True)

        again = Ledger(ZooKeeperStore(session, path))
        await again.load()

        assert again.deployments == {"d": plan}
        assert again.apps == {change.app_id: change.after for change in plan.changes}
        await again.remove_deployment("d")
        [past] = again.history
        assert len(past.apps) == 1000
