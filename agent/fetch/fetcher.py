"""The fetcher: brings a command's URIs into its sandbox, some of them by way of a cache."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog

from phalanx.agent.bundle.spec import User
from phalanx.agent.exec import run_worker
from phalanx.agent.fetch.plan import Item, plan
from phalanx.agent.fetch.shelf import Held, Key, Shelf
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import URI

log = structlog.get_logger()

WORKER = Path(__file__).with_name("worker.py")
WORKERS = 8  # fetching at a time


@dataclass(frozen=True, slots=True)
class FetchWays:
    """How this agent fetches, as its settings say."""

    cache: Path
    cache_bytes: int = 2 * 1024**3
    stall_seconds: float = 60.0
    frameworks_home: str | None = None


class Fetcher:
    """Fetches for containers; a URI that is cached comes once, however many ask for it."""

    def __init__(self, ways: FetchWays) -> None:
        self._ways = ways
        self._shelf = Shelf(ways.cache_bytes)
        self._locks: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(WORKERS)

    @property
    def cache_used_bytes(self) -> int:
        """Return how much the cache holds."""
        return self._shelf.used

    def clear(self) -> None:
        """Empty the cache: what an earlier agent knew of it is forgotten."""
        shutil.rmtree(self._ways.cache, ignore_errors=True)

    async def fetch(
        self, container_id: str, uris: Iterable[URI], sandbox: Path, name: str, user: User
    ) -> None:
        """Fetch all *uris* as the user called *name*; raise ContainerError."""
        reading: list[Held] = []
        try:
            items = plan(uris, self._ways.frameworks_home)
            orders: list[dict[str, Any]] = []
            for item in items:
                held = await self._held(item, name, user) if item.is_cached else None
                if held is not None:
                    held.readers += 1
                    reading.append(held)
                orders.append({**asdict(item), "held": held.name if held else None})
            if orders:
                await self._work("fetch", orders, sandbox, user)
        except (ContainerError, OSError) as error:
            raise ContainerError(
                f"Failed to fetch all URIs for container '{container_id}': {error}"
            ) from error
        finally:
            for held in reading:
                held.readers -= 1

    async def _held(self, item: Item, name: str, user: User) -> Held | None:
        """Return the file in the cache, fetched now if need be; None if it has no room."""
        key = (name, item.uri)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            held = self._shelf.find(key)
            if held is not None and os.path.exists(held.name):
                return held
            self._shelf.drop(key)
            size = (await self._work("size", [asdict(item)], None, user)).get("size")
            if not isinstance(size, int):
                return None
            gone = self._shelf.make_room(size)
            if gone is None:
                log.info("fetch_cache_bypassed", uri=item.uri, bytes=size)
                return None
            for path in gone:
                with suppress(OSError):
                    os.unlink(path)
            place = self._place(name, user)
            file = hashlib.sha256(item.uri.encode()).hexdigest()
            held = self._shelf.add(key, str(place / file), size)  # its room is taken from now on
            held.readers += 1
            order = {**asdict(item), "output": file, "extracts": False, "is_executable": False}
            try:
                await self._work("fetch", [order], place, user)
                held.size = os.path.getsize(held.name)
            except BaseException:
                self._shelf.drop(key)
                with suppress(OSError):
                    os.unlink(held.name)
                raise
            finally:
                held.readers -= 1
            return held

    def _place(self, name: str, user: User) -> Path:
        """Return the directory of a user's files in the cache, which only he may read."""
        place = self._ways.cache / name
        self._ways.cache.mkdir(parents=True, exist_ok=True)
        self._ways.cache.chmod(0o755)
        place.mkdir(mode=0o700, exist_ok=True)
        os.chown(place, user.uid, user.gid)
        return place

    async def _work(
        self, mode: str, items: list[dict[str, Any]], directory: Path | None, user: User
    ) -> dict[str, Any]:
        order = {
            "mode": mode,
            "items": items,
            "directory": str(directory),
            "stall_seconds": self._ways.stall_seconds,
            "user": {"uid": user.uid, "gid": user.gid, "groups": list(user.groups)},
        }
        async with self._slots:
            done = await run_worker(WORKER, json.dumps(order).encode())
        try:
            answer: dict[str, Any] = json.loads(done.out)
        except ValueError as error:
            words = done.err.decode(errors="replace").strip().rpartition("\n")[2]
            raise ContainerError(
                f"fetcher: {words or f'ended with status {done.status}'}"
            ) from error
        if "error" in answer:
            raise ContainerError(str(answer["error"]))
        return answer
