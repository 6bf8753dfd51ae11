"""One session with a ZooKeeper ensemble.

kazoo works in threads of its own and calls back from them; both stay inside
this folder, and nobody waits in a thread for an answer.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self

import structlog
from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    ConnectionDropped,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    SessionExpiredError,
    UnimplementedError,
    ZookeeperError,
)
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.interfaces import IAsyncResult
from kazoo.protocol.states import KazooState
from kazoo.security import ACL, OPEN_ACL_UNSAFE, READ_ACL_UNSAFE, make_acl

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.error import UnavailableError
from phalanx.core.zookeeper.many import ListMany

log = structlog.get_logger()

SESSION_SECONDS = 10.0
STORE_SECONDS = 20.0  # after which a read or write that nobody answers has failed
RETRY = {"max_tries": -1, "delay": 0.1, "backoff": 2, "max_delay": 1.0}
RETRY_SECONDS = 0.1
PROBE = (1 << 31) - 1  # number of a request that precedes those that kazoo counts
SWITCH_SECONDS = 0.0005  # after which a thread makes way for another


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
        self.is_over = False  # whether we have ended it, or its servers have
        self.reads_many = True  # until a server has not known `Reads`
        self._granted = session_seconds
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="zookeeper")
        self._learn_on_connect()

    @property
    def granted_seconds(self) -> float:
        """Return how long the servers keep a silent session: what we asked for, or less."""
        return min(self._granted, self.session_seconds)

    def _learn_on_connect(self) -> None:
        """Note what a server grants and knows, before anything else is sent to it.

        kazoo hears the timeout and tells nobody. A request that a server does not know is answered
        before those that came earlier, and then the server ends the connection: it may not be
        tried amid others, and is tried once.
        """
        connection = self.client._connection
        connect = connection._connect

        def connect_and_note(*where: Any) -> Any:  # noqa: ANN401 - kazoo has no types
            read_milliseconds, connect_milliseconds = connect(*where)
            self._granted = read_milliseconds * 1.5 / 1000  # kazoo reads for two thirds of it
            if self.reads_many:
                self._probe(connect_milliseconds / 1000)
            return read_milliseconds, connect_milliseconds

        connection._connect = connect_and_note

    def _probe(self, seconds: float) -> None:
        """Learn whether the server knows `Reads`; if not, the connection is over."""
        try:
            self.client._connection._invoke(seconds, ListMany(["/"]), xid=PROBE)
        except UnimplementedError as error:
            self.reads_many = False
            raise ConnectionDropped("the server does not read many nodes at once") from error
        except RuntimeError as error:  # which would end kazoo's thread
            raise ConnectionDropped(f"the server answers {error}") from error
        except ZookeeperError as error:
            if isinstance(error, SessionExpiredError | AuthFailedError):
                raise
            # It knows the request and has no time, or may not tell us of the root.
            log.info("zookeeper_probe_unanswered", error=words_of(error))

    async def __aenter__(self) -> Self:
        # Or each step of kazoo's threads waits 5 ms for a loop that is busy.
        sys.setswitchinterval(SWITCH_SECONDS)
        self.client.add_listener(self._note)
        self.client.start_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        def close() -> None:
            self.client.stop()
            self.client.close()

        self.client.remove_listener(self._note)
        self.is_over = self.client.state != KazooState.SUSPENDED
        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    @property
    def is_connected(self) -> bool:
        """Tell whether a server answers us now."""
        return bool(self.client.state == KazooState.CONNECTED)

    async def connected(self, seconds: float) -> bool:
        """Wait until a server answers us, at most so long; tell whether one does."""
        if self.is_connected:
            return True
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
        except UnimplementedError as error:
            raise UnknownRequestError(f"zookeeper: {words_of(error)}") from error
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


class UnknownRequestError(_RefusedError):
    """The servers are too old for a request."""


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
