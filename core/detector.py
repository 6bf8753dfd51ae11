"""Finding the leading master from outside: by a list of masters, or in ZooKeeper."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Protocol, Self

import structlog

from phalanx.core.config import HostPort, MasterAddress, ZooKeeperAddress
from phalanx.core.error import ProtocolError, UnavailableError

log = structlog.get_logger()


class Detector(Protocol):
    """Tells where to look for the leading master."""

    async def masters(self) -> Sequence[HostPort]:
        """Return the masters to ask, most promising first; empty while nobody is known to lead."""
        ...


class Listed:
    """The masters of a list: any of them redirects to the leader."""

    def __init__(self, hosts: Sequence[HostPort]) -> None:
        self._hosts = tuple(hosts)

    async def masters(self) -> Sequence[HostPort]:
        """Return the whole list."""
        return self._hosts


def leader_of(payload: bytes) -> HostPort:
    """Return the address in a candidate's node, a MasterInfo as JSON (reference mesos §4.8).

    Raises ProtocolError for what has none.
    """
    try:
        info = json.loads(payload)
        address = info.get("address") or {}
        packed = int(info.get("ip", 0)).to_bytes(4, "little")
        host = address.get("ip") or ".".join(map(str, packed))
        return HostPort(str(host), int(address.get("port") or info["port"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ProtocolError(f"no MasterInfo: {payload[:200]!r}") from error


class ZooKeeperDetector:
    """The candidate with the smallest number leads; the last one known while none can be asked."""

    def __init__(self, address: ZooKeeperAddress, *, session_seconds: float = 10.0) -> None:
        # Only here: who is told of hosts need not pay for kazoo.
        from phalanx.core.zookeeper.election import Candidates
        from phalanx.core.zookeeper.session import ZooKeeper

        self._session = ZooKeeper(address, session_seconds=session_seconds)
        self._candidates = Candidates(self._session)
        self._stack = AsyncExitStack()
        self._last: tuple[HostPort, ...] = ()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._session)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def masters(self) -> Sequence[HostPort]:
        """Return the leader alone."""
        try:
            payload = await self._candidates.leader()
            self._last = () if payload is None else (leader_of(payload),)
        except (UnavailableError, ProtocolError) as error:
            log.warning("leader_not_detected", error=str(error))
        return self._last


async def open_detector(address: MasterAddress, stack: AsyncExitStack) -> Detector:
    """Return the detector of an address; *stack* ends its session."""
    if address.zookeeper is None:
        return Listed(address.hosts)
    return await stack.enter_async_context(ZooKeeperDetector(address.zookeeper))
