"""Keep in mind which addresses are in use around this node: no VIP may have one of them."""

import asyncio
from collections.abc import Callable

import structlog

from phalanx.net.address.taken import taken_addresses
from phalanx.net.model.objects import IPAddress

log = structlog.get_logger()


class TakenAddresses:
    """Asks the kernel for the node's own addresses and its gateways' now and then."""

    def __init__(self) -> None:
        self._found: frozenset[IPAddress] = frozenset()

    def now(self) -> frozenset[IPAddress]:
        """Return what was found last, the same object as long as it is the same."""
        return self._found

    async def look(self) -> bool:
        """Ask once; return whether the answer is another than before. A refusal changes nothing."""
        try:
            found = await asyncio.to_thread(taken_addresses)
        except OSError as error:
            log.warning("addresses_not_asked", error=str(error))
            return False
        if found == self._found:
            return False
        self._found = found
        return True

    async def run(self, changed: Callable[[], None], *, pause: float) -> None:
        """Ask after each *pause*, in seconds, until cancelled; tell *changed* of a new answer."""
        while True:
            await asyncio.sleep(pause)
            if await self.look():
                changed()
