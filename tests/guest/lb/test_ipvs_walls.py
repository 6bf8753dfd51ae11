"""Walls between networks hold for requests to a VIP under IPVS, and policies open them."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Network, ip_address

import msgspec
import pytest
from tests.guest.lb.ipvs_lab import BLUE, DNS, INSIDE, PORT, WEB, Lab, say, wait

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Network, Policy, Protocol, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.set_table import KernelSetTable

GREEN_NETWORK = Network("green", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
BLUE_NETWORK = Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450)
WALLED = View().changed([GREEN_NETWORK, BLUE_NETWORK])
POLICIES = {
    protocol: Policy(f"let-{protocol}", "green", "blue", Traffic(protocol), PORT, PORT)
    for protocol in Protocol
}
TO_SERVER = {
    name: Service.of([Backend(ip_address(address), PORT)]) for name, address in BLUE.items()
}
TO_GREEN = Service.of([Backend(ip_address(f"9.0.1.{INSIDE['b1']}"), PORT)])
REFUSED = "Connection refused|No route to host"
VIPS = pytest.mark.parametrize("vip", [WEB, DNS], ids=["tcp", "udp"])
SERVERS = pytest.mark.parametrize("server", BLUE)


class Walls:
    """The isolation table of a lab's node."""

    def __init__(self, lab: Lab) -> None:
        self._table = KernelSetTable(lab.nft, ISOLATION)
        self._view = WALLED
        self._loop = Reconciler(self._table, lambda: desired_isolation(self._view))

    def stand(self, view: View) -> None:
        self._view = view
        assert wait(self._loop.reconcile_once())


@pytest.fixture
def walls(lab: Lab) -> Iterator[Walls]:
    made = Walls(lab)
    made.stand(WALLED)
    yield made
    lab.inside("nft", f"delete table inet {ISOLATION.table}")


@VIPS
@SERVERS
def test_request_to_a_vip_meets_the_wall(lab: Lab, walls: Walls, vip: Vip, server: str) -> None:
    lab.put({vip: TO_SERVER[server]})

    with lab.witness(server, vip) as seen:
        with pytest.raises(OSError, match=REFUSED):
            lab.ask("client", vip)

        assert seen() == 0


@VIPS
@SERVERS
def test_policy_for_the_real_destination_opens_the_wall(
    lab: Lab, walls: Walls, vip: Vip, server: str
) -> None:
    walls.stand(WALLED.changed([POLICIES[vip.protocol]]))
    lab.put({vip: TO_SERVER[server]})

    assert lab.ask("client", vip) == (server, f"9.0.1.{INSIDE['client']}")


@VIPS
def test_policy_opens_one_way_only(lab: Lab, walls: Walls, vip: Vip) -> None:
    walls.stand(WALLED.changed([POLICIES[vip.protocol]]))
    lab.put({vip: TO_GREEN})

    with pytest.raises(OSError, match=REFUSED):
        lab.ask("blue", vip)


@VIPS
def test_policy_that_is_taken_back_ends_what_it_let_in(lab: Lab, walls: Walls, vip: Vip) -> None:
    walls.stand(WALLED.changed([POLICIES[vip.protocol]]))
    lab.put({vip: TO_SERVER["blue"]})
    with lab.connect("client", vip) as opened:
        assert say(opened)[0] == "blue"

        walls.stand(WALLED)

        with pytest.raises(OSError, match=r"reset|route|refused"):
            say(opened)


@VIPS
def test_open_networks_reach_one_another_by_a_vip(lab: Lab, walls: Walls, vip: Vip) -> None:
    nets = [msgspec.structs.replace(each, isolated=False) for each in (GREEN_NETWORK, BLUE_NETWORK)]
    walls.stand(View().changed(nets))
    lab.put({vip: TO_SERVER["blue"]})

    assert lab.ask("client", vip)[0] == "blue"


@VIPS
def test_one_network_and_the_node_go_by_a_vip_as_ever(lab: Lab, walls: Walls, vip: Vip) -> None:
    lab.put({vip: TO_GREEN})
    seen = {place: lab.ask(place, vip)[0] for place in ("node", "client", "b1", "b2", "far")}
    lab.put({vip: TO_SERVER["blue"]})
    seen["node to blue"] = lab.ask("node", vip)[0]

    assert seen == dict.fromkeys(("node", "client", "b1", "b2", "far"), "b1") | {
        "node to blue": "blue"
    }


@SERVERS
def test_container_of_a_network_that_is_gone_meets_the_wall(
    lab: Lab, walls: Walls, server: str
) -> None:
    walls.stand(View().changed([BLUE_NETWORK]))
    lab.put({DNS: TO_SERVER[server]})

    with lab.witness(server, DNS) as seen:
        with pytest.raises(OSError, match=REFUSED):
            lab.ask("client", DNS)

        assert seen() == 0


def test_borrowed_address_leads_to_no_vip(lab: Lab, walls: Walls) -> None:
    lab.put({DNS: TO_SERVER["blue"]})
    lab.in_namespace("client", "ip", "address", "add", "10.20.1.99/32", "dev", "lo")
    try:
        opened = call_in(
            lab.path("client"), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        )
        with opened, lab.witness("blue", DNS) as seen:
            opened.bind(("10.20.1.99", 0))
            opened.settimeout(0.5)
            with suppress(OSError):
                opened.sendto(b"who\n", (str(DNS.address), DNS.port))
                opened.recv(100)

            assert seen() == 0
    finally:
        lab.in_namespace("client", "ip", "address", "delete", "10.20.1.99/32", "dev", "lo")
