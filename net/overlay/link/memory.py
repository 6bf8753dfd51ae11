"""The VXLAN link in memory."""

from collections.abc import Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.overlay.link.value import Link, OtherLink
from phalanx.net.overlay.mark import TUNNEL


class MemoryLinks:
    """A Dataplane that behaves like KernelLinks."""

    name = "links"

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}

    async def read(self) -> Mapping[str, Link]:
        """Return a copy of the links."""
        return dict(self._links)

    async def apply(self, change: Delta[str, Link]) -> None:
        """Make or remove the link; refuse any other."""
        refusals: list[str] = []
        for name in change.removals | change.upserts.keys():
            link = change.upserts.get(name)
            if name != TUNNEL or isinstance(link, OtherLink):
                refusals.append(f"{name}: not a link that we make")
            elif link is None:
                self._links.pop(name, None)
            else:
                self._links[name] = link
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)
