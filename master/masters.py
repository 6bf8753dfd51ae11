"""Every master of the cluster, leading or not, as the store knows them.

A plane on a follower's node needs ways to and from it like any other. A master
that stops stays listed: its node may live on, and a way that leads nowhere
costs one route.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address

import structlog

from phalanx.core.error import InvalidError
from phalanx.core.store.store import Store
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import MasterInfo

log = structlog.get_logger()

PREFIX = "masters"


class Masters:
    """The masters that ever joined, by the address of their node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Mapping[IPv4Address, MasterInfo] = {}
        self._unread: set[str] = set()

    @property
    def known(self) -> Mapping[IPv4Address, MasterInfo]:
        """Return the masters of the last load."""
        return self._known

    async def join(self, address: IPv4Address, me: MasterInfo) -> None:
        """Write down that there is a master at *address*; raise UnavailableError."""
        await self._store.put(f"{PREFIX}/{address}", encode(me))

    async def load(self) -> bool:
        """Read them all; return whether any is new or different; raise UnavailableError.

        A row that nobody can read is left out.
        """
        rows = await self._store.list(PREFIX)
        known, unread = {}, set()
        for key, row in rows.items():
            try:
                address = IPv4Address(key.removeprefix(f"{PREFIX}/"))
                known[address] = decode(MasterInfo, row.value)
            except (InvalidError, ValueError) as error:
                if key not in self._unread:
                    log.error("registry_row_not_understood", key=key, error=str(error))
                unread.add(key)
        self._unread = unread
        is_news = known != self._known
        self._known = known
        return is_news
