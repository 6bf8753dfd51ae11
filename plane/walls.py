"""What the isolation table of this node holds: policies, and the fence around the node."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from phalanx.lb.service import Vip
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.fence import desired_fence
from phalanx.net.model.objects import IPNetwork, Task
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.plane.config import PlaneConfig


class Walls:
    """Desired elements; policies are not compiled anew while nothing that they name changes."""

    def __init__(self, config: PlaneConfig) -> None:
        self._config = config
        self._compiled: tuple[View, dict[Element, None]] | None = None

    def desired(
        self, view: View, vips: Iterable[Vip], tasks: Iterable[Task] | None = None
    ) -> Mapping[Element, None]:
        """Return all elements; *vips* are those that a load balancer serves.

        *tasks* are the node's own; None lets them be found among all.
        """
        config = self._config
        pools: list[IPNetwork] = [config.vip_range, config.vip_range6]
        outside = [
            ip_network(vip.address) for vip in vips if not any(vip.address in p for p in pools)
        ]
        return self._policies(view) | desired_fence(
            view,
            node=config.ip,
            services=config.reachable,
            resolvers=config.dns_listen,
            vips=[*pools, *outside],
            tasks=tasks,
        )

    def _policies(self, view: View) -> dict[Element, None]:
        if self._compiled is not None:
            old, elements = self._compiled
            if (
                old.networks is view.networks
                and old.policies is view.policies
                and (old.tasks is view.tasks or not view.policies)
            ):
                return elements
        elements = desired_isolation(view)
        self._compiled = view, elements
        return elements
