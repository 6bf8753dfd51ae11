"""Masters are known to each other through the store, and stay known."""

from ipaddress import IPv4Address

from phalanx.core.store.memory import MemoryStore
from phalanx.master.identity import master_info
from phalanx.master.masters import Masters

M1, M2 = IPv4Address("198.18.0.11"), IPv4Address("198.18.1.12")


async def test_a_master_that_joins_is_news_once() -> None:
    store = MemoryStore()
    masters = Masters(store)
    await masters.join(M1, master_info("one", M1, 5050, "m1"))

    assert await masters.load()
    assert not await masters.load()

    await Masters(store).join(M2, master_info("two", M2, 5050, "m2"))

    assert await masters.load()
    assert {address: info.hostname for address, info in masters.known.items()} == {
        M1: "m1",
        M2: "m2",
    }


async def test_a_master_that_comes_back_replaces_what_it_was() -> None:
    masters = Masters(MemoryStore())
    await masters.join(M1, master_info("one", M1, 5050, "m1"))
    await masters.load()

    await masters.join(M1, master_info("another", M1, 5050, "m1"))

    assert await masters.load()
    assert masters.known[M1].id == "another"


async def test_rows_that_nobody_can_read_are_left_out() -> None:
    store = MemoryStore()
    await store.put("masters/nowhere", b"{}")
    await store.put(f"masters/{M2}", b"\x00")
    masters = Masters(store)
    await masters.join(M1, master_info("one", M1, 5050, "m1"))

    assert await masters.load()
    assert masters.known.keys() == {M1}
    assert not await masters.load()
