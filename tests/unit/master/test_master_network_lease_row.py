"""Rows that a change left half done: none outlives the next change, no lease the next load."""

import contextlib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
import structlog

from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.store import Store
from phalanx.master.event import Bus
from phalanx.master.network.definition import Ground, NetworkChange, NetworkSpec
from phalanx.master.network.lease import fitting_lease
from phalanx.master.network.policy import PolicyDocument, PolicySpec
from phalanx.master.network.registry import NetworkRegistry

GROUND = Ground(IPv4Network("11.0.0.0/29"))
A1, A2, A3 = (IPv4Address(f"198.18.0.{number}") for number in (2, 3, 4))
BLUE = NetworkSpec("blue", "10.1.0.0/22")
GREEN = NetworkSpec("green", "10.2.0.0/16")
POLICY = PolicySpec("p", "blue", "blue", ports="80")


class FailingStore(MemoryStore):
    """A store that fails after *last* more changes, until *last* is None again.

    With *is_late* the first change that fails was made: its answer got lost.
    """

    last: int | None = None
    is_late = False

    def _passes(self) -> bool:
        """Tell whether the next change is made; raise if it is refused."""
        if self.last is None:
            return True
        self.last -= 1
        if self.last >= 0:
            return True
        if self.is_late and self.last == -1:
            return False
        raise UnavailableError("store: database or disk is full")

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        passes = self._passes()
        written = await super().put(key, value, version=version)
        if not passes:
            raise UnavailableError("store: connection lost")
        return written

    async def remove(self, key: str) -> None:
        passes = self._passes()
        await super().remove(key)
        if not passes:
            raise UnavailableError("store: connection lost")


def opened(store: Store) -> NetworkRegistry:
    return NetworkRegistry(store, Bus(), ground=GROUND)


def leases(registry: NetworkRegistry) -> Mapping[str, str]:
    return {
        f"{lease.network}@{lease.node}": " ".join(map(str, lease.subnets))
        for lease in registry.subnets.values()
    }


async def rows(store: Store) -> Mapping[str, str]:
    """Return the subnets in the store by the name of their row."""
    found = {
        key.removeprefix("subnets/"): msgspec.json.decode(row.value)
        for key, row in (await store.list("subnets")).items()
    }
    return {
        name: " ".join(filter(None, (row["subnet"], row["subnet6"]))) for name, row in found.items()
    }


async def contents(store: Store) -> Mapping[str, bytes]:
    """Return all that the store holds."""
    kinds = ("networks", "subnets", "policies", "intents")
    return {key: row.value for kind in kinds for key, row in (await store.list(kind)).items()}


async def test_rows_of_a_network_that_is_not_there_cost_no_live_lease() -> None:
    store = MemoryStore()
    stray = opened(store)
    await stray.create(NetworkSpec("alpha", BLUE.subnet), nodes=(A1, A2))
    left = await store.list("subnets")
    await stray.delete("alpha", list)
    await (registry := opened(store)).create(BLUE, nodes=(A1,))
    kept = await store.list("subnets")
    for key in kept:
        await store.remove(key)
    for key, row in {**left, **kept}.items():  # alpha's come first
        await store.put(key, row.value)

    await (after := opened(store)).load()

    assert leases(after) == leases(registry) == {f"blue@{A1}": "10.1.0.0/24"}
    assert await rows(store) == leases(after)


@pytest.mark.parametrize("is_late", [False, True], ids=["refused", "answer-lost"])
async def test_creation_that_fails_leaves_no_row_to_what_is_made_after(is_late: bool) -> None:
    store = FailingStore()
    registry = opened(store)
    store.last, store.is_late = 1, is_late
    with pytest.raises(UnavailableError):
        await registry.create(BLUE, nodes=(A1, A2))
    store.last = None

    await registry.create(GREEN, nodes=(A2,))
    assert await rows(store) == leases(registry) == {f"green@{A2}": "10.2.0.0/24"}
    await registry.create(BLUE, nodes=(A2, A3))

    assert await rows(store) == leases(registry)


@pytest.mark.parametrize("is_late", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("changes", range(4))
async def test_move_that_fails_changes_nothing_and_a_later_one_leaves_no_row(
    changes: int, is_late: bool
) -> None:
    store = FailingStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A3, A2))
    await registry.create(GREEN, nodes=(A3,))
    before = leases(registry)
    store.last, store.is_late = changes, is_late
    with pytest.raises(UnavailableError):
        await registry.move_node(A3, A1)
    store.last = None
    assert leases(registry) == before

    await registry.move_node(A3, A2)

    assert leases(registry) == {f"blue@{A2}": before[f"blue@{A3}"], f"green@{A2}": "10.2.0.0/24"}
    assert await rows(store) == leases(registry)


@pytest.mark.parametrize("changes", range(4))
async def test_node_freed_after_a_move_that_was_killed_frees_its_subnet(changes: int) -> None:
    store = FailingStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A2,))
    await registry.create(GREEN, nodes=(A2,))
    store.last = changes
    with pytest.raises(UnavailableError):
        await registry.move_node(A2, A1)
    store.last = None

    await (after := opened(store)).load()
    assert sorted(leases(after).values()) == ["10.1.0.0/24", "10.2.0.0/24"]
    assert await rows(store) == leases(after)
    await after.move_node(A2, A1)
    await after.free_node(A1)

    assert await rows(store) == leases(after) == {}


@pytest.mark.parametrize("is_late", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("changes", range(6))
@pytest.mark.parametrize("change", ["delete", "free", "lease", "grow", "shrink"])
async def test_rows_are_as_remembered_after_the_change_that_follows_a_failed_one(
    change: str, changes: int, is_late: bool
) -> None:
    store = FailingStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1, A2))
    await registry.create(NetworkSpec("both", "10.3.0.0/16", subnet6="fd00:3::/64"), nodes=(A1,))
    store.last, store.is_late = changes, is_late
    with contextlib.suppress(UnavailableError):
        match change:
            case "delete":
                await registry.delete("blue", list)
            case "free":
                await registry.free_node(A1)
            case "lease":
                await registry.lease_node(A3)
            case "grow":
                wide = NetworkChange(subnet6="fd00:1::/64")
                await registry.change("blue", wide, list, nodes=(A1, A2, A3))
            case "shrink":
                await registry.change("both", NetworkChange(subnet6=None), list, nodes=())
    store.last = None

    await registry.create(GREEN, nodes=(A3,))
    assert await rows(store) == leases(registry)
    await (after := opened(store)).load()
    assert after.subnets == {
        key: fitting_lease(after.networks[lease.network], lease)
        for key, lease in registry.subnets.items()
        if lease.network in after.networks
    }


@pytest.mark.parametrize("homes", [(A1,), (A3,)], ids=["back-where-it-was", "moved"])
async def test_lease_whose_move_was_killed_stays_where_its_agent_is_known(
    homes: tuple[IPv4Address, ...],
) -> None:
    store = FailingStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A3,))
    [before] = leases(registry).values()
    store.last = 1  # the new row is there, the old one is not erased
    with pytest.raises(UnavailableError):
        await registry.move_node(A3, A1)
    store.last = None

    await (after := opened(store)).load(homes)

    assert await rows(store) == leases(after) == {f"blue@{homes[0]}": before}


@pytest.mark.parametrize("change", ["create", "change", "delete", "add", "put", "replace", "drop"])
async def test_change_that_was_refused_as_its_answer_got_lost_is_taken_back(change: str) -> None:
    store = FailingStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))
    await registry.create(NetworkSpec("gray", "10.9.0.0/16"), nodes=())
    await registry.book.add(POLICY)
    before = await contents(store)
    store.is_late, store.last = True, 1 if change == "create" else 0  # a lease comes before
    more = msgspec.structs.replace(POLICY, name="more")
    changed = msgspec.structs.replace(POLICY, ports="81")
    with contextlib.suppress(UnavailableError):
        match change:
            case "create":
                await registry.create(GREEN, nodes=(A1,))
            case "change":
                await registry.change("blue", NetworkChange(mtu=1300), list, nodes=())
            case "delete":
                await registry.delete("gray", list)
            case "add":
                await registry.book.add(more)
            case "put":
                await registry.book.put(changed)
            case "replace":
                await registry.book.replace(PolicyDocument((more,)))
            case "drop":
                await registry.book.remove(POLICY.name)
    store.last = None
    assert await contents(store) != before

    await registry.settle()

    assert await contents(store) == before


async def test_full_disk_keeps_no_master_from_reading_past_a_stray_row() -> None:
    store = FailingStore()
    await opened(store).create(BLUE, nodes=(A1,))
    await store.remove("networks/blue")
    store.last = 0
    registry = opened(store)

    with structlog.testing.capture_logs() as logs:
        await registry.load()

    assert leases(registry) == {}
    assert [each["event"] for each in logs] == ["lease_rows_left"]
    store.last = None
    await registry.create(GREEN, nodes=(A1,))
    assert await rows(store) == leases(registry) == {f"green@{A1}": "10.2.0.0/24"}
