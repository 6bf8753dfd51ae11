"""A Store in one SQLite file, for a single master without ZooKeeper."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from phalanx.core.error import ConfigError, UnavailableError
from phalanx.core.store.group import Change, GroupCommit, Outcome
from phalanx.core.store.store import ABSENT, Stored, conflict

T = TypeVar("T")

SCHEMA = """
create table if not exists entry (
    key text primary key, value blob not null, version integer not null
) without rowid
"""


class SqliteStore:
    """A Store in a file: write-ahead log, every commit synced, and nobody else in the file.

    SQLite blocks, so its calls run in one thread of their own, in order.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises ConfigError when it can't be used."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._group = GroupCommit(self._commit)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=1, check_same_thread=False)
            self._db.isolation_level = None
            self._db.execute("pragma locking_mode = exclusive")
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma synchronous = full")
            self._db.execute(SCHEMA)
            self._db.execute("select count(*) from entry").fetchone()
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"work_dir: {path}: {error}") from error

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""

        def ask() -> Stored | None:
            row = self._db.execute(
                "select value, version from entry where key = ?", (key,)
            ).fetchone()
            return Stored(*row) if row else None

        return await self._call(ask)

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""

        def ask() -> Mapping[str, Stored]:
            rows = self._db.execute(
                "select key, value, version from entry where key >= ? and key < ? order by key",
                (f"{prefix}/", f"{prefix}0"),  # "0" is the character after "/"
            )
            return {key: Stored(value, version) for key, value, version in rows}

        return await self._call(ask)

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        return await self._group.submit(Change(key, value, version))

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there."""
        await self._group.submit(Change(key, None))

    async def close(self) -> None:
        """Close the file."""
        await self._group.drain()
        await self._call(self._db.close)
        self._thread.shutdown()

    async def _commit(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        def write() -> Sequence[Outcome]:
            with self._db:
                self._db.execute("begin immediate")
                return [self._change(change) for change in batch]

        return await self._call(write)

    def _change(self, change: Change) -> Outcome:
        """Make one change inside a transaction."""
        key, value, version = change.key, change.value, change.version
        row = self._db.execute("select version from entry where key = ?", (key,)).fetchone()
        current = int(row[0]) if row else ABSENT
        if version is not None and version != current:
            return conflict(key, current, version)
        if value is None:
            self._db.execute("delete from entry where key = ?", (key,))
            return ABSENT
        self._db.execute(
            "insert into entry values (?, ?, ?) on conflict (key)"
            " do update set value = excluded.value, version = excluded.version",
            (key, value, current + 1),
        )
        return current + 1

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function)
        except sqlite3.Error as error:
            raise UnavailableError(f"store: {error}") from error
