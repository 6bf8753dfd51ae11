"""Election and the durable store on ZooKeeper, for clusters with several masters.

kazoo blocks and calls back from threads of its own; both stay inside this
module. A store and an election each hold one session.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Self, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NodeExistsError,
    NoNodeError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KazooState

from phalanx.core.error import ConfigError, ConflictError, UnavailableError
from phalanx.core.store.store import ABSENT, Stored

T = TypeVar("T")

SESSION_SECONDS = 10.0
CONNECT_SECONDS = 15.0
CANDIDATE = "json.info_"  # Mesos' label of a master's node (reference mesos §4.8)
VALUE = b"="  # first byte of a node that holds a value; a node that is only a parent is empty


class _Session:
    """One ZooKeeper session, opened on entry and closed on exit."""

    def __init__(self, hosts: str, path: str, *, session_seconds: float = SESSION_SECONDS) -> None:
        """Prepare a session to *hosts* (``h1:2181,h2:2181``), rooted at *path* (``/phalanx``)."""
        if not path.startswith("/") or path.endswith("/"):
            raise ConfigError(f"--zk: {path!r}: is not a path like /phalanx")
        self._path = path
        self._client = KazooClient(hosts=hosts, timeout=session_seconds)

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._client.start, CONNECT_SECONDS)
            await self._ask(lambda: self._client.ensure_path(self._path))
        except KazooTimeoutError as error:
            await asyncio.to_thread(self._close)
            raise UnavailableError(f"zookeeper: no answer in {CONNECT_SECONDS:g} s") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._client.stop()
        self._client.close()

    async def _ask(self, function: Callable[[], T]) -> T:
        """Run a blocking call in a thread; turn kazoo's errors into ours."""
        try:
            return await asyncio.to_thread(function)
        except (NoNodeError, NodeExistsError, BadVersionError):
            raise
        except (KazooException, KazooTimeoutError) as error:
            raise UnavailableError(f"zookeeper: {error or type(error).__name__}") from error


class ZooKeeperStore(_Session):
    """A Store whose keys are nodes below a path; ZooKeeper's version plus one is ours."""

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""
        return await self._ask(lambda: self._get(f"{self._path}/{key}"))

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        rows: dict[str, Stored] = {}

        def walk(key: str) -> None:
            with suppress(NoNodeError):
                for child in self._client.get_children(f"{self._path}/{key}"):
                    row = self._get(f"{self._path}/{key}/{child}")
                    if row is not None:
                        rows[f"{key}/{child}"] = row
                    walk(f"{key}/{child}")

        await self._ask(lambda: walk(prefix))
        return dict(sorted(rows.items()))

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        node, data = f"{self._path}/{key}", VALUE + value

        def write() -> int:
            while True:
                stat = self._client.exists(node)
                row = None if stat is None else self._get(node)
                current = ABSENT if row is None else row.version
                if version is not None and version != current:
                    raise ConflictError(f"{key}: version is {current}, not {version}")
                try:
                    if stat is None:
                        self._client.create(node, data, makepath=True)
                        return 1
                    return int(self._client.set(node, data, version=stat.version).version) + 1
                except (NodeExistsError, NoNodeError, BadVersionError):
                    continue  # somebody was faster: look again

        return await self._ask(write)

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there; keys below it stay."""
        node = f"{self._path}/{key}"

        def erase() -> None:
            with suppress(NoNodeError):
                if self._client.get_children(node):
                    self._client.set(node, b"")
                else:
                    self._client.delete(node)

        await self._ask(erase)

    async def close(self) -> None:
        """End the session."""
        await asyncio.to_thread(self._close)

    def _get(self, node: str) -> Stored | None:
        try:
            data, stat = self._client.get(node)
        except NoNodeError:
            return None
        if not data.startswith(VALUE):
            return None
        return Stored(data[len(VALUE) :], stat.version + 1)


class ZooKeeperElection(_Session):
    """Leader election in Mesos' layout: the candidate node with the smallest number leads.

    Existing detectors of Mesos masters find the leader there.
    """

    async def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        """Contend with *me*; yield the leader's payload, None for nobody, at each change.

        A lost or doubtful connection yields None at once: whoever led must act
        as if it did not. When the session comes back, so does the candidacy.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def wake(*_: object) -> None:
            with suppress(RuntimeError):  # the loop may be gone while a thread still calls
                loop.call_soon_threadsafe(changed.set)

        self._client.add_listener(wake)
        mine: str | None = None
        last: bytes | None = None
        is_first = True
        try:
            while True:
                changed.clear()
                leader: bytes | None = None
                if self._client.state == KazooState.CONNECTED:
                    with suppress(UnavailableError, NoNodeError, NodeExistsError):
                        mine = await self._ask(partial(self._contend, mine, me))
                        leader = await self._ask(lambda: self._leader(wake))
                if is_first or leader != last:
                    yield leader
                    is_first, last = False, leader
                with suppress(TimeoutError):
                    async with asyncio.timeout(SESSION_SECONDS / 2):
                        await changed.wait()
        finally:
            self._client.remove_listener(wake)

    def _contend(self, mine: str | None, me: bytes) -> str:
        """Return our candidate node, made anew if the session that owned it is over."""
        if mine is not None and self._client.exists(mine) is not None:
            return mine
        return str(
            self._client.create(f"{self._path}/{CANDIDATE}", me, ephemeral=True, sequence=True)
        )

    def _leader(self, wake: Callable[..., None]) -> bytes | None:
        """Return the payload of the smallest candidate, watching for any change."""
        children = self._client.get_children(self._path, watch=wake)
        candidates = sorted(child for child in children if child.startswith(CANDIDATE))
        if not candidates:
            return None
        data, _ = self._client.get(f"{self._path}/{candidates[0]}")
        return bytes(data)
