"""One contract for every store that a test machine can hold."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.error import ConfigError, ConflictError, InvalidError, UnavailableError
from phalanx.core.store.group import MOST_CHANGES, Change, GroupCommit, Outcome
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import ABSENT, Store, Stored
from phalanx.core.zookeeper.election import ZooKeeperElection
from phalanx.core.zookeeper.many import GetMany, ListMany
from phalanx.core.zookeeper.session import ZooKeeper
from phalanx.core.zookeeper.store import ZooKeeperStore


@pytest.fixture(params=["memory", "sqlite", "zookeeper"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "zookeeper":
        hosts = request.getfixturevalue("zookeeper")
        async with ZooKeeper(ZooKeeperAddress(hosts, "/x")) as session:
            yield ZooKeeperStore(session, f"/{uuid4()}")
        return
    opened: Store = (
        MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "registry.db")
    )
    yield opened
    await opened.close()


async def test_what_was_put_is_there(store: Store) -> None:
    assert await store.get("a/b") is None

    assert await store.put("a/b", b"1") == 1
    assert await store.put("a/b", b"2") == 2

    assert await store.get("a/b") == Stored(b"2", 2)


async def test_put_with_another_version_is_refused_and_changes_nothing(store: Store) -> None:
    await store.put("a", b"1")

    for version in (ABSENT, 2):
        with pytest.raises(ConflictError, match=f"version is 1, not {version}"):
            await store.put("a", b"2", version=version)

    assert await store.get("a") == Stored(b"1", 1)


async def test_put_with_the_right_version_succeeds(store: Store) -> None:
    version = await store.put("a", b"1", version=ABSENT)

    assert await store.put("a", b"2", version=version) == version + 1


async def test_list_gives_what_is_below_and_nothing_beside(store: Store) -> None:
    for key in ("net/a", "net/b", "net", "nets/c", "net-x/d"):
        await store.put(key, key.encode())

    assert {key: row.value for key, row in (await store.list("net")).items()} == {
        "net/a": b"net/a",
        "net/b": b"net/b",
    }


async def test_list_gives_everything_below_however_much_and_deep_it_is(store: Store) -> None:
    keys = [f"all/{n % 7}/{n}" for n in range(600)] + [f"all/{n}" for n in range(3, 9)]
    await asyncio.gather(*(store.put(key, key.encode()) for key in keys))
    await store.put("all/0/0/deep/er", b"")

    found = await store.list("all")

    assert {key: row.value for key, row in found.items()} == {
        **{key: key.encode() for key in keys},
        "all/0/0/deep/er": b"",
    }


async def test_what_goes_while_a_list_is_read_is_in_it_or_not(store: Store) -> None:
    keys = [f"all/{n:03}" for n in range(300)]
    await asyncio.gather(*(store.put(key, key.encode()) for key in keys))

    listing = asyncio.gather(*(store.list("all") for _ in range(3)))
    await asyncio.gather(*(store.remove(key) for key in keys[::2]))

    for found in await listing:
        assert {*keys[1::2]} <= found.keys() <= {*keys}
        assert all(row.value == key.encode() for key, row in found.items())


async def test_servers_that_read_one_node_at_a_time_do_too(
    zookeeper: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (GetMany, ListMany):
        monkeypatch.setattr(kind, "type", 99)  # which no server knows, as old ones do not 22
    async with ZooKeeper(ZooKeeperAddress(zookeeper, "/x")) as session:
        store = ZooKeeperStore(session, f"/{uuid4()}")
        keys = [f"all/{n % 3}/{n}" for n in range(80)]
        await asyncio.gather(*(store.put(key, key.encode()) for key in keys))

        assert not session.reads_many
        assert (await store.list("all")).keys() == {*keys}
        assert await store.list("none") == {}


async def test_removed_is_gone_and_removing_again_is_nothing(store: Store) -> None:
    await store.put("a", b"1")
    await store.remove("a")
    await store.remove("a")

    assert await store.get("a") is None


async def test_sqlite_keeps_across_a_restart(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "x.db")
    await first.put("a", b"1")
    await first.close()

    second = SqliteStore(tmp_path / "x.db")

    assert await second.get("a") == Stored(b"1", 1)
    await second.close()


def test_a_path_that_cannot_be_a_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(ConfigError, match=r"file/x\.db"):
        SqliteStore(tmp_path / "file" / "x.db")


async def test_many_puts_at_once_are_all_made_in_their_order(store: Store) -> None:
    keys = [f"a/{number}" for number in range(MOST_CHANGES + 50)]

    versions = await asyncio.gather(
        *(store.put(key, b"1") for key in keys), *(store.put(key, b"2") for key in keys[:3])
    )

    assert versions == [1] * len(keys) + [2] * 3
    rows = await store.list("a")
    assert len(rows) == len(keys)
    assert [rows[key].value for key in keys[:4]] == [b"2", b"2", b"2", b"1"]


async def test_a_refused_put_does_not_hold_up_its_neighbours(store: Store) -> None:
    await store.put("a", b"1")

    refused, made, gone = await asyncio.gather(
        store.put("a", b"2", version=ABSENT),
        store.put("b", b"1"),
        store.remove("c"),
        return_exceptions=True,
    )

    assert isinstance(refused, ConflictError)
    assert (made, gone) == (1, None)
    assert await store.get("a") == Stored(b"1", 1)


async def test_a_key_can_be_both_value_and_parent(store: Store) -> None:
    await store.put("a/b", b"below")
    await store.put("a", b"above")
    await store.remove("a")

    assert await store.get("a") is None
    assert await store.get("a/b") == Stored(b"below", 1)


async def test_a_caller_who_stops_waiting_stops_nothing(store: Store) -> None:
    waiting = asyncio.ensure_future(store.put("a", b"1"))
    await asyncio.sleep(0)
    waiting.cancel()

    await store.put("b", b"1")

    assert await store.get("a") == Stored(b"1", 1)


async def test_what_a_write_raises_reaches_everybody_in_it_and_nobody_else() -> None:
    batches: list[Sequence[Change]] = []

    async def write(batch: Sequence[Change]) -> Sequence[Outcome]:
        batches.append(batch)
        await asyncio.sleep(0)
        if len(batches) == 1:
            raise UnavailableError("full")
        return [1 for _ in batch]

    group = GroupCommit(write)
    first = asyncio.ensure_future(group.submit(Change("a", b"")))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(group.submit(Change("b", b"")))

    with pytest.raises(UnavailableError, match="full"):
        await first
    assert await second == 1
    assert [len(batch) for batch in batches] == [1, 1]


async def test_sqlite_lets_nobody_else_into_its_file(tmp_path: Path) -> None:
    first = SqliteStore(tmp_path / "x.db")

    with pytest.raises(ConfigError, match="locked"):
        SqliteStore(tmp_path / "x.db")

    await first.close()


async def test_a_deposed_leader_cannot_write(zookeeper: str) -> None:
    address = ZooKeeperAddress(zookeeper, f"/{uuid4()}")
    async with ZooKeeper(address) as old, ZooKeeper(address) as new:
        election = ZooKeeperElection(old)
        assert await anext(election.watch(b"old")) == b"old"
        assert election.node is not None
        store = ZooKeeperStore(old, f"{address.path}/registry")
        fenced = store.fenced_by(election.node)
        await fenced.put("a", b"1")

        await new.ask(lambda: new.client.delete_async(election.node))

        for write in (fenced.put("a", b"2"), fenced.put("b", b"1"), fenced.remove("a")):
            with pytest.raises(UnavailableError, match="leads no more"):
                await write
        assert await store.get("a") == Stored(b"1", 1)
        assert await store.get("b") is None


async def test_a_leader_finds_what_others_did_below_its_path_after_all(zookeeper: str) -> None:
    path = f"/{uuid4()}"
    async with ZooKeeper(ZooKeeperAddress(zookeeper, path)) as session:
        election = ZooKeeperElection(session)
        assert await anext(election.watch(b"me")) == b"me"
        assert election.node is not None
        store = ZooKeeperStore(session, f"{path}/registry")
        fenced = store.fenced_by(election.node)
        await fenced.put("a", b"1")
        await fenced.put("b", b"1")
        await store.put("a", b"2")
        await store.remove("b")

        assert await fenced.put("a", b"3") == 3
        assert await fenced.put("b", b"2") == 1
        await fenced.put("a/below", b"1")
        await fenced.remove("a")
        await fenced.put("a", b"4")

        found = [await store.get(key) for key in ("a", "a/below", "b")]
        assert [row and row.value for row in found] == [b"4", b"1", b"2"]


async def test_what_is_too_big_for_zookeeper_is_refused(zookeeper: str) -> None:
    async with ZooKeeper(ZooKeeperAddress(zookeeper, "/x")) as session:
        store = ZooKeeperStore(session, f"/{uuid4()}")

        with pytest.raises(InvalidError, match="a: 1000000 bytes are more than"):
            await store.put("a", bytes(1_000_000))
        await store.put("a", bytes(800_000))


async def test_credentials_keep_others_from_writing_not_from_reading(zookeeper: str) -> None:
    path = f"/{uuid4()}"
    async with (
        ZooKeeper(ZooKeeperAddress(zookeeper, path, "user:secret")) as ours,
        ZooKeeper(ZooKeeperAddress(zookeeper, path)) as theirs,
    ):
        await ZooKeeperStore(ours, f"{path}/registry").put("a", b"1")
        stranger = ZooKeeperStore(theirs, f"{path}/registry")

        assert await stranger.get("a") == Stored(b"1", 1)
        with pytest.raises(UnavailableError, match="zookeeper"):
            await stranger.put("a", b"2")
