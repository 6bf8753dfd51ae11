"""A VIP whose backend is a node's tunnel, or the port of its plane, is no way into either."""

import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address

import pytest
from tests.guest.lb.ipvs_lab import DNS, NODE, WEB, Lab, answering, ip, run, wait

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.element import RULES, Element
from phalanx.net.nft.set_table import KernelSetTable
from phalanx.net.overlay.mark import PEER_PORT, VXLAN_PORT
from phalanx.net.overlay.senders import NODES, SENDERS

PEER = "198.18.0.2"  # another node
FREE = 64001
FREE_DNS = Vip(DNS.address, 54, Protocol.UDP)
FREE_WEB = Vip(WEB.address, 81)
PLACES = ("client", "b1", "far", "node")


def at(address: str, port: int) -> Service:
    return Service.of([Backend(ip_address(address), port)])


@pytest.fixture
def peer(lab: Lab) -> Iterator[str]:
    """Put another node behind a link; ours knows who may speak for tunnels."""
    there, node = lab.namespace("peer"), lab.node
    run("ip", "netns", "add", there)
    try:
        ip(node, (f"link add under0 type veth peer name eth0 netns {there}", "link set under0 up"))
        routes = (f"route add {NODE}/32 dev eth0", f"route add default via {NODE}")
        ip(there, ("link set eth0 up", f"address add {PEER}/32 dev eth0", *routes))
        ip(node, (f"route add {PEER}/32 dev under0 src {NODE}",))
        table = KernelSetTable(lab.nft, SENDERS)
        known = {RULES: None, Element(NODES, (PEER,)): None}
        assert wait(Reconciler(table, lambda: known).reconcile_once())
        yield "peer"
    finally:
        lab.inside("nft", f"add table inet {SENDERS.table}; delete table inet {SENDERS.table}")
        run("ip", "netns", "delete", there)


def bound(port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("", port))
    opened.settimeout(5)
    return opened


@pytest.mark.parametrize("target", ["peer", "node"])
def test_no_datagram_gets_into_a_tunnel(lab: Lab, peer: str, target: str) -> None:
    address = PEER if target == "peer" else NODE
    lab.put({DNS: at(address, VXLAN_PORT), FREE_DNS: at(address, FREE)})
    taken: dict[str, bool] = {}
    with (
        call_in(lab.path(target), partial(bound, VXLAN_PORT)) as tunnel,
        call_in(lab.path(target), partial(bound, FREE)) as free,
    ):
        tunnel.setblocking(False)
        for place in PLACES:
            for vip in (DNS, FREE_DNS):
                with lab.connect(place, vip) as opened, contextlib.suppress(PermissionError):
                    opened.send(place.encode())
            assert free.recv(100) == place.encode()  # the way is there, and all has gone it
            with contextlib.suppress(BlockingIOError):
                taken[place] = tunnel.recv(100) == place.encode()

    assert taken == {}


def test_no_client_asks_another_plane_as_a_node(lab: Lab, peer: str) -> None:
    lab.put({WEB: at(PEER, PEER_PORT), FREE_WEB: at(PEER, FREE)})
    with (
        answering(lab.path(peer), "plane", PEER_PORT),
        answering(lab.path(peer), "other", FREE),
    ):
        for place in ("client", "far"):
            assert lab.ask(place, FREE_WEB)[0] == "other"
            with pytest.raises(TimeoutError):
                lab.ask(place, WEB)
        assert lab.ask("node", WEB) == ("plane", NODE)
