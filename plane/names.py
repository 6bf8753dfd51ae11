"""What the name server of this node is told: a View, and the VIPs that are held, in steps."""

import asyncio
from collections.abc import Collection

from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.ledger import HeldVips
from phalanx.net.model.view import Ref, View, refs_between, steps_between

STEP = 200  # objects; more than those of one step would keep those who ask waiting


class Names:
    """Publishes Views; one that changes much in steps, between which questions are answered."""

    def __init__(self, zones: ZoneTable) -> None:
        self._zones = zones
        self._view: View | None = None
        self.held: HeldVips = {}

    def publish(self, view: View, held: HeldVips) -> None:
        """Answer from *view* from now on, for who can't go on without."""
        self._zones.publish(view, held)
        self._view, self.held = view, held

    @property
    def view(self) -> View | None:
        """Return the View that is answered from, None before the first."""
        return self._view

    async def follow(self, view: View, held: HeldVips, touched: Collection[Ref] | None) -> None:
        """Answer from *view* soon; *touched* are the objects that may differ, None if unknown.

        Cut off amid the steps it leaves a View between the two, to go on from.
        """
        if view is self._view and held is self.held:
            return
        before = View() if self._view is None else self._view
        if touched is None or self._view is None:
            touched = await asyncio.to_thread(refs_between, before, view)
        for step, refs in steps_between(before, view, touched, size=STEP):
            self._view = None  # if this fails, there is nothing to go on from
            self._zones.publish(step, held, refs, is_last=step is view)
            self._view, self.held = step, held
            if step is not view:
                await asyncio.sleep(0)
