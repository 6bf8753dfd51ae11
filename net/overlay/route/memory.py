"""Routes in memory, refused where the kernel would refuse them."""

from collections.abc import Collection, Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.model.objects import IPAddress, node6
from phalanx.net.overlay.mark import TUNNEL
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnknownRoute,
)


class MemoryRoutes:
    """A Dataplane that behaves like KernelRoutes.

    *addresses* are the node's own, *foreign* the keys of routes that others
    made, *has_tunnel* tells whether the VXLAN link is there.
    """

    name = "routes"

    def __init__(
        self,
        *,
        addresses: Collection[IPAddress] = (),
        foreign: Collection[RouteKey] = (),
        has_tunnel: bool = True,
    ) -> None:
        self._addresses = frozenset(addresses)
        self._foreign = frozenset(foreign)
        self._has_tunnel = has_tunnel
        self._routes: dict[RouteKey, Route] = {}

    async def read(self) -> Mapping[RouteKey, Route]:
        """Return a copy of the routes."""
        return dict(self._routes)

    async def apply(self, change: Delta[RouteKey, Route]) -> None:
        """Remove, then upsert; a refused route does not hold up the others."""
        refusals: list[str] = []
        for key in change.removals:
            self._routes.pop(key, None)
        for key, route in change.upserts.items():
            if refusal := self._refusal(key, route):
                refusals.append(f"{key}: {refusal}")
            else:
                self._routes[key] = route
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)

    def _refusal(self, key: RouteKey, route: Route) -> str | None:
        if isinstance(route, UnknownRoute):
            return f"not a route that we make: {route.form}"
        if isinstance(route, TunnelRoute) and not self._has_tunnel:
            return f"there is no link {TUNNEL}"
        if isinstance(route, TunnelRoute | LocalRoute):
            source: IPAddress = route.source
            if isinstance(route, TunnelRoute) and key.destination.version == 6:
                source = node6(route.source)
            if source not in self._addresses:
                return "the kernel says EINVAL"
        if key in self._foreign:
            return "there is a route that is not ours"
        return None
