"""One contract for every store that a test machine can hold."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.error import ConfigError, ConflictError
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import ABSENT, Store, Stored
from phalanx.core.zookeeper import ZooKeeperStore


@pytest.fixture(params=["memory", "sqlite", "zookeeper"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "zookeeper":
        hosts = request.getfixturevalue("zookeeper")
        async with ZooKeeperStore(hosts, f"/{uuid4()}") as kept:
            yield kept
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
