"""Notice at once when somebody else changes one of our tables."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import structlog

from phalanx.net.nft.watch import TableWatch
from phalanx.net.overlay.watch import RtnlWatch
from phalanx.plane.sequence import TableSequence

log = structlog.get_logger()

GAP_SECONDS = 0.2  # between two resyncs for drift: who fights us must not keep us busy


@contextmanager
def drift_watched(sequence: TableSequence, *tables: str, node: IPv4Address) -> Iterator[None]:
    """Ask *sequence* for a resync at each change outside of its passes.

    Watched are the nftables *tables* and the links, routes, rules and addresses
    of *node*. What changes in nftables during a pass is most likely the pass's
    own doing, and is not told apart: a foreign change there in that moment
    waits for the next resync.
    """
    nft, rtnl = TableWatch(*tables), RtnlWatch(node)

    def nft_news() -> frozenset[str]:
        return frozenset({"nftables"} if nft.writers() and not sequence.is_under_way else ())

    sequence.settle = nft.writers
    try:
        with _told(sequence, nft.fileno(), nft_news), _told(sequence, rtnl.fileno(), rtnl.news):
            yield
    finally:
        sequence.settle = None
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
        noticed.clear()
        sequence.poke(resync=True)

    loop.add_reader(descriptor, look)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
