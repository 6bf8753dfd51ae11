"""Ten thousand nodes on three networks: what a node programs, and what a packet pays."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from statistics import median
from typing import Any

import overlay_packets
from bench_netns import made_netns, run_in
from claim import Bound, Figure

from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.core.reconcile.reconciler import Reconciler, Table
from phalanx.net.address.kernel import KernelAddresses
from phalanx.net.model.objects import Network, Node, SubnetLease, node6
from phalanx.net.model.view import View
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
from phalanx.net.overlay.route.kernel import KernelRoutes
from phalanx.net.overlay.rule.kernel import KernelRules
from phalanx.net.overlay.senders import SENDERS
from phalanx.net.overlay.setting.proc import ProcSettings
from phalanx.net.rtnl.kernel import Rtnl

REMOTES, NETWORKS = 10_000, 3
CHANGES = 20
ME = IPv4Address("198.18.0.1")
VTEP_MAC = "70:b3:d5:{:02x}:{:02x}:{:02x}"


def measure() -> Sequence[Figure]:
    """Return the figures: tables first, then packets."""
    return [*_tables(), *overlay_packets.measure()]


# What a node programs


def view_of(*, has_ipv6: bool, remotes: int) -> View:
    """Return a cluster of this node and *remotes* others, each with a lease of every network."""
    networks = [
        Network(
            f"n{number}",
            IPv4Network((9 + number << 24, 8)),
            24,
            1024 + number,
            1450,
            subnet6=IPv6Network((0xFD01 << 112 | 0xB0 + number << 96, 64)) if has_ipv6 else None,
            prefix6=80 if has_ipv6 else 0,
        )
        for number in range(NETWORKS)
    ]
    return View().changed([*networks, *node_of(networks, 0)]).changed(
        [item for number in range(1, remotes + 1) for item in node_of(networks, number)]
    )  # fmt: skip


def node_of(networks: Sequence[Network], number: int) -> list[Node | SubnetLease]:
    """Return a node and its lease of each network."""
    address = ME + number
    leases = [
        SubnetLease(
            network.name,
            address,
            None if (four := network.subnet) is None else IPv4Network(
                (int(four[0]) + (number << 8), 24)
            ),
            None if (six := network.subnet6) is None else IPv6Network(
                (int(six[0]) + (number << 48), 80)
            ),
        )
        for network in networks
    ]  # fmt: skip
    return [Node(address, f"node{number}", agent_id=f"S{number}"), *leases]


class _Tables:
    """The overlay's tables of one node, in a namespace."""

    def __init__(self, netns: str, *, has_ipv6: bool) -> None:
        place = Path("/run/netns", netns)
        self._rtnl, self._nft = Rtnl(netns=place), Nft(netns=place)
        self._view = View()
        settings = desired_settings(has_ipv6=has_ipv6)
        self._tables: list[Table] = [
            IncrementalReconciler(
                KernelSetTable(self._nft, SENDERS),
                lambda: self._view,
                lambda v: desired_senders(v, node=ME),
                lambda old, new: changed_senders(old, new, node=ME),
            ),
            Reconciler(KernelLinks(self._rtnl), lambda: desired_links(self._view)),
            Reconciler(ProcSettings(self._rtnl, settings), lambda: settings),
            Reconciler(KernelAddresses(self._rtnl), lambda: {node6(ME): None} if has_ipv6 else {}),
            Reconciler(KernelRules(self._rtnl), lambda: desired_rules(self._view)),
            IncrementalReconciler(
                KernelRoutes(self._rtnl),
                lambda: self._view,
                lambda v: desired_routes(v, node=ME, has_ipv6=has_ipv6),
                lambda old, new: changed_routes(old, new, node=ME, has_ipv6=has_ipv6),
            ),
        ]

    async def reconcile(self, view: View, *, resync: bool) -> float:
        """Make one pass over all tables; return the seconds that it took."""
        self._view = view
        begun = time.perf_counter()
        for table in self._tables:
            if not await table.reconcile_once(resync=resync):
                raise SystemExit(f"{table.name}: the kernel refused")
        return time.perf_counter() - begun

    def close(self) -> None:
        self._rtnl.close()
        self._nft.close()


def _tables() -> Sequence[Figure]:
    figures = []
    for has_ipv6, what in ((False, "IPv4"), (True, "IPv4 and IPv6")):
        view = view_of(has_ipv6=has_ipv6, remotes=REMOTES)
        with ExitStack() as stack:
            whole, join, leave = _in_new(stack, lambda ns, v=view, h=has_ipv6: _program(ns, v, h))
            classic = _in_new(stack, lambda ns, h=has_ipv6: _classic(ns, has_ipv6=h))
        name = f"{REMOTES} remotes x {NETWORKS} networks, {what}"
        figures += [
            Figure(f"{name}, from nothing", "s", whole, Bound.OURS_AT_MOST, 10.0, classic),
            Figure(f"{name}: one joins", "ms", join * 1e3, Bound.OURS_AT_MOST, 10.0),
            Figure(f"{name}: one leaves", "ms", leave * 1e3, Bound.OURS_AT_MOST, 10.0),
        ]
    return figures


async def _program(netns: str, view: View, has_ipv6: bool) -> tuple[float, float, float]:
    tables = _Tables(netns, has_ipv6=has_ipv6)
    try:
        whole = await tables.reconcile(view, resync=True)
        joins, leaves = [], []
        networks = list(view.networks.values())
        for number in range(CHANGES):
            comer = node_of(networks, REMOTES + 1 + number)
            larger = view.changed(comer)
            joins.append(await tables.reconcile(larger, resync=False))
            view = larger.changed([], [(item.kind, item.key) for item in comer])
            leaves.append(await tables.reconcile(view, resync=False))
    finally:
        tables.close()
    return whole, median(joins), median(leaves)


async def _classic(netns: str, *, has_ipv6: bool) -> float:
    """Return the seconds that iproute2 takes to program classic VXLAN: the peer.

    A node is a neighbour and a forwarding entry, and a route for each network.
    """
    run_in(netns, "ip", "link", "add", "vtep", "type", "vxlan", "id", "1024", "dstport", "64001")
    run_in(netns, "ip", "addr", "add", "44.0.0.1/8", "dev", "vtep")
    run_in(netns, "ip", "link", "set", "vtep", "up")
    if has_ipv6:
        run_in(netns, "ip", "addr", "add", "fd44::1/64", "dev", "vtep", "nodad")
    entries, neighbours, routes = [], [], []
    for number in range(1, REMOTES + 1):
        mac = VTEP_MAC.format(number >> 16, number >> 8 & 255, number & 255)
        vtep, vtep6 = IPv4Address("44.0.0.1") + number, f"fd44::{number + 1:x}"
        entries.append(f"fdb append {mac} dev vtep dst {ME + number}")
        neighbours.append(f"neigh replace {vtep} lladdr {mac} dev vtep nud permanent")
        for network in range(NETWORKS):
            subnet = IPv4Address((9 + network << 24) + (number << 8))
            routes.append(f"route replace {subnet}/24 via {vtep} dev vtep onlink")
        if has_ipv6:
            neighbours.append(f"neigh replace {vtep6} lladdr {mac} dev vtep nud permanent")
            for network in range(NETWORKS):
                routes.append(
                    f"-6 route replace fd01:b{network:x}:0:0:{number:x}::/80 via {vtep6} dev vtep"
                    " onlink"
                )
    ipv4 = [line for line in routes if not line.startswith("-6")]
    ipv6 = [line.removeprefix("-6 ") for line in routes if line.startswith("-6")]
    begun = time.perf_counter()
    run_in(netns, "bridge", "-batch", "-", stdin="\n".join(entries))
    run_in(netns, "ip", "-batch", "-", stdin="\n".join([*neighbours, *ipv4]))
    if ipv6:
        run_in(netns, "ip", "-6", "-batch", "-", stdin="\n".join(ipv6))
    return time.perf_counter() - begun


def _in_new(stack: ExitStack, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:  # noqa: ANN401 - whatever the work says
    """Do *work* in a fresh namespace that has this node's address."""
    netns = made_netns(stack, "tables")
    run_in(netns, "ip", "addr", "add", f"{ME}/16", "dev", "lo")
    # The kernel keeps fewer neighbours than a classic overlay of this size needs.
    for family in ("ipv4", "ipv6"):
        for name in ("gc_thresh3", "gc_thresh2"):
            path = Path(f"/proc/sys/net/{family}/neigh/default/{name}")
            before = path.read_text()
            stack.callback(path.write_text, before)
            path.write_text(str(max(int(before), 8 * REMOTES)))
    return asyncio.run(work(netns))
