"""Leader election on ZooKeeper, where detectors of Mesos masters look (reference mesos §4.8)."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog
from kazoo.exceptions import (
    NodeExistsError,
    NoNodeError,
)

from phalanx.core.error import UnavailableError
from phalanx.core.zookeeper.session import ZooKeeper, waker

log = structlog.get_logger()

CANDIDATE = "json.info_"  # Mesos' label of a master's node (reference mesos §4.8)
# Nothing else below the path is a candidate, whoever put it there.
CANDIDATES = re.compile(re.escape(CANDIDATE) + r"\d{10}", re.ASCII)
# Clocks and ticks differ a little: a session is believed in for this part of its time.
CERTAIN = 0.9


def boot_time() -> float:
    """Return seconds since boot, those in which the machine slept among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
