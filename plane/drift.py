"""Notice at once when somebody else changes one of our tables."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address

import structlog

from phalanx.lb.ipvs.layout import NAME as IPVS_TABLE
from phalanx.lb.nftables.ruleset import NAME as LB_TABLE
from phalanx.net.attachment.bridge import vni_of
from phalanx.net.nft.watch import NETLINK_NETFILTER, TableWatch
from phalanx.net.overlay.mark import TUNNEL
from phalanx.net.overlay.watch import GONE, RtnlWatch
from phalanx.net.rtnl.ports import OwnPorts
from phalanx.plane.sequence import TableSequence

log = structlog.get_logger()

GAP_SECONDS = 0.2  # between two looks for drift: who fights us must not keep us busy

# What is to be read back, by what changed: routes go with their link and their source address.
# Whatever is not in here is the name of a table itself, or a reason to read all of them.
SUSPECTS: Mapping[str, tuple[str, ...]] = {
    "route": ("routes",),
    "rule": ("rules",),
    "address": ("addresses", "routes"),
    "setting": ("settings", "settings of lo"),
    TUNNEL: ("links", "settings"),
    TUNNEL + GONE: ("links", "settings", "routes"),
    LB_TABLE: ("services",),
    IPVS_TABLE: ("services",),
}


def suspects(news: str) -> tuple[str, ...]:
    """Return the tables that *news* of a change may concern."""
    if vni_of(news.removesuffix(GONE)) is not None:
        return ("bridges",)
    return SUSPECTS.get(news, (news,))


@contextmanager
def drift_watched(sequence: TableSequence, *tables: str, node: IPv4Address) -> Iterator[None]:
    """Ask *sequence* to read back what somebody else may have changed.

    Watched are the nftables *tables* and the links, routes, rules, addresses
    and settings of *node*.
    """
    nft, rtnl = TableWatch(*tables), RtnlWatch(node)
    own_ports = OwnPorts(NETLINK_NETFILTER)

    def nft_news() -> frozenset[str]:
        return frozenset(table for table, port in nft.changes() if port not in own_ports)

    try:
        with _told(sequence, nft.fileno(), nft_news), _told(sequence, rtnl.fileno(), rtnl.news):
            yield
    finally:
        nft.close()
        rtnl.close()


@contextmanager
def _told(
    sequence: TableSequence, descriptor: int, news: Callable[[], frozenset[str]]
) -> Iterator[None]:
    """Look at *news* whenever *descriptor* is readable."""
    loop = asyncio.get_running_loop()
    noticed: set[str] = set()
    free_at = loop.time()

    def look() -> None:
        nonlocal free_at
        words = news()
        if words and not noticed:
            loop.call_at(max(free_at, loop.time()), poke)
            free_at = max(free_at, loop.time()) + GAP_SECONDS
        noticed.update(words)

    def poke() -> None:
        log.info("drift_noticed", changed=sorted(noticed))
        sequence.suspect(name for word in noticed for name in suspects(word))
        noticed.clear()

    loop.add_reader(descriptor, look)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
