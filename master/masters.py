"""Every master of the cluster, leading or not, as the store knows them.

A plane on a follower's node needs ways to and from it like any other. A master
that stops stays listed: its node may live on, and a way that leads nowhere
costs one route.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address

from phalanx.core.store.store import Store
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import MasterInfo

PREFIX = "masters"


class Masters:
    """The masters that ever joined, by the address of their node."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Mapping[IPv4Address, MasterInfo] = {}

    @property
    def known(self) -> Mapping[IPv4Address, MasterInfo]:
        """Return the masters of the last load."""
        return self._known

    async def join(self, address: IPv4Address, me: MasterInfo) -> None:
        """Write down that there is a master at *address*; raise UnavailableError."""
        await self._store.put(f"{PREFIX}/{address}", encode(me))

    async def load(self) -> bool:
        """Read them all; return whether any is new or different; raise UnavailableError."""
        rows = await self._store.list(PREFIX)
        known = {
            IPv4Address(key.removeprefix(f"{PREFIX}/")): decode(MasterInfo, row.value)
            for key, row in rows.items()
        }
        is_news = known != self._known
        self._known = known
        return is_news
