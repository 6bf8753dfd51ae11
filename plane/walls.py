"""What the isolation table of this node holds: policies, and the fence around the node."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from phalanx.core.reconcile.delta import delta
from phalanx.lb.ledger import Services
from phalanx.lb.service import Vip
from phalanx.net.isolation.desired import Isolation
from phalanx.net.isolation.fence import desired_fence
from phalanx.net.model.objects import IPNetwork, Task
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.nft.staged import Staged
from phalanx.plane.config import PlaneConfig

REMEMBERED = 2  # Views: the one that the table holds and the one that it shall hold


class Walls:
    """Desired elements, and what a change of the View changes in them."""

    def __init__(self, config: PlaneConfig) -> None:
        self._config = config
        self._known: list[Isolation] = []

    def desired(self, services: Services) -> Mapping[Element, None]:
        """Return all elements, with the VIPs that a load balancer serves."""
        return self._isolation(services.view).elements | self._fence(services)

    def desired_of(self, view: View, vips: Iterable[Vip]) -> Mapping[Element, None]:
        """Return all elements of a View; *vips* are those outside of the node's pools."""
        return self._isolation(view).elements | self._fence_of(view, vips)

    def changed(self, before: Services, after: Services) -> Staged:
        """Return what the elements of *after* have otherwise."""
        old = self._isolation(before.view)
        new, change = old.follow(after.view)
        self._remember(new)
        if before.here is after.here and before.outside is after.outside:
            node = str(self._config.ip)
            if before.view.nodes.get(node) is after.view.nodes.get(node):
                return change
        fence = delta(self._fence(after), self._fence(before))
        return Staged(
            {**change.upserts, **fence.upserts},
            change.removals | fence.removals,
            (*change.stages, *([fence] if fence else [])),
        )

    def _isolation(self, view: View) -> Isolation:
        """Return the elements of a View; what is known of the last ones is not found again."""
        for each in self._known:
            if each.view is view:
                return each
        last = self._known[-1] if self._known else Isolation()
        found, _ = last.follow(view)
        self._remember(found)
        return found

    def _remember(self, isolation: Isolation) -> None:
        self._known = [*self._known, isolation][-REMEMBERED:]

    def _fence(self, services: Services) -> dict[Element, None]:
        return self._fence_of(services.view, services.outside, services.here.values())

    def _fence_of(
        self, view: View, vips: Iterable[Vip], tasks: Iterable[Task] | None = None
    ) -> dict[Element, None]:
        config = self._config
        pools: list[IPNetwork] = [config.vip_range, config.vip_range6]
        outside = [
            ip_network(vip.address) for vip in vips if not any(vip.address in p for p in pools)
        ]
        return desired_fence(
            view,
            node=config.ip,
            services=config.reachable,
            resolvers=config.resolvers,
            vips=[*pools, *outside],
            tasks=tasks,
        )
