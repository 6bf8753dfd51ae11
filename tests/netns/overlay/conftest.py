"""Two nodes, a master and the world around one router, in namespaces; containers on bridges.

    d1 b1          d2 b2
      n1    m1       n2     out
      |     |        |       |
   198.18.1.0/24  .2.0/24  192.0.2.0/24
          \\________ | ______/
                  router      (drops whatever has an address of neither kind)

tests/netns/isolation/conftest.py is a link to this file; the walls stand there only.
"""

import json
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.labs.wait import wait_until
from phalanx.net.address.kernel import KernelAddresses
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import node6
from phalanx.net.model.view import View
from phalanx.net.nat.desired import desired_nat
from phalanx.net.nat.layout import NAT
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable
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
from phalanx.net.overlay.underlay import underlay_mtu
from phalanx.net.rtnl.kernel import Rtnl

TIMEOUT_SECONDS = 60.0  # on a machine with much other work
HAS_WALLS = Path(__file__).parent.name == "isolation"
VIP_RANGE = IPv4Network("11.0.0.0/8")
VIP_RANGE6 = IPv6Network("fd01:c::/64")
SERVICE_ADDRESS = IPv4Address("198.51.100.1")

NODES = {"n1": "198.18.1.1", "m1": "198.18.1.3", "n2": "198.18.2.2"}
GATEWAYS = {"n1": "198.18.1.254", "m1": "198.18.1.254", "n2": "198.18.2.254"}
CONTAINERS = {  # name: node, bridge, address
    "d1": ("n1", "phx-1024", "9.0.1.2"),
    "e1": ("n1", "phx-1024", "9.0.1.3"),
    "b1": ("n1", "phx-1025", "10.20.1.2"),
    "d2": ("n2", "phx-1024", "9.0.2.2"),
    "b2": ("n2", "phx-1025", "10.20.2.2"),
}
CONTAINERS6 = {
    "d1": "fd01:b:0:0:1::2",
    "e1": "fd01:b:0:0:1::3",
    "b1": "fd02:b:0:0:1::2",
    "d2": "fd01:b:0:0:2::2",
    "b2": "fd02:b:0:0:2::2",
}
ROUTER_RULES = """
table inet guard {
  counter refused { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr { 198.18.0.0/15, 192.0.2.0/24 } ip daddr { 198.18.0.0/15, 192.0.2.0/24 } accept
    ip6 version 6 drop
    counter name refused drop
  }
}
"""

Names = Mapping[str, str]


def _run(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, check=True, capture_output=True, text=True)
    return done.stdout


def _hears(name: str) -> bool:
    """Tell whether packets for every IPv6 address are let in: a moment after it was taken."""
    links = json.loads(_run("ip", "-n", name, "-6", "-j", "address"))
    addresses = [each for link in links for each in link.get("addr_info", ())]
    held = {each["local"] for each in addresses if each.get("nodad")}
    listed = _run("ip", "-n", name, "-6", "-j", "route", "show", "table", "local")
    return held <= {route["dst"] for route in json.loads(listed) if route["type"] == "local"}


def _batch(name: str, commands: str) -> None:
    _run("ip", "-n", name, "-batch", "-", stdin=commands)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Names]:
    """Yield the names of the namespaces, by the names in the picture above."""
    prefix = f"phxtest-{uuid4().hex[:6]}"
    names = {short: f"{prefix}-{short}" for short in ("r", "out", *NODES, *CONTAINERS)}
    try:
        for name in names.values():
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        _lay_underlay(names)
        for short in CONTAINERS:
            _attach(names, short)
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _lay_underlay(names: Names) -> None:
    router = names["r"]
    _batch(
        router,
        """link add seg1 type bridge
        link add seg2 type bridge
        addr add 198.18.1.254/24 dev seg1
        addr add 198.18.2.254/24 dev seg2
        link set seg1 up
        link set seg2 up
        """,
    )
    _run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    _run("ip", "netns", "exec", router, "nft", "-f", "-", stdin=ROUTER_RULES)
    for short, address in NODES.items():
        name, segment = names[short], f"seg{address.split('.')[2]}"
        _batch(name, f"link add eth0 type veth peer name {short} netns {router}\n")
        _batch(router, f"link set {short} master {segment} up\n")
        _batch(
            name,
            f"""addr add {address}/24 dev eth0
            link set eth0 up
            route add default via {GATEWAYS[short]}
            """,
        )
        # The strictest that an operator may have set before us; and the kernel sends one
        # container no more than an unreachable every two seconds, too few for a row of tests.
        settings = ("net.ipv4.conf.all.rp_filter=1", "net.ipv4.icmp_ratelimit=0")
        _run("ip", "netns", "exec", name, "sysctl", "-qw", *settings)
    _batch(names["out"], f"link add eth0 type veth peer name out netns {router}\n")
    _batch(router, "addr add 192.0.2.254/24 dev out\nlink set out up\n")
    _batch(
        names["out"],
        "addr add 192.0.2.9/24 dev eth0\nlink set eth0 up\nroute add default via 192.0.2.254\n",
    )


def _attach(names: Names, short: str) -> None:
    """Give the container its place on its node's bridge, as a CNI plugin would."""
    node, bridge, address = CONTAINERS[short]
    gateway = address.rpartition(".")[0] + ".1"
    gateway6 = CONTAINERS6[short].rpartition(":")[0] + ":1"
    if bridge not in _run("ip", "-n", names[node], "-br", "link"):
        _batch(
            names[node],
            f"""link add {bridge} type bridge
            addr add {gateway}/24 dev {bridge}
            addr add {gateway6}/80 dev {bridge} nodad
            link set {bridge} mtu 1450 up
            """,
        )
    _batch(
        names[short], f"link add eth0 mtu 1450 type veth peer name {short} netns {names[node]}\n"
    )
    _batch(names[node], f"link set {short} mtu 1450 master {bridge} up\n")
    _batch(
        names[short],
        f"""addr add {address}/24 dev eth0
        addr add {CONTAINERS6[short]}/80 dev eth0 nodad
        link set eth0 up
        route add default via {gateway}
        route add default via {gateway6}
        """,
    )


@pytest.fixture(scope="module")
def reconcile(cluster: Names) -> Iterator[Callable[[View], Awaitable[None]]]:
    """Yield a function that makes one pass over all tables of all nodes, and must succeed."""
    view = View()
    handles: list[Rtnl | Nft] = []
    tables: list[Reconciler[Any, Any]] = []

    def lay_tables(node: IPv4Address, netns: Path, rtnl: Rtnl, nft: Nft) -> None:
        def nat() -> Mapping[Any, Any]:
            return desired_nat(view, node=node)

        def routes() -> Mapping[Any, Any]:
            return desired_routes(view, node=node, vip_range=VIP_RANGE, vip_range6=VIP_RANGE6)

        def links() -> Mapping[Any, Any]:
            return desired_links(view, underlay_mtu=call_in(netns, lambda: underlay_mtu(node)))

        tables.extend(
            [
                Reconciler(KernelSetTable(nft, NAT), nat),
                Reconciler(KernelSetTable(nft, SENDERS), lambda: desired_senders(view, node=node)),
                Reconciler(KernelLinks(rtnl), links),
                Reconciler(ProcSettings(rtnl, desired_settings()), desired_settings),
                Reconciler(
                    KernelAddresses(rtnl), lambda: {SERVICE_ADDRESS: None, node6(node): None}
                ),
                Reconciler(KernelRoutes(rtnl), routes),
                Reconciler(KernelRules(rtnl), lambda: desired_rules(view)),
            ]
        )

        if HAS_WALLS:
            walls = KernelSetTable(nft, ISOLATION)
            tables.append(Reconciler(walls, lambda: desired_isolation(view)))

    for short, address in NODES.items():
        netns = Path("/run/netns", cluster[short])
        rtnl, nft = Rtnl(netns=netns), Nft(netns=netns)
        handles += [rtnl, nft]
        lay_tables(IPv4Address(address), netns, rtnl, nft)

    is_first = True

    async def run(new: View) -> None:
        nonlocal view, is_first
        view = new
        for table in tables:
            assert await table.reconcile_once()
        if is_first:  # the addresses of all views are there
            assert wait_until(lambda: all(map(_hears, cluster.values())), seconds=30)
            is_first = False

    yield run
    for handle in handles:
        handle.close()


@pytest.fixture
def socket_in(cluster: Names) -> Iterator[Callable[..., socket.socket]]:
    """Yield a function that makes a socket in a namespace; all are closed at the end."""
    made: list[socket.socket] = []

    def make(
        short: str,
        kind: int = socket.SOCK_STREAM,
        protocol: int = 0,
        family: int = socket.AF_INET,
    ) -> socket.socket:
        netns = Path("/run/netns", cluster[short])
        made.append(call_in(netns, lambda: socket.socket(family, kind, protocol)))
        made[-1].settimeout(TIMEOUT_SECONDS)
        return made[-1]

    yield make
    for item in made:
        item.close()


@pytest.fixture
def run_in(cluster: Names) -> Callable[..., str]:
    """Return a function that runs a command in a namespace and returns what it printed."""

    def run(short: str, *command: str) -> str:
        return _run("ip", "netns", "exec", cluster[short], *command)

    return run
