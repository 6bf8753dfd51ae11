"""Errors and deaths at every step of a pass, and changes in any order: the tables end the same."""

from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from pyroute2 import IPRoute
from tests.netns.conftest import ip

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.core.reconcile.reconciler import Reconciler, Table
from phalanx.net.address.kernel import KernelAddresses
from phalanx.net.model.objects import Network, Node, Object, SubnetLease, node6
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

T = TypeVar("T")

ME = IPv4Address("198.18.0.1")
VIPS, VIPS6 = IPv4Network("11.0.0.0/8"), IPv6Network("fd01:c::/64")
NETWORKS = [
    Network(
        "dcos",
        IPv4Network("9.0.0.0/8"),
        24,
        1024,
        1450,
        subnet6=IPv6Network("fd01:b::/64"),
        prefix6=80,
    ),
    Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1500),
]
NODES = [Node(ME + number, f"n{number}") for number in range(5)]
LEASES = [
    SubnetLease(
        "dcos",
        node.address,
        IPv4Network((int(IPv4Address("9.0.0.0")) + (number << 8), 24)),
        IPv6Network((int(IPv6Network("fd01:b::/64")[0]) + (number << 48), 80)),
    )
    for number, node in enumerate(NODES)
]
OBJECTS: list[Object] = [*NETWORKS, *NODES, *LEASES]
VIEW = View().changed(OBJECTS)
EARLIER = View().changed([NETWORKS[0], *NODES[:3], *LEASES[:3]])


class Fuse:
    """Lets so many steps pass and fails the next, or with None all."""

    def __init__(self, steps: int | None = None) -> None:
        self.left = steps
        self.taken = 0

    def burn(self) -> None:
        self.taken += 1
        if self.left is not None:
            if not self.left:
                self.left = None
                raise DataplaneError("injected", table="fuse")
            self.left -= 1


class FusedRtnl(Rtnl):
    """An Rtnl that fails where its fuse says."""

    def __init__(self, netns: Path, fuse: Fuse) -> None:
        super().__init__(netns=netns)
        self._fuse = fuse

    async def call(self, function: Callable[[IPRoute], T]) -> T:
        self._fuse.burn()
        return await super().call(function)


class FusedNft(Nft):
    """An Nft that fails where its fuse says."""

    def __init__(self, netns: Path, fuse: Fuse) -> None:
        super().__init__(netns=netns)
        self._fuse = fuse

    async def run(self, script: str, *, table: str) -> None:
        self._fuse.burn()
        await super().run(script, table=table)

    async def read(
        self, command: str, *, table: str, with_elements: bool = True
    ) -> Sequence[dict[str, Any]]:
        self._fuse.burn()
        return await super().read(command, table=table, with_elements=with_elements)


class Overlay:
    """The tables of a node that has just started: it remembers nothing."""

    def __init__(self, ns: str, fuse: Fuse, *, has_ipv6: bool = True) -> None:
        self._has_ipv6 = has_ipv6
        netns = Path("/run/netns", ns)
        rtnl, nft = FusedRtnl(netns, fuse), FusedNft(netns, fuse)
        self._handles: list[Rtnl | Nft] = [rtnl, nft]
        self.view = View()
        settings = desired_settings(has_ipv6=has_ipv6)
        senders, routes = KernelSetTable(nft, SENDERS), KernelRoutes(rtnl)
        rules, links = KernelRules(rtnl), KernelLinks(rtnl)
        self._reads: list[tuple[Dataplane[Any, Any], Callable[[], Mapping[Any, Any]]]] = [
            (senders, lambda: desired_senders(self.view, node=ME)),
            (links, lambda: desired_links(self.view)),
            (ProcSettings(rtnl, settings), lambda: settings),
            (KernelAddresses(rtnl), lambda: {node6(ME): None} if has_ipv6 else {}),
            (rules, lambda: desired_rules(self.view)),
            (routes, lambda: self._routes(self.view)),
        ]
        plain: list[Table] = [Reconciler(table, desired) for table, desired in self._reads]
        first = IncrementalReconciler(
            senders,
            lambda: self.view,
            lambda v: desired_senders(v, node=ME),
            lambda old, new: changed_senders(old, new, node=ME),
        )
        last = IncrementalReconciler(
            routes,
            lambda: self.view,
            self._routes,
            lambda old, new: changed_routes(old, new, node=ME, has_ipv6=has_ipv6),
        )
        self._tables: list[Table] = [first, *plain[1:-1], last]

    def _routes(self, view: View) -> Mapping[Any, Any]:
        return desired_routes(
            view, node=ME, vip_range=VIPS, vip_range6=VIPS6, has_ipv6=self._has_ipv6
        )

    async def follow(self, view: View, *, resync: bool = False) -> bool:
        """Make one pass for *view*; return whether all tables hold it."""
        self.view = view
        return all([await table.reconcile_once(resync=resync) for table in self._tables])

    async def held(self) -> bool:
        """Tell whether what the kernel has, read back, is what the View asks for."""
        return all([await table.read() == desired() for table, desired in self._reads])

    def close(self) -> None:
        for handle in self._handles:
            handle.close()


def begin(ns: str) -> None:
    ip("-n", ns, "addr", "add", f"{ME}/16", "dev", "lo")


async def steps_of(ns: str) -> int:
    """Return how many steps a pass from *EARLIER* to *VIEW* has, the first included."""
    fuse = Fuse()
    overlay = Overlay(ns, fuse)
    try:
        assert await overlay.follow(EARLIER, resync=True)
        assert await overlay.follow(VIEW)
        steps = fuse.taken
        assert await overlay.held()
        return steps
    finally:
        overlay.close()


async def test_error_at_any_step_is_made_good_by_the_next_pass(ns: str) -> None:
    begin(ns)
    for step in range(await steps_of(ns)):
        ip("-n", ns, "link", "delete", "phx-vxlan")
        fuse = Fuse(step)
        overlay = Overlay(ns, fuse)
        try:
            await overlay.follow(EARLIER, resync=True)
            await overlay.follow(VIEW)
            fuse.left = None
            assert await overlay.follow(VIEW)

            assert await overlay.held(), f"after an error in step {step}"
        finally:
            overlay.close()


async def test_death_at_any_step_is_made_good_by_the_successor(ns: str) -> None:
    begin(ns)
    for step in range(await steps_of(ns)):
        ip("-n", ns, "link", "delete", "phx-vxlan")
        dead = Overlay(ns, Fuse(step))
        try:
            for view in (EARLIER, VIEW):
                if not await dead.follow(view):
                    break  # the tables after the one that failed are what a death leaves undone
        finally:
            dead.close()
        overlay = Overlay(ns, Fuse())
        try:
            assert await overlay.follow(VIEW)

            assert await overlay.held(), f"after a death in step {step}"
        finally:
            overlay.close()


async def test_node_whose_links_begin_without_ipv6_has_it_where_it_is_needed(ns: str) -> None:
    begin(ns)
    names = ("all", "default", "lo")
    switched_off = [f"net.ipv6.conf.{name}.disable_ipv6=1" for name in names]
    ip("netns", "exec", ns, "sysctl", "-qw", *switched_off)
    overlay = Overlay(ns, Fuse())
    try:
        assert await overlay.follow(VIEW, resync=True)

        assert await overlay.held()
    finally:
        overlay.close()


async def test_node_without_ipv6_has_the_rest(ns: str) -> None:
    begin(ns)
    overlay = Overlay(ns, Fuse(), has_ipv6=False)
    try:
        assert await overlay.follow(VIEW, resync=True)
        assert await overlay.held()
    finally:
        overlay.close()

    assert "fd0" not in ip("-n", ns, "-6", "route") + ip("-n", ns, "-6", "address")


@pytest.mark.parametrize("seed", range(4))
async def test_changes_in_any_order_lead_to_the_same_tables(ns: str, seed: int) -> None:
    rng = Random(seed)
    begin(ns)
    overlay = Overlay(ns, Fuse())
    try:
        assert await overlay.follow(View().changed(NETWORKS), resync=True)
        objects: list[Node | SubnetLease] = [*NODES, *LEASES] * 2
        rng.shuffle(objects)
        for item in objects:
            removals = [(item.kind, item.key)] if rng.random() < 0.3 else []
            view = overlay.view.changed([] if removals else [item], removals)
            assert await overlay.follow(view)
            assert await overlay.held()
        assert await overlay.follow(VIEW)

        assert await overlay.held()
    finally:
        overlay.close()
