"""Election and the durable store on ZooKeeper, for clusters with several masters.

kazoo works in threads of its own and calls back from them; both stay inside
this module, and nobody waits in a thread for an answer.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Self

import structlog
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    RolledBackError,
    RuntimeInconsistency,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.interfaces import IAsyncResult
from kazoo.protocol.states import KazooState
from kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.error import InvalidError, UnavailableError
from phalanx.core.store.group import Change, GroupCommit, Outcome
from phalanx.core.store.store import ABSENT, Stored, conflict

log = structlog.get_logger()

SESSION_SECONDS = 10.0
STORE_SECONDS = 20.0  # after which a read or write that nobody answers has failed
CANDIDATE = "json.info_"  # Mesos' label of a master's node (reference mesos §4.8)
# Nothing else below the path is a candidate, whoever put it there.
CANDIDATES = re.compile(re.escape(CANDIDATE) + r"\d{10}", re.ASCII)
VALUE = b"="  # first byte of a node that holds a value; a node that is only a parent is empty
MOST_BYTES = 900 * 1024  # of one value; ZooKeeper ends connections that carry more than 1 MiB
RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0}
# Clocks and ticks differ a little: a session is believed in for this part of its time.
CERTAIN = 0.9
RETRY_SECONDS = 0.1


def boot_time() -> float:
    """Return seconds since boot, those in which the machine slept among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ZooKeeper:
    """One session with an ensemble, begun on entry and ended on exit.

    Entering waits for no server: until one answers, every request raises
    UnavailableError, and the session begins as soon as one does.
    """

    def __init__(
        self,
        address: ZooKeeperAddress,
        *,
        session_seconds: float = SESSION_SECONDS,
        store_seconds: float | None = None,
    ) -> None:
        self.path = address.path
        self.session_seconds = session_seconds
        self.store_seconds = STORE_SECONDS if store_seconds is None else store_seconds
        self.client = KazooClient(
            hosts=address.hosts,
            timeout=session_seconds,
            connection_retry=RETRY,
            auth_data=[("digest", address.credentials)] if address.credentials else None,
            # What happens to the session is told here, in our words.
            logger=logging.Logger("kazoo", logging.CRITICAL),
        )
        # Whoever has credentials lets everybody read and nobody else write, as Mesos does.
        self.acl: Sequence[ACL] = (
            (make_acl("auth", "", all=True), *READ_ACL_UNSAFE)
            if address.credentials
            else OPEN_ACL_UNSAFE
        )
        self._granted = session_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zookeeper")
        self._learn_timeout()

    @property
    def granted_seconds(self) -> float:
        """Return how long the servers keep a silent session: what we asked for, or less."""
        return min(self._granted, self.session_seconds)

    def _learn_timeout(self) -> None:
        """Note the timeout that a server grants: kazoo hears it and tells nobody."""
        connection = self.client._connection
        connect = connection._connect

        def connect_and_note(*where: Any) -> Any:  # noqa: ANN401 - kazoo has no types
            read_milliseconds, connect_milliseconds = connect(*where)
            self._granted = read_milliseconds * 1.5 / 1000  # kazoo reads for two thirds of it
            return read_milliseconds, connect_milliseconds

        connection._connect = connect_and_note

    async def __aenter__(self) -> Self:
        self.client.add_listener(self._note)
        self.client.start_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        def close() -> None:
            self.client.stop()
            self.client.close()

        self.client.remove_listener(self._note)
        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    @property
    def is_connected(self) -> bool:
        """Tell whether a server answers us now."""
        return bool(self.client.state == KazooState.CONNECTED)

    async def connected(self, seconds: float) -> bool:
        """Wait until a server answers us, at most so long; tell whether one does."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        wake = waker(loop, changed)
        self.client.add_listener(wake)
        try:
            async with asyncio.timeout(seconds):
                while not self.is_connected:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            self.client.remove_listener(wake)
        return True

    async def ask(
        self, request: Callable[[], IAsyncResult], *, seconds: float = STORE_SECONDS
    ) -> Any:  # noqa: ANN401 - kazoo's answers have no types
        """Send a request and return its answer.

        Raises NoNodeError, NodeExistsError and BadVersionError as they are,
        everything else of kazoo's as UnavailableError.
        """
        if not self.is_connected:
            raise UnavailableError("zookeeper: no server answers")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def deliver(answer: IAsyncResult) -> None:
            with suppress(RuntimeError):  # the loop may be gone while a thread still calls
                loop.call_soon_threadsafe(settle, answer)

        def settle(answer: IAsyncResult) -> None:
            if future.done():
                return
            if answer.exception is not None:
                future.set_exception(answer.exception)
            else:
                future.set_result(answer.value)

        try:
            request().rawlink(deliver)
            async with asyncio.timeout(seconds):
                return await future
        except (NoNodeError, NodeExistsError, BadVersionError):
            raise
        except TimeoutError as error:
            raise UnavailableError(f"zookeeper: no answer in {seconds:g} s") from error
        except NoAuthError as error:
            raise _RefusedError(f"zookeeper: {words_of(error)}") from error
        except (KazooException, KazooTimeoutError) as error:
            raise UnavailableError(f"zookeeper: {words_of(error)}") from error

    async def persist(self, request: Callable[[], IAsyncResult]) -> Any:  # noqa: ANN401 - likewise
        """Send a request that may be repeated, until it is answered or the store's time is over."""
        last: UnavailableError | None = None
        try:
            async with asyncio.timeout(self.store_seconds):
                while True:
                    if not await self.connected(self.store_seconds):
                        break
                    try:
                        return await self.ask(request)
                    except _RefusedError:
                        raise
                    except UnavailableError as error:
                        last = error
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            pass
        raise last or UnavailableError("zookeeper: no server answers")

    async def ensure(self, path: str) -> None:
        """Make *path* and the nodes above it where they are missing."""
        await self.persist(lambda: self.client.ensure_path_async(path, acl=self.acl))

    def _note(self, state: str) -> None:
        log.info("zookeeper_session", state=str(state).lower())


class _RefusedError(UnavailableError):
    """Servers answer, and asking again will not change what they say."""


def words_of(error: Exception) -> str:
    """Return what an error of kazoo's says; most of them say nothing but their name."""
    if isinstance(error, NoAuthError):
        return "the nodes belong to another user, or the password is another"
    return str(error) or type(error).__name__


def waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[..., None]:
    """Return what a thread of kazoo's calls to set *event*."""

    def wake(*_: object) -> None:
        with suppress(RuntimeError):  # the loop may be gone while a thread still calls
            loop.call_soon_threadsafe(event.set)

    return wake


class ZooKeeperStore:
    """A Store whose keys are nodes below a path; ZooKeeper's version plus one is ours.

    With *fence*, the path of a node, every write is a transaction that happens
    only while that node is there. The candidate node of a leader is there as
    long as it leads, so that a deposed leader, however late it wakes up, can't
    write. Reads are not fenced.
    """

    def __init__(self, session: ZooKeeper, path: str, *, fence: str | None = None) -> None:
        self._session = session
        self._client = session.client
        self._path = path
        self._fence = fence
        self._parents: set[str] = set()
        self._group = GroupCommit(self._commit)

    def fenced_by(self, node: str) -> "ZooKeeperStore":
        """Return the same store, which can be written only while *node* is there."""
        return ZooKeeperStore(self._session, self._path, fence=node)

    async def get(self, key: str) -> Stored | None:
        """Return what is under *key*, or None."""
        found = await self._read(f"{self._path}/{key}")
        return None if found is None else found[0]

    async def list(self, prefix: str) -> Mapping[str, Stored]:
        """Return everything under *prefix* + ``/``, by full key."""
        rows: dict[str, Stored] = {}
        parents = [prefix]
        while parents:
            listed = await asyncio.gather(*(self._children(key) for key in parents))
            keys = [
                f"{parent}/{child}"
                for parent, names in zip(parents, listed, strict=True)
                for child in names
            ]
            found = await asyncio.gather(*(self._read(f"{self._path}/{key}") for key in keys))
            parents = []
            for key, answer in zip(keys, found, strict=True):
                if answer is None:
                    continue
                row, has_children = answer
                if row is not None:
                    rows[key] = row
                if has_children:
                    parents.append(key)
        return dict(sorted(rows.items()))

    async def put(self, key: str, value: bytes, *, version: int | None = None) -> int:
        """Write *value*; return its new version; ConflictError if *version* is not the current."""
        if len(value) > MOST_BYTES:
            raise InvalidError(f"{key}: {len(value)} bytes are more than {MOST_BYTES}")
        return await self._group.submit(Change(key, value, version))

    async def remove(self, key: str) -> None:
        """Remove *key* if it is there; keys below it stay."""
        await self._group.submit(Change(key, None))

    async def close(self) -> None:
        """Finish what is being written; the session is its opener's to end."""
        await self._group.drain()

    async def _read(self, node: str) -> tuple[Stored | None, bool] | None:
        """Return the value of a node and whether it has children; None without the node."""
        try:
            data, stat = await self._session.persist(lambda: self._client.get_async(node))
        except NoNodeError:
            return None
        has_children = stat.children_count > 0
        if not data.startswith(VALUE):
            return None, has_children
        return Stored(data[len(VALUE) :], stat.version + 1), has_children

    async def _children(self, key: str) -> Sequence[str]:
        try:
            return list(
                await self._session.persist(
                    lambda: self._client.get_children_async(f"{self._path}/{key}")
                )
            )
        except NoNodeError:
            return ()

    async def _commit(self, batch: Sequence[Change]) -> Sequence[Outcome]:
        """Write a batch in one transaction, again if somebody else was faster.

        A connection that breaks leaves it open whether the transaction was
        made: then it is tried again, and a change that is found made counts as
        made, until the time of a store is over.
        """
        unsure: set[str] = set()
        seconds = self._session.store_seconds
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        outcomes = await self._commit_once(batch, unsure)
                    except _Unsure:
                        unsure.update(change.key for change in batch)
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    if outcomes is not None:
                        return outcomes
        except TimeoutError as error:
            raise UnavailableError(f"zookeeper: no answer in {seconds:g} s") from error

    async def _commit_once(
        self, batch: Sequence[Change], unsure: set[str]
    ) -> Sequence[Outcome] | None:
        """Return the outcomes, or None when the nodes changed under our hands."""
        nodes = [f"{self._path}/{change.key}" for change in batch]
        await self._make_parents(nodes)
        found = await asyncio.gather(*(self._read(node) for node in nodes))
        transaction = self._client.transaction()
        if self._fence is not None:
            transaction.check(self._fence, -1)
        outcomes: list[Outcome] = []
        for change, node, answer in zip(batch, nodes, found, strict=True):
            row = None if answer is None else answer[0]
            current = ABSENT if row is None else row.version
            is_made = (change.key in unsure and row is not None and row.value == change.value) or (
                change.value is None and row is None
            )
            if is_made:
                outcomes.append(current)
            elif change.version is not None and change.version != current:
                outcomes.append(conflict(change.key, current, change.version))
            elif change.value is not None:
                outcomes.append(self._add_put(transaction, node, change.value, row, answer))
            else:
                outcomes.append(ABSENT)
                if answer is not None and answer[1]:
                    transaction.set_data(node, b"")
                else:
                    transaction.delete(node, current - 1)
        if len(transaction.operations) <= (self._fence is not None):
            return outcomes  # nothing is left to write
        if await self._is_done(transaction):
            return outcomes
        return None

    def _add_put(
        self,
        transaction: Any,  # noqa: ANN401 - kazoo has no types
        node: str,
        value: bytes,
        row: Stored | None,
        answer: tuple[Stored | None, bool] | None,
    ) -> int:
        """Add the put of one node to a transaction; return the version that it will have."""
        if answer is None:
            transaction.create(node, VALUE + value, acl=list(self._session.acl))
            return ABSENT + 1
        if row is None:  # a parent of other keys becomes a key; its version is unknown
            transaction.set_data(node, VALUE + value)
            return ABSENT + 1
        transaction.set_data(node, VALUE + value, version=row.version - 1)
        return row.version + 1

    async def _is_done(self, transaction: Any) -> bool:  # noqa: ANN401 - kazoo has no types
        """Commit; tell whether it was made; raise UnavailableError behind a broken fence."""
        try:
            answers = await self._session.ask(transaction.commit_async)
        except UnavailableError as error:
            raise _Unsure(str(error)) from error
        failures = [answer for answer in answers if isinstance(answer, Exception)]
        if not failures:
            return True
        if self._fence is not None and isinstance(answers[0], NoNodeError):
            raise UnavailableError("zookeeper: this master leads no more and must not write")
        known = (
            NoNodeError,
            NodeExistsError,
            BadVersionError,
            RolledBackError,
            RuntimeInconsistency,
        )
        for failure in failures:
            if not isinstance(failure, known):
                raise UnavailableError(f"zookeeper: {words_of(failure)}")
        self._parents.clear()
        return False

    async def _make_parents(self, nodes: Sequence[str]) -> None:
        for parent in {node.rpartition("/")[0] for node in nodes} - self._parents:
            await self._session.ensure(parent)
            self._parents.add(parent)


class _Unsure(Exception):
    """Nobody knows whether a transaction was made."""


class ZooKeeperElection:
    """Leader election in Mesos' layout: the candidate node with the smallest number leads.

    Existing detectors of Mesos masters find the leader there. What was heard
    last is believed for as long as the session can't have ended meanwhile: a
    broken connection deposes nobody before that, and a process that wakes up
    after it finds itself uncertain at once.
    """

    def __init__(self, session: ZooKeeper, *, now: Callable[[], float] = boot_time) -> None:
        self._session = session
        self._now = now
        self._believed_until = now()
        self._node: str | None = None
        self._candidates = Candidates(session)

    @property
    def node(self) -> str | None:
        """Return our candidate node: it is there as long as our candidacy."""
        return self._node

    def is_certain(self) -> bool:
        """Tell whether our session can't have ended since we last heard from a server."""
        return self._now() < self._believed_until

    async def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        """Contend with *me*; yield the leader's payload, None for nobody, at each change.

        Whoever loses his candidate node hears None before he contends again,
        even if he wins at once: others may have led meanwhile.
        """
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()
        wake = waker(loop, changed)
        self._session.client.add_listener(wake)
        leader: bytes | None = None
        said: bytes | None = None
        is_first, is_in_doubt = True, False
        period = self._session.session_seconds / 6
        try:
            while True:
                changed.clear()
                asked = self._now()
                try:
                    leader = await self._look(me, wake)
                    self._believed_until = asked + self._session.granted_seconds * CERTAIN
                    is_in_doubt = False
                except (UnavailableError, NoNodeError, NodeExistsError) as error:
                    if not is_in_doubt:
                        log.warning("zookeeper_in_doubt", error=str(error))
                    is_in_doubt = True
                if not self.is_certain():
                    leader = None
                if is_first or leader != said:
                    is_first, said = False, leader
                    yield leader
                with suppress(TimeoutError):
                    async with asyncio.timeout(period if self._session.is_connected else 0.2):
                        await changed.wait()
        finally:
            self._session.client.remove_listener(wake)

    async def _look(self, me: bytes, wake: Callable[..., None]) -> bytes | None:
        """Make sure of our candidacy and return the leader's payload; None as we lost our own."""
        client, session = self._session.client, self._session
        if self._node is None:
            await session.ensure(session.path)
            self._node = await self._contend(me)
        else:
            asked = partial(client.exists_async, self._node)
            if await session.ask(asked, seconds=session.session_seconds) is None:
                self._node = None
                wake()  # contend again at once
                return None
        return await self._candidates.leader(wake)

    async def _contend(self, me: bytes) -> str:
        """Return our candidate node: made now, or by a request whose answer got lost."""
        client, path = self._session.client, self._session.path
        session_id = client.client_id[0] if client.client_id else None
        for name in await self._candidates.names():
            stat = await self._session.ask(partial(client.exists_async, f"{path}/{name}"))
            if stat is not None and stat.ephemeralOwner == session_id:
                return f"{path}/{name}"
        node = await self._session.ask(
            lambda: client.create_async(
                f"{path}/{CANDIDATE}", me, acl=self._session.acl, ephemeral=True, sequence=True
            )
        )
        log.info("contending", node=node)
        return str(node)


class Candidates:
    """Those who contend for leadership, in the layout of Mesos."""

    def __init__(self, session: ZooKeeper) -> None:
        self._session = session

    async def names(self, wake: Callable[..., None] | None = None) -> Sequence[str]:
        """Return the names of the nodes in their order; *wake* is called when that changes."""
        children = await self._session.ask(
            partial(self._session.client.get_children_async, self._session.path, watch=wake),
            seconds=self._session.session_seconds,
        )
        return sorted(child for child in children if CANDIDATES.fullmatch(child))

    async def leader(self, wake: Callable[..., None] | None = None) -> bytes | None:
        """Return the payload of the first candidate, None when nobody contends."""
        while True:
            try:
                names = await self.names(wake)
            except NoNodeError:
                return None  # nobody ever contended here
            if not names:
                return None
            with suppress(NoNodeError):  # it left between two requests: look again
                data, _ = await self._session.ask(
                    partial(self._session.client.get_async, f"{self._session.path}/{names[0]}"),
                    seconds=self._session.session_seconds,
                )
                return bytes(data)
