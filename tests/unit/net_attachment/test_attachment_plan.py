"""Bridges and attachments are decided purely."""

from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

import pytest

from phalanx.core.error import InvalidError
from phalanx.net.attachment.bridge import (
    Bridge,
    LeasedNetwork,
    LeasedSubnet,
    desired_bridges,
    leased_networks,
    mac_of,
    vni_of,
)
from phalanx.net.attachment.spec import Route, plan, veth_name
from phalanx.net.ipam.owner import Owner
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View

GATEWAY = IPv4Address("9.0.1.1")
NODE, OTHER = IPv4Address("198.18.0.2"), IPv4Address("198.18.0.3")
VIEW = View().changed(
    [
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        Network("blue", IPv4Network("10.1.0.0/16"), 24, 1025, 1400),
        SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
        SubnetLease("dcos", OTHER, IPv4Network("9.0.2.0/24")),
        SubnetLease("blue", OTHER, IPv4Network("10.1.0.0/24")),
        SubnetLease("gone", NODE, IPv4Network("10.9.0.0/24")),
    ]
)
DCOS = LeasedNetwork(
    "dcos",
    1024,
    1450,
    (LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1")),),
)


def test_networks_are_those_that_lease_the_node_a_subnet() -> None:
    assert leased_networks(VIEW, node=NODE) == {"dcos": DCOS}
    assert set(leased_networks(VIEW, node=OTHER)) == {"dcos", "blue"}
    assert leased_networks(View(), node=NODE) == {}


def test_bridge_of_a_network_has_its_gateway() -> None:
    assert desired_bridges(VIEW, node=NODE) == {
        1024: Bridge(1024, "dcos", (IPv4Interface("9.0.1.1/24"),), 1450, "0a:58:09:00:01:01")
    }
    assert desired_bridges(VIEW, node=OTHER)[1025].name == "phx-1025"


def test_names_of_other_links_have_no_vni() -> None:
    names = ["phx-1024", "phx-vxlan", "phx-", "1024", "phxv0000", "phx-12x"]

    assert [vni_of(name) for name in names] == [1024, None, None, None, None, None]


def test_mac_follows_the_address() -> None:
    assert mac_of(IPv4Address("9.0.1.255")) == "0a:58:09:00:01:ff"


def test_names_fit_a_link_and_tell_owners_apart() -> None:
    owners = [Owner("a", "eth0"), Owner("a", "eth1"), Owner("b", "eth0"), Owner("x" * 200, "eth0")]

    names = {veth_name(owner) for owner in owners}

    assert len(names) == len(owners)
    assert all(name.startswith("phxv") and len(name) == 12 for name in names)


def test_first_interface_has_the_default_route() -> None:
    spec = plan(Owner("c", "eth0"), DCOS, [IPv4Address("9.0.1.5")])

    assert spec.addresses == (IPv4Interface("9.0.1.5/24"),)
    assert spec.mac == "0a:58:09:00:01:05"
    assert spec.veth_mac.startswith("fe:")
    assert spec.mtu == 1450
    assert spec.routes == (Route(IPv4Network("0.0.0.0/0"), GATEWAY, 0),)


def test_later_interface_reaches_its_network_and_stands_back_for_the_rest() -> None:
    spec = plan(Owner("c", "eth2"), DCOS, [IPv4Address("9.0.1.5")])

    assert spec.routes == (
        Route(IPv4Network("9.0.0.0/8"), GATEWAY, 2),
        Route(IPv4Network("0.0.0.0/0"), GATEWAY, 2),
    )


GATEWAY6 = IPv6Address("fd01:b:0:0:1::1")
SUBNET6 = LeasedSubnet(IPv6Network("fd01:b::/64"), IPv6Network("fd01:b:0:0:1::/80"), GATEWAY6)
BOTH = LeasedNetwork("dcos", 1024, 1450, (*DCOS.subnets, SUBNET6))
ONLY6 = LeasedNetwork("six", 1026, 1450, (SUBNET6,))


def test_leases_of_both_families_make_one_network() -> None:
    view = View().changed(
        [
            Network(
                "dcos",
                IPv4Network("9.0.0.0/8"),
                24,
                1024,
                1450,
                subnet6=IPv6Network("fd01:b::/64"),
                prefix6=80,
            ),
            Network("six", None, 0, 1026, 1450, subnet6=IPv6Network("fd01:b::/64"), prefix6=80),
            SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24"), IPv6Network("fd01:b:0:0:1::/80")),
            SubnetLease("six", NODE, None, IPv6Network("fd01:b:0:0:1::/80")),
        ]
    )

    assert leased_networks(view, node=NODE) == {"dcos": BOTH, "six": ONLY6}
    bridges = desired_bridges(view, node=NODE)
    gateway6 = IPv6Interface("fd01:b:0:0:1::1/80")
    assert bridges[1024].gateways == (IPv4Interface("9.0.1.1/24"), gateway6)
    assert (bridges[1026].gateways, bridges[1026].mac) == ((gateway6,), "0a:58:00:00:00:01")


def test_dual_stack_has_a_default_route_of_each_family() -> None:
    spec = plan(Owner("c", "eth0"), BOTH, [IPv4Address("9.0.1.5"), IPv6Address("fd01:b:0:0:1::5")])

    assert spec.mac == "0a:58:09:00:01:05"
    assert spec.routes == (
        Route(IPv4Network("0.0.0.0/0"), GATEWAY, 0),
        Route(IPv6Network("::/0"), GATEWAY6, 0),
    )


def test_later_interface_stands_back_behind_the_kernels_metric_of_ipv6() -> None:
    spec = plan(Owner("c", "eth1"), ONLY6, [IPv6Address("fd01:b:0:0:1::5")])

    assert spec.mac == "0a:58:00:00:00:05"
    assert [(str(route.prefix), route.metric) for route in spec.routes] == [
        ("fd01:b::/64", 1025),
        ("::/0", 1025),
    ]


def test_chosen_mac_is_kept() -> None:
    spec = plan(Owner("c", "eth0"), DCOS, [IPv4Address("9.0.1.5")], mac="02:00:00:00:00:07")

    assert spec.mac == "02:00:00:00:00:07"


def test_address_of_a_family_that_the_network_lacks_is_refused() -> None:
    with pytest.raises(InvalidError, match="no such family"):
        plan(Owner("c", "eth0"), DCOS, [IPv6Address("fd01::5")])
