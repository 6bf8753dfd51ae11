"""Which tables a node has, in which order, and which pure function says what each holds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeVar

from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta, delta, only
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.core.reconcile.reconciler import Reconciler, Table
from phalanx.lb.choose import choose_services
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.layout import NAME as IPVS_TABLE
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.ledger import Services
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
from phalanx.net.model.objects import IPAddress, Protocol, node6
from phalanx.net.model.view import View
from phalanx.net.nat.desired import changed_nat, desired_nat
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
from phalanx.net.overlay.senders import SENDERS, senders_layout
from phalanx.net.overlay.setting.proc import ProcSettings
from phalanx.net.overlay.underlay import Underlay
from phalanx.net.rtnl.kernel import Rtnl
from phalanx.plane.cni.config import desired_config_files
from phalanx.plane.cni.directory import CniConfigFiles
from phalanx.plane.config import PlaneConfig
from phalanx.plane.walls import Walls

K = TypeVar("K")
S = TypeVar("S")
V = TypeVar("V")

Tables = Sequence[Table]
Balancer = IncrementalReconciler[Services, Vip, Service]

NFT_TABLES = (  # ours, by name
    *(SENDERS.table, ISOLATION.table, NAT.table),
    *(LB_TABLE, TRAFFIC_TABLE, IPVS_TABLE),
)


def build_tables(
    config: PlaneConfig,
    view: Callable[[], View | None],
    services: Callable[[], Services | None],
    is_much: Callable[[], bool],
    *,
    rtnl: Rtnl,
    nft: Nft,
    links: AttachedLinks,
) -> tuple[Tables, Balancer, ReadTraffic]:
    """Return all tables of a node in the order of a pass, the load balancer's, and its counters.

    *view* returns the View of the pass under way, *services* what it asks of the load balancer,
    *is_much* whether it differs so much from the one before that a thread is to look.
    """
    node = config.ip
    pool = config.vip_range
    settings = desired_settings(has_ipv6=config.has_ipv6)
    addresses: dict[IPAddress, None] = dict.fromkeys(config.resolvers)
    if config.has_ipv6:
        addresses[node6(node)] = None
    settings_of_lo = {name: each for name, each in settings.items() if "/lo/" in name}
    settings_of_links = {name: settings[name] for name in settings.keys() - settings_of_lo.keys()}
    balancer, leftovers = choose_services(
        config.lb, nft, pool=pool, pool6=config.vip_range6, node=node
    )
    is_local_only = isinstance(balancer, IpvsServices)  # sees only what is for this node
    counts = NftablesTraffic(nft, is_wanted=not is_local_only, has_bytes=config.lb_count_bytes)
    held = IncrementalReconciler(
        balancer,
        services,
        lambda each: each.by_vip,
        changed_services,
        is_known=balancer.is_known,
        aside=is_much,
    )
    walls = Walls(config)
    underlay = Underlay(node)

    def own(known: Services) -> dict[RouteKey, Route]:
        vips = known.outside if is_local_only else claimed(known.outside)
        return routes_to_own(vips, node=node, has_ipv6=config.has_ipv6)

    def routes(known: Services) -> Mapping[RouteKey, Route]:
        return own(known) | desired_routes(
            known.view,
            node=node,
            vip_range=pool,
            vip_range6=config.vip_range6,
            has_ipv6=config.has_ipv6,
        )

    def routes_after(before: Services, after: Services) -> Delta[RouteKey, Route] | None:
        change = changed_routes(before.view, after.view, node=node, has_ipv6=config.has_ipv6)
        if change is None or before.outside is after.outside:
            return change
        more = delta(own(after), own(before))
        return Delta({**change.upserts, **more.upserts}, change.removals | more.removals)

    tables: list[Table] = [
        # Who may send into the tunnel, before there is one.
        IncrementalReconciler(
            KernelSetTable(nft, senders_layout(config.peer_port)),
            view,
            lambda v: desired_senders(v, node=node),
            lambda old, new: changed_senders(old, new, node=node),
            aside=is_much,
        ),
        # The link that routes lead into, and the node's own addresses, which they start from.
        _table(KernelLinks(rtnl), view, lambda v: desired_links(v, underlay_mtu=underlay.mtu())),
        _table(
            ProcSettings(rtnl, settings_of_lo, name="settings of lo"),
            view,
            lambda _: settings_of_lo,
            at_first=settings_of_lo,
        ),
        _table(ProcSettings(rtnl, settings_of_links), view, lambda _: settings_of_links),
        _table(KernelAddresses(rtnl), view, lambda _: addresses, at_first=addresses),
        # Walls stand before there is a way through them.
        IncrementalReconciler(
            # A policy may concern every container of the cluster.
            KernelSetTable(nft, ISOLATION),
            services,
            walls.desired,
            walls.changed,
            aside=lambda: True,
        ),
        IncrementalReconciler(
            KernelSetTable(nft, NAT),
            view,
            lambda v: desired_nat(v, node=node),
            lambda old, new: changed_nat(old, new, node=node),
            aside=is_much,
        ),
        _table(KernelRules(rtnl), view, desired_rules),
        IncrementalReconciler(KernelRoutes(rtnl), services, routes, routes_after, aside=is_much),
        # Backends are reachable now; names follow after the pass.
        held,
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
        return tables, held, traffic_of_ipvs(balancer)
    return tables, held, traffic_of_nftables(counts, Flows())


def changed_services(before: Services, after: Services) -> Delta[Vip, Service] | None:
    """Return what leads from one step of a ledger to the next, None for steps that are apart."""
    if after.number != before.number + 1:
        return None
    return only(after.changed, after.by_vip)


def routes_to_own(
    vips: Iterable[Vip], *, node: IPv4Address, has_ipv6: bool = True
) -> dict[RouteKey, Route]:
    """Return local routes to *vips*, which no route to a whole range leads to."""
    return dict(
        _route_to(address, node)
        for address in {vip.address for vip in vips}
        if has_ipv6 or address.version == 4
    )


def claimed(services: Mapping[Vip, Service]) -> Iterator[Vip]:
    """Yield VIPs outside of the ranges that a node needs a route to, where rules translate.

    Those that refuse datagrams: a node's own must come back to it to be answered. And those of
    IPv6, which many a node has no default route of.
    """
    for vip, service in services.items():
        is_refusing = vip.protocol is Protocol.UDP and service.is_refused
        if is_refusing or vip.address.version == 6:
            yield vip


def _route_to(address: IPAddress, node: IPv4Address) -> tuple[RouteKey, Route]:
    if isinstance(address, IPv6Address):
        key = RouteKey(TABLE_LOCAL, IPv6Network(address), METRIC6)
        return key, LocalRoute(source=node6(node))
    return RouteKey(TABLE_LOCAL, IPv4Network(address)), LocalRoute(source=node)


def _table(
    dataplane: Dataplane[K, V],
    state: Callable[[], S | None],
    desired: Callable[[S], Mapping[K, V]],
    *,
    at_first: Mapping[K, V] | None = None,
) -> Reconciler[K, V]:
    """Return a table's reconciler; *at_first* is what it holds before anything is known."""

    def ask() -> Mapping[K, V] | None:
        known = state()
        return at_first if known is None else desired(known)

    return Reconciler(dataplane, ask)
