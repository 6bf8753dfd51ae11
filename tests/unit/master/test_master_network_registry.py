"""The network registry over a store: durable first, and the same after a restart."""

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from phalanx.core.error import ConflictError, NotFoundError, UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import Store
from phalanx.master.event import Bus, NetworkChanged
from phalanx.master.network.definition import Ground, NetworkChange, NetworkSpec
from phalanx.master.network.policy import PolicyDocument, PolicySpec
from phalanx.master.network.registry import NetworkRegistry

GROUND = Ground(IPv4Network("11.0.0.0/29"))
A1, A2 = IPv4Address("198.18.0.2"), IPv4Address("198.18.0.3")
DCOS = NetworkSpec("dcos", "9.0.0.0/8")
BLUE = NetworkSpec("blue", "10.1.0.0/23")


class FullStore(MemoryStore):
    """A store whose disk is full once *is_full*."""

    is_full = False

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        if self.is_full:
            raise UnavailableError("store: database or disk is full")
        return await super().put(key, value, version=version)


def opened(store: Store) -> NetworkRegistry:
    return NetworkRegistry(store, Bus(), ground=GROUND)


def leases(registry: NetworkRegistry, network: str) -> Mapping[str, str]:
    return {str(lease.node): str(lease.subnet) for lease in registry.leases_of(network)}


async def test_new_network_is_leased_to_every_agent_node() -> None:
    registry = opened(MemoryStore())

    await registry.create(BLUE, nodes={A2, A1})

    assert leases(registry, "blue") == {str(A1): "10.1.0.0/24", str(A2): "10.1.1.0/24"}


async def test_new_node_is_leased_a_subnet_of_every_network() -> None:
    registry = opened(MemoryStore())
    await registry.create(BLUE, nodes=())
    await registry.create(NetworkSpec("green", "10.2.0.0/16"), nodes=())

    await registry.lease_node(A1)
    await registry.lease_node(A1)

    assert leases(registry, "blue") == {str(A1): "10.1.0.0/24"}
    assert leases(registry, "green") == {str(A1): "10.2.0.0/24"}


async def test_full_network_leaves_a_node_out_and_harms_no_other() -> None:
    registry = opened(MemoryStore())
    await registry.create(BLUE, nodes=(A1, A2))
    await registry.create(NetworkSpec("green", "10.2.0.0/16"), nodes=())

    await registry.lease_node(IPv4Address("198.18.0.4"))

    assert len(leases(registry, "blue")) == 2
    assert leases(registry, "green") == {"198.18.0.4": "10.2.0.0/24"}


async def test_freed_subnet_is_leased_again() -> None:
    registry = opened(MemoryStore())
    await registry.create(BLUE, nodes=(A1, A2))

    await registry.free_node(A1)
    await registry.lease_node(IPv4Address("198.18.0.4"))

    assert leases(registry, "blue") == {str(A2): "10.1.1.0/24", "198.18.0.4": "10.1.0.0/24"}


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "registry.db")
    before = opened(store)
    await before.make_defaults([DCOS])
    await before.create(BLUE, nodes=(A1,))
    await before.book.add(PolicySpec("p", "dcos", "blue", ports="80", reason="why"))
    await before.settle_vips({"web.marathon"})
    await store.close()

    store = SqliteStore(tmp_path / "registry.db")
    after = opened(store)
    await after.load()
    await store.close()

    assert after.networks == before.networks
    assert after.subnets == before.subnets
    assert after.policies == before.policies
    assert after.vips == before.vips


class SlowStore(MemoryStore):
    """A store that has written, and says so only once *gate* is open."""

    gate: asyncio.Event | None = None

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        written = await super().put(key, value, version=version)
        if self.gate is not None:
            await self.gate.wait()
        return written

    async def remove(self, key: str) -> None:
        await super().remove(key)
        if self.gate is not None:
            await self.gate.wait()


async def settled() -> None:
    """Let everything run that has no reason to wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def hung_up(change: Coroutine[Any, Any, Any], store: SlowStore) -> None:
    """Begin *change*, stop waiting for it in the middle, and let it go on."""
    store.gate = asyncio.Event()
    changing = asyncio.ensure_future(change)
    await settled()
    changing.cancel()
    await settled()
    store.gate.set()
    await settled()


async def test_caller_that_hangs_up_leaves_memory_and_store_alike() -> None:
    store = SlowStore()
    registry = opened(store)
    await hung_up(registry.create(BLUE, nodes=(A1, A2)), store)
    assert leases(registry, "blue") == {str(A1): "10.1.0.0/24", str(A2): "10.1.1.0/24"}
    await hung_up(registry.book.add(PolicySpec("p", "blue", "blue", ports="80")), store)
    assert registry.policies.keys() == {"p"}
    await hung_up(registry.book.remove("p"), store)
    await hung_up(registry.delete("blue", lambda: []), store)

    after = opened(store)
    await after.load()

    assert registry.networks == after.networks == {}
    assert registry.policies == after.policies == {}
    assert registry.subnets == after.subnets == {}


async def test_node_that_registers_while_a_network_is_made_has_its_subnet() -> None:
    store = SlowStore()
    registry = opened(store)
    await registry.create(NetworkSpec("green", "10.2.0.0/16"), nodes=())

    store.gate = asyncio.Event()
    registering = asyncio.ensure_future(registry.lease_node(A1))
    await settled()
    creating = asyncio.ensure_future(registry.create(BLUE, nodes=()))
    await settled()
    store.gate.set()
    await asyncio.gather(registering, creating)

    assert leases(registry, "blue") == {str(A1): "10.1.0.0/24"}


async def test_leases_of_a_network_that_was_never_finished_do_not_come_back() -> None:
    store = FullStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1, A2))
    await store.remove("networks/blue")  # as if the master had been killed before its last write

    second = opened(store)
    await second.load()
    await second.create(BLUE, nodes=(A2,))
    third = opened(store)
    await third.load()

    assert leases(third, "blue") == {str(A2): "10.1.0.0/24"}


@pytest.mark.parametrize("row", [b"", b"[]", b'{"name":"blue"}', b'{"subnet":"a"}'])
async def test_rows_that_nobody_can_read_are_left_out_and_left_there(row: bytes) -> None:
    store = MemoryStore()
    before = opened(store)
    await before.load()
    await before.create(BLUE, nodes=[A1])
    await before.create(NetworkSpec("green", "10.2.0.0/16"), nodes=[A1])
    kept = dict(await store.list("subnets"))
    for key in ("networks/blue", "policies/p", "vips/v", "subnets/green@1"):
        await store.put(key, row)

    registry = opened(store)
    await registry.load()

    assert registry.networks.keys() == {"green"}
    assert leases(registry, "green") == leases(before, "green")
    assert {key: (await store.list("subnets"))[key] for key in kept} == kept
    with pytest.raises(ConflictError, match="can't be read"):
        await registry.create(BLUE, nodes=[A1])
    assert (await store.get("networks/blue")) is not None


async def test_default_networks_are_made_once_in_a_registry() -> None:
    store = MemoryStore()
    registry = opened(store)
    await registry.make_defaults([DCOS])
    await registry.delete("dcos", lambda: [])

    again = opened(store)
    await again.load()
    await again.make_defaults([DCOS])

    assert again.networks == {}


async def test_used_network_is_not_deleted_and_its_users_are_named() -> None:
    registry = opened(MemoryStore())
    await registry.create(BLUE, nodes=(A1,))
    await registry.book.add(PolicySpec("p", "blue", "blue", ports="80"))

    with pytest.raises(ConflictError, match=r"used by 2: task db\.1 of marathon, policy p"):
        await registry.delete("blue", lambda: ["task db.1 of marathon"])

    assert "blue" in registry.networks


async def test_deleted_network_takes_its_leases_along() -> None:
    store = MemoryStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))

    await registry.delete("blue", lambda: [])

    assert registry.subnets == {}
    assert await store.list("subnets") == {}
    assert await store.list("networks") == {}


async def test_what_is_not_there_is_not_found() -> None:
    registry = opened(MemoryStore())

    with pytest.raises(NotFoundError, match="no network 'blue'"):
        await registry.delete("blue", lambda: [])
    with pytest.raises(NotFoundError, match="no policy 'p'"):
        await registry.book.remove("p")


async def test_vip_keeps_its_address_while_it_is_wanted() -> None:
    registry = opened(MemoryStore())
    await registry.settle_vips({"web.marathon"})
    first = registry.vips["web.marathon"].address

    await registry.settle_vips({"web.marathon", "db.marathon"})

    assert registry.vips["web.marathon"].address == first
    assert registry.vips["db.marathon"].address != first

    await registry.settle_vips({"db.marathon"})

    assert registry.vips.keys() == {"db.marathon"}


async def test_address_that_a_task_chose_is_leased_to_no_name() -> None:
    first = opened(MemoryStore())
    await first.settle_vips({"web.marathon"})
    lease = first.vips["web.marathon"]
    assert lease.address6 is not None
    registry = opened(MemoryStore())

    await registry.settle_vips({"web.marathon"}, {lease.address, lease.address6})

    after = registry.vips["web.marathon"]
    assert after.address != lease.address
    assert after.address6 == lease.address6 + 1


async def test_full_vip_range_leaves_names_out() -> None:
    registry = opened(MemoryStore())

    await registry.settle_vips({f"v{number}.marathon" for number in range(9)})

    assert len({lease.address for lease in registry.vips.values()}) == 6


async def test_name_that_is_left_out_is_logged_once() -> None:
    registry = opened(MemoryStore())
    names = {f"v{number}.marathon" for number in range(7)}

    with structlog.testing.capture_logs() as logs:
        await registry.settle_vips(names)
        await registry.settle_vips(names)
        [left_out] = names - registry.vips.keys()
        await registry.settle_vips(names - {left_out})
        await registry.settle_vips(names)

    said = [each["vip"] for each in logs if each["event"] == "vip_refused"]
    assert said == [left_out, left_out]


async def test_full_disk_changes_nothing() -> None:
    store = FullStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))
    before = (registry.networks, registry.subnets, registry.policies, registry.vips)
    store.is_full = True

    with pytest.raises(UnavailableError, match="full"):
        await registry.create(NetworkSpec("green", "10.2.0.0/16"), nodes=(A1,))
    with pytest.raises(UnavailableError, match="full"):
        await registry.book.add(PolicySpec("p", "blue", "blue", ports="80"))
    with pytest.raises(UnavailableError, match="full"):
        await registry.lease_node(A2)
    with pytest.raises(UnavailableError, match="full"):
        await registry.settle_vips({"web.marathon"})

    assert (registry.networks, registry.subnets, registry.policies, registry.vips) == before


async def test_changes_are_told_on_the_bus() -> None:
    told: list[object] = []
    bus = Bus()
    bus.subscribe(told.append)
    registry = NetworkRegistry(MemoryStore(), bus, ground=GROUND)

    await registry.create(BLUE, nodes=())

    assert told == [NetworkChanged()]


BOTH = NetworkSpec("both", "10.3.0.0/23", subnet6="fd00:3::/64", prefix6=65)
THIRD = IPv4Address("198.18.0.4")


def leases6(registry: NetworkRegistry, network: str) -> Mapping[str, str]:
    return {str(lease.node): str(lease.subnet6) for lease in registry.leases_of(network)}


async def test_node_is_leased_a_subnet_of_each_family_as_long_as_there_is_one() -> None:
    registry = opened(MemoryStore())
    await registry.create(BOTH, nodes=(A1,))
    await registry.change("both", NetworkChange(subnet="10.2.0.0/15"), list, nodes=(A1,))
    await registry.lease_node(A2)
    await registry.lease_node(THIRD)

    assert leases(registry, "both") == {
        str(A1): "10.3.0.0/24",
        str(A2): "10.2.0.0/24",
        str(THIRD): "10.2.1.0/24",
    }
    assert leases6(registry, "both") == {
        str(A1): "fd00:3::/65",
        str(A2): "fd00:3:0:0:8000::/65",
        str(THIRD): "None",
    }


async def test_family_that_comes_is_leased_to_all_and_one_that_goes_to_none(
    tmp_path: Path,
) -> None:
    store = SqliteStore(tmp_path / "registry.db")
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1, A2))

    await registry.change("blue", NetworkChange(subnet6="fd00:3::/64"), list, nodes=(A1, A2))
    assert leases(registry, "blue") == {str(A1): "10.1.0.0/24", str(A2): "10.1.1.0/24"}
    assert leases6(registry, "blue") == {str(A1): "fd00:3::/80", str(A2): "fd00:3:0:0:1::/80"}
    with pytest.raises(ConflictError, match="subnet: network 'blue' is used by 1: task db"):
        await registry.change("blue", NetworkChange(subnet=None), lambda: ["task db"], nodes=())
    await registry.change("blue", NetworkChange(subnet=None), list, nodes=(A1, A2))
    assert leases(registry, "blue") == {str(A1): "None", str(A2): "None"}

    after = opened(store)
    await after.load()
    await store.close()
    assert after.networks == registry.networks
    assert after.subnets == registry.subnets


async def test_change_that_the_disk_has_no_room_for_changes_nothing() -> None:
    store = FullStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))
    before = (registry.networks, registry.subnets)
    store.is_full = True

    with pytest.raises(UnavailableError, match="full"):
        await registry.change("blue", NetworkChange(subnet6="fd00:3::/64"), list, nodes=(A1,))
    with pytest.raises(UnavailableError, match="full"):
        await registry.change("blue", NetworkChange(mtu=9000), list, nodes=(A1,))

    assert (registry.networks, registry.subnets) == before


class MortalStore(MemoryStore):
    """A store of a master that is killed after *last* more writes."""

    last: int | None = None

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        if self.last is not None:
            if not self.last:
                raise UnavailableError("killed")
            self.last -= 1
        return await super().put(key, value, version=version)


@pytest.mark.parametrize("writes", range(5))
@pytest.mark.parametrize(
    "change",
    [NetworkChange(subnet6="fd00:3::/64"), NetworkChange(subnet=None)],
    ids=["comes", "goes"],
)
async def test_master_killed_at_any_write_of_a_change_leaves_leases_that_fit(
    change: NetworkChange, writes: int
) -> None:
    store = MortalStore()
    registry = opened(store)
    subnet6 = "fd00:3::/64" if change.subnet is None else None
    await registry.create(NetworkSpec("blue", "10.1.0.0/23", subnet6=subnet6), nodes=(A1, A2))

    store.last = writes
    with contextlib.suppress(UnavailableError):
        await registry.change("blue", change, list, nodes=(A1, A2))
    store.last = None
    after = opened(store)
    await after.load()
    await after.lease_node(A1)
    await after.lease_node(A2)
    again = opened(store)
    await again.load()

    families = [subnet.version for subnet in after.networks["blue"].subnets]
    found = [[s.version for s in lease.subnets] for lease in after.leases_of("blue")]
    assert found == [families, families]
    assert again.subnets == after.subnets


async def test_vips_have_addresses_of_both_families_and_old_ones_get_theirs() -> None:
    store = MemoryStore()
    old = NetworkRegistry(store, Bus(), ground=Ground(vip_range6=None))
    await old.settle_vips({"web.marathon"})
    first = old.vips["web.marathon"]

    registry = NetworkRegistry(store, Bus(), ground=Ground())
    await registry.load()
    await registry.settle_vips({"web.marathon"})
    back = NetworkRegistry(store, Bus(), ground=Ground(vip_range6=None))
    await back.load()
    assert back.vips == registry.vips
    await back.settle_vips({"web.marathon"})

    second = registry.vips["web.marathon"]
    assert first.address6 is None
    assert second.address == first.address
    assert second.address6 is not None
    assert second.address6 in IPv6Network("fd01:c::/64")
    assert back.vips["web.marathon"] == first


async def test_full_ipv6_vip_range_costs_no_ipv4_address() -> None:
    ground = Ground(vip_range6=IPv6Network("fd01:c::/127"))
    registry = NetworkRegistry(MemoryStore(), Bus(), ground=ground)

    await registry.settle_vips({"a.marathon", "b.marathon"})

    assert len({lease.address for lease in registry.vips.values()}) == 2
    assert sum(lease.address6 is None for lease in registry.vips.values()) == 1


OLD, NEW = (PolicySpec(name, "dcos", "any", ports="80", reason="why") for name in ("old", "new"))
DOCUMENT = PolicyDocument((msgspec.structs.replace(OLD, reason="another"), NEW))


@pytest.mark.parametrize("writes", range(3))
async def test_a_document_is_carried_out_whole_or_not_at_all(writes: int) -> None:
    store = MortalStore()
    registry = opened(store)
    await registry.make_defaults([DCOS])
    for spec in (OLD, PolicySpec("gone", "dcos", "any", ports="80")):
        await registry.book.add(spec)
    before = registry.policies
    store.last = writes
    with pytest.raises(UnavailableError):
        await registry.book.replace(DOCUMENT)
    store.last = None

    await (successor := opened(store)).load()

    if writes == 0:
        assert successor.policies == registry.policies == before
    else:
        assert successor.policies == registry.policies
        assert {(p.name, p.reason) for p in successor.policies.values()} == {
            ("old", "another"),
            ("new", "why"),
        }


async def test_what_was_left_half_replaced_is_done_before_the_next_change() -> None:
    store = MortalStore()
    registry = opened(store)
    await registry.make_defaults([DCOS])
    await registry.book.add(OLD)
    store.last = 1
    with pytest.raises(UnavailableError):
        await registry.book.replace(DOCUMENT)
    store.last = None

    await registry.book.remove("new")

    await (successor := opened(store)).load()
    assert successor.policies == registry.policies
    assert [(p.name, p.reason) for p in successor.policies.values()] == [("old", "another")]


async def test_subnets_follow_a_node_to_another_address_and_after_a_restart() -> None:
    store = MemoryStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))

    await registry.move_node(A1, A2)
    back = opened(store)
    await back.load()

    assert leases(registry, "blue") == leases(back, "blue") == {str(A2): "10.1.0.0/24"}


@pytest.mark.parametrize("stays", [A1, A2], ids=["old-row-first", "new-row-first"])
async def test_move_that_was_ended_half_way_leases_a_subnet_once(stays: IPv4Address) -> None:
    store = MemoryStore()
    registry = opened(store)
    await registry.create(BLUE, nodes=(A1,))
    row = await store.get(f"subnets/blue@{A1}")
    assert row is not None
    await store.put(f"subnets/blue@{A2}", row.value.replace(str(A1).encode(), str(A2).encode()))
    if stays == A2:
        await store.remove(f"subnets/blue@{A1}")
        await store.put(f"subnets/blue@{A1}", row.value)

    back = opened(store)
    await back.load()
    assert leases(back, "blue") == {str(stays): "10.1.0.0/24"}
    assert list(await store.list("subnets")) == [f"subnets/blue@{stays}"]
    await back.move_node(A1, A2)

    assert leases(back, "blue") == {str(A2): "10.1.0.0/24"}
    assert list(await store.list("subnets")) == [f"subnets/blue@{A2}"]
