"""What daemons of one kind agree by: an election, and a store that only its winner writes."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.election import Election, Standalone
from phalanx.core.error import UnavailableError
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import Store

DOUBT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Coordination:
    """An election and a store; *fenced* gives the store as only a leader may write it."""

    election: Election
    store: Store
    fenced: Callable[[], Store]

    async def doubt(self) -> None:
        """End a leadership that was not heard of for too long; raise UnavailableError."""
        while self.election.is_certain():  # noqa: ASYNC110 - time itself is what passes here
            await asyncio.sleep(DOUBT_SECONDS)
        raise UnavailableError("leadership is in doubt")


def alone(store: Store) -> Coordination:
    """Return the coordination of a daemon that has no peers, over *store*."""
    return Coordination(Standalone(), store, lambda: store)


def alone_on_disk(file: Path, stack: AsyncExitStack) -> Coordination:
    """Return the coordination of a daemon that has no peers, its store in *file*."""
    sqlite = SqliteStore(file)
    stack.push_async_callback(sqlite.close)
    return alone(sqlite)


async def through_zookeeper(
    address: ZooKeeperAddress,
    store: str,
    stack: AsyncExitStack,
    *,
    session_seconds: float,
    store_seconds: float | None = None,
) -> Coordination:
    """Return the coordination of peers that meet in ZooKeeper.

    Candidates are below the address' path, and so is *store*: one node, so that
    detectors find nothing but candidates beside it.
    """
    # Only here: whoever is alone need not pay for kazoo.
    from phalanx.core.zookeeper.election import ZooKeeperElection
    from phalanx.core.zookeeper.exec import Witness
    from phalanx.core.zookeeper.session import ZooKeeper
    from phalanx.core.zookeeper.store import ZooKeeperStore

    session = ZooKeeper(address, session_seconds=session_seconds, store_seconds=store_seconds)
    await stack.enter_async_context(Witness(session))
    await stack.enter_async_context(session)
    election = ZooKeeperElection(session)
    kept = ZooKeeperStore(session, f"{session.path}/{store}")

    def fenced() -> Store:
        if election.node is None:
            raise UnavailableError("leadership is lost")
        return kept.fenced_by(election.node)

    return Coordination(election, kept, fenced)
