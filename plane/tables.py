"""Which tables a node has, in which order, and which pure function says what each holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.core.reconcile.reconciler import Reconciler, Table
from phalanx.lb.choose import choose_services
from phalanx.lb.desired import desired_services
from phalanx.lb.ipvs.layout import NAME as IPVS_TABLE
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.ruleset import NAME as LB_TABLE
from phalanx.lb.nftables.traffic import NAME as TRAFFIC_TABLE
from phalanx.lb.nftables.traffic import RULES as RULES_OF_TRAFFIC
from phalanx.lb.nftables.traffic import NftablesTraffic
from phalanx.lb.service import Service, Vip
from phalanx.lb.traffic import ReadTraffic, traffic_of_ipvs, traffic_of_nftables
from phalanx.net.address.kernel import KernelAddresses
from phalanx.net.attachment.bridge import desired_bridges
from phalanx.net.attachment.bridges import KernelBridges
from phalanx.net.attachment.kernel import KernelLinks as AttachedLinks
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import IPAddress, IPNetwork, Protocol, node6
from phalanx.net.model.view import View
from phalanx.net.nat.desired import desired_nat
from phalanx.net.nat.layout import NAT
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable
from phalanx.net.overlay.change import changed_routes, changed_senders
from phalanx.net.overlay.desired import (
    desired_links,
    desired_routes,
    desired_rules,
    desired_senders,
    desired_settings,
)
from phalanx.net.overlay.link.kernel import KernelLinks
from phalanx.net.overlay.mark import METRIC6, TABLE_LOCAL
from phalanx.net.overlay.route.kernel import KernelRoutes
from phalanx.net.overlay.route.value import LocalRoute, Route, RouteKey
from phalanx.net.overlay.rule.kernel import KernelRules
from phalanx.net.overlay.senders import SENDERS
from phalanx.net.overlay.setting.proc import ProcSettings
from phalanx.net.overlay.underlay import underlay_mtu
from phalanx.net.rtnl.kernel import Rtnl
from phalanx.plane.cni.config import desired_config_files
from phalanx.plane.cni.directory import CniConfigFiles
from phalanx.plane.config import PlaneConfig
from phalanx.plane.walls import Walls

K = TypeVar("K")
V = TypeVar("V")

Tables = Sequence[Table]

NFT_TABLES = (  # ours, by name
    *(SENDERS.table, ISOLATION.table, NAT.table),
    *(LB_TABLE, TRAFFIC_TABLE, IPVS_TABLE),
)


def build_tables(
    config: PlaneConfig,
    view: Callable[[], View | None],
    *,
    rtnl: Rtnl,
    nft: Nft,
    links: AttachedLinks,
) -> tuple[Tables, Reconciler[Vip, Service], ReadTraffic]:
    """Return all tables of a node in the order of a pass, the load balancer's, and its counters.

    *view* returns the View of the pass under way.
    """
    node = config.ip
    pool = config.vip_range
    settings = desired_settings(has_ipv6=config.has_ipv6)
    addresses: dict[IPAddress, None] = dict.fromkeys(config.dns_listen)
    if config.has_ipv6:
        addresses[node6(node)] = None
    balancer, leftovers = choose_services(
        config.lb, nft, pool=pool, pool6=config.vip_range6, node=node
    )
    is_local_only = isinstance(balancer, IpvsServices)  # sees only what is for this node
    counts = NftablesTraffic(nft)
    wanted = _last(lambda v: desired_services(v, node=node))
    services = _table(balancer, view, wanted)
    walls = Walls(config)
    own = _last(
        lambda v: routes_to_own(
            wanted(v) if is_local_only else refused_datagrams(wanted(v)),
            node=node,
            pools=(pool, config.vip_range6),
            has_ipv6=config.has_ipv6,
        ),
        count=2,
    )

    def routes(known: View) -> Mapping[RouteKey, Route]:
        return own(known) | desired_routes(
            known,
            node=node,
            vip_range=pool,
            vip_range6=config.vip_range6,
            has_ipv6=config.has_ipv6,
        )

    def routes_after(before: View, after: View) -> Delta[RouteKey, Route] | None:
        change = changed_routes(before, after, node=node, has_ipv6=config.has_ipv6)
        if change is None:
            return None
        more = delta(own(after), own(before))
        return Delta({**change.upserts, **more.upserts}, change.removals | more.removals)

    tables: list[Table] = [
        # Who may send into the tunnel, before there is one.
        IncrementalReconciler(
            KernelSetTable(nft, SENDERS),
            view,
            lambda v: desired_senders(v, node=node),
            lambda old, new: changed_senders(old, new, node=node),
        ),
        # The link that routes lead into, and the node's own addresses, which they start from.
        _table(
            KernelLinks(rtnl), view, lambda v: desired_links(v, underlay_mtu=underlay_mtu(node))
        ),
        _table(ProcSettings(rtnl, settings.keys()), view, lambda _: settings),
        _table(KernelAddresses(rtnl), view, lambda _: addresses, is_static=True),
        # Walls stand before there is a way through them.
        _table(KernelSetTable(nft, ISOLATION), view, lambda v: walls.desired(v, wanted(v))),
        _table(KernelSetTable(nft, NAT), view, lambda v: desired_nat(v, node=node)),
        _table(KernelRules(rtnl), view, desired_rules),
        IncrementalReconciler(KernelRoutes(rtnl), view, routes, routes_after),
        # Backends are reachable now; names follow after the pass.
        services,
        _table(leftovers, view, lambda _: {}),
        _table(counts, view, lambda _: {} if is_local_only else {RULES_OF_TRAFFIC: None}),
    ]
    if config.cni_config_dir is not None:
        # Last: from here on containers may come.
        tables += [
            _table(KernelBridges(links), view, lambda v: desired_bridges(v, node=node)),
            _table(
                CniConfigFiles(config.cni_config_dir),
                view,
                lambda v: desired_config_files(v, node=node, socket=str(config.cni_socket)),
            ),
        ]
    if isinstance(balancer, IpvsServices):
        return tables, services, traffic_of_ipvs(balancer)
    return tables, services, traffic_of_nftables(counts)


def routes_to_own(
    services: Iterable[Vip],
    *,
    node: IPv4Address,
    pools: Sequence[IPNetwork],
    has_ipv6: bool = True,
) -> dict[RouteKey, Route]:
    """Return local routes to the VIPs outside of *pools*, each of which has one for all."""
    addresses = {vip.address for vip in services}
    return {
        key: route
        for address in addresses
        if not any(address in pool for pool in pools)
        for key, route in [_route_to(address, node)]
        if has_ipv6 or address.version == 4
    }


def refused_datagrams(services: Mapping[Vip, Service]) -> Iterator[Vip]:
    """Yield VIPs that refuse datagrams: a node's own must come back to it to be answered."""
    for vip, service in services.items():
        if vip.protocol is Protocol.UDP and service.is_refused:
            yield vip


def _route_to(address: IPAddress, node: IPv4Address) -> tuple[RouteKey, Route]:
    if isinstance(address, IPv6Address):
        key = RouteKey(TABLE_LOCAL, IPv6Network(address), METRIC6)
        return key, LocalRoute(source=node6(node))
    return RouteKey(TABLE_LOCAL, IPv4Network(address)), LocalRoute(source=node)


def _last(function: Callable[[View], V], *, count: int = 1) -> Callable[[View], V]:
    """Return *function*, not computed again for the last *count* Views that it was asked about."""
    known: list[tuple[View, V]] = []

    def ask(view: View) -> V:
        for asked, value in known:
            if asked is view:
                return value
        value = function(view)
        known[:] = [*known, (view, value)][-count:]
        return value

    return ask


def _table(
    dataplane: Dataplane[K, V],
    view: Callable[[], View | None],
    desired: Callable[[View], Mapping[K, V]],
    *,
    is_static: bool = False,
) -> Reconciler[K, V]:
    """Return a table's reconciler; one that is static needs no View to know what it holds."""

    def ask() -> Mapping[K, V] | None:
        known = view()
        if known is None:
            return desired(View()) if is_static else None
        return desired(known)

    return Reconciler(dataplane, ask)
