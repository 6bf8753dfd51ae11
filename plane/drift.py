"""Notice at once when somebody else changes one of our nftables tables."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from phalanx.net.nft.watch import TableWatch
from phalanx.plane.sequence import TableSequence

log = structlog.get_logger()


@contextmanager
def drift_watched(sequence: TableSequence, *tables: str) -> Iterator[None]:
    """Ask *sequence* for a resync at each change of *tables* outside of its passes.

    What changes during a pass is most likely the pass's own doing, and is not
    told apart: a foreign change in that moment waits for the next resync.
    """
    watch = TableWatch(*tables)
    loop = asyncio.get_running_loop()

    def look() -> None:
        if watch.writers() and not sequence.is_under_way:
            log.info("drift_noticed", tables=tables)
            sequence.poke(resync=True)

    loop.add_reader(watch.fileno(), look)
    try:
        yield
    finally:
        loop.remove_reader(watch.fileno())
        watch.close()
