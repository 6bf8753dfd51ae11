"""Attachments of IPv6 and of both families, with real packets."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address, ip_interface
from pathlib import Path

import pytest
from tests.netns.attachment.house import NETWORKS, Lab, ip, pings

from phalanx.core.netns import call_in
from phalanx.net.attachment.bridge import bridge_of
from phalanx.net.attachment.error import CniError
from phalanx.net.attachment.ports import PortMapping
from phalanx.net.attachment.request import Command
from phalanx.net.attachment.spec import veth_name
from phalanx.net.attachment.wish import Limits, Wishes
from phalanx.net.ipam.owner import Owner


@pytest.fixture
def lab(ns: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(ns, tmp_path, stack)


def test_containers_of_both_families_talk_at_once(lab: Lab) -> None:
    first, second = lab.container(), lab.container()
    lab.add(first)
    four, six = lab.add(second)

    assert (four, six) == ("9.0.1.3", "fd01:b::1:0:0:3")
    assert pings(first, four)
    assert pings(first, six)
    assert pings(first, "fd01:b::1:0:0:1")


def test_network_of_ipv6_alone_needs_no_ipv4(lab: Lab) -> None:
    container = lab.container()

    result = lab.run(Command.ADD, container, "other")

    assert [item["address"] for item in result["ips"]] == ["fd01:c::1:0:0:2/80"]
    assert result["routes"] == [{"dst": "::/0", "gw": "fd01:c::1:0:0:1", "priority": 0}]
    assert result["interfaces"][2]["mac"] == "0a:58:00:00:00:02"
    assert result["dns"]["nameservers"][0] == "fd01:d::c633:6401"
    assert pings(container, "fd01:c::1:0:0:1")


def test_node_forwards_ipv6_between_its_networks(lab: Lab) -> None:
    here, there = lab.container(), lab.container()
    lab.add(here)
    [far] = lab.add(there, "other")

    assert pings(here, far)


def test_interface_has_the_addresses_that_were_given_and_no_others(lab: Lab) -> None:
    container = lab.container()
    lab.add(container)

    [link] = json.loads(ip("-n", container, "-j", "address", "show", "dev", "eth0"))
    found = {(each["local"], each.get("scope")) for each in link["addr_info"]}

    assert {address for address, scope in found if scope == "global"} == {
        "9.0.1.2",
        "fd01:b::1:0:0:2",
    }
    assert not any(each.get("tentative") for each in link["addr_info"])
    settings = Path("/proc/sys/net/ipv6/conf/eth0")
    read = {key: (settings / key).read_text for key in ("accept_ra", "accept_dad")}
    inside = Path("/run/netns", container)
    assert {key: call_in(inside, each).strip() for key, each in read.items()} == {
        "accept_ra": "0",
        "accept_dad": "0",
    }


def test_second_network_stands_back_for_the_first(lab: Lab) -> None:
    container, far = lab.container(), lab.container()
    lab.add(container)
    lab.add(container, "other", ifname="eth1")
    [address] = lab.add(far, "other")

    assert pings(container, address)
    [route] = json.loads(ip("-n", container, "-6", "-j", "route", "get", "2001:db8::1"))
    assert route["dev"] == "eth0"


def test_chosen_addresses_and_mac_are_given(lab: Lab) -> None:
    container = lab.container()
    addresses = (IPv4Address("9.0.1.99"), IPv6Address("fd01:b::1:0:0:99"))

    given = lab.add(container, wishes=Wishes(addresses=addresses, mac="02:00:00:00:00:99"))

    assert given == ["9.0.1.99", "fd01:b::1:0:0:99"]
    [link] = json.loads(ip("-n", container, "-j", "link", "show", "eth0"))
    assert link["address"] == "02:00:00:00:00:99"
    previous = (ip_interface("9.0.1.99/24"), ip_interface("fd01:b::1:0:0:99/80"))
    lab.run(Command.CHECK, container, previous=previous, previous_mac="02:00:00:00:00:99")


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (("address", "delete", "fd01:b::1:0:0:2/80", "dev", "eth0"), "address fd01:.* is missing"),
        (("-6", "route", "delete", "default"), "route to ::/0 via .* is missing"),
    ],
    ids=["address", "route"],
)
def test_check_sees_what_was_spoilt_of_ipv6(lab: Lab, spoil: tuple[str, ...], fault: str) -> None:
    container = lab.container()
    lab.add(container)
    previous = (ip_interface("9.0.1.2/24"), ip_interface("fd01:b::1:0:0:2/80"))
    lab.run(Command.CHECK, container, previous=previous)
    ip("-n", container, *spoil)

    with pytest.raises(CniError, match=fault):
        lab.run(Command.CHECK, container, previous=previous)


def test_delete_and_gc_free_both_families(lab: Lab) -> None:
    first, second = lab.container(), lab.container()
    lab.add(first)
    lab.add(second)

    lab.run(Command.DEL, first)
    lab.run(Command.GC, "", valid=frozenset())

    assert lab.leases.leases("both") == {}
    assert lab.names() == {"lo", "phx-1027"}


def test_failed_add_leaves_nothing_of_either_family(lab: Lab) -> None:
    container = lab.container()
    ip("-n", container, "link", "add", "blocker", "type", "bridge")
    ip("-n", container, "address", "add", "fd77::2/64", "dev", "blocker", "nodad")
    ip("-n", container, "link", "set", "blocker", "up")
    ip("-n", container, "-6", "route", "add", "default", "via", "fd77::1", "metric", "1024")
    before = ip("-n", container, "-6", "route")

    with pytest.raises(Exception, match="File exists"):
        lab.add(container)

    assert ip("-n", container, "-6", "route") == before
    assert lab.names() == {"lo"}
    assert lab.leases.leases("both") == {}


def test_drift_of_an_ipv6_gateway_is_seen_and_repaired(lab: Lab) -> None:
    container = lab.container()
    lab.add(container)
    wanted = bridge_of(NETWORKS["both"])
    ip("-n", lab.node, "address", "delete", "fd01:b::1:0:0:1/80", "dev", "phx-1027")
    ip("-n", lab.node, "address", "add", "fd66::1/64", "dev", "phx-1027")

    drifted = lab.links.run(lab.links.bridges)[1027]
    lab.links.run(lambda: lab.links.repair_bridge(wanted))

    assert drifted != wanted
    assert lab.links.run(lab.links.bridges) == {1027: wanted}
    assert pings(container, "fd01:b::1:0:0:1")


def test_forwarding_ipv6_goes_on_hearing_the_nodes_routers(lab: Lab) -> None:
    ip("-n", lab.node, "link", "add", "uplink", "type", "bridge")
    setting = Path("/proc/sys/net/ipv6/conf/uplink/accept_ra")
    inside = Path("/run/netns", lab.node)
    assert call_in(inside, setting.read_text).strip() == "1"

    lab.add(lab.container())

    assert call_in(inside, setting.read_text).strip() == "2"


def test_host_ports_lead_to_both_families(lab: Lab) -> None:
    container = lab.container()
    lab.add(container, ports=(PortMapping(18080, 80),))

    listed = lab.links.run(
        lambda: (
            subprocess.run(
                ["nft", "list", "table", "inet", "phalanx_cni"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    )

    assert "tcp . 18080" in listed
    assert "9.0.1.2 . 80" in listed
    assert "fd01:b::1:0:0:2 . 80" in listed


def test_limits_are_set_checked_and_removed(lab: Lab) -> None:
    container = lab.container()
    limits = Limits((125_000, 12_500), (250_000, 25_000))
    lab.add(container, wishes=Wishes(limits=limits))
    veth = veth_name(Owner(container, "eth0"))
    previous = (ip_interface("9.0.1.2/24"), ip_interface("fd01:b::1:0:0:2/80"))

    lab.run(Command.CHECK, container, previous=previous, wishes=Wishes(limits=limits))
    other = Wishes(limits=Limits((1, 1), (1, 1)))
    with pytest.raises(CniError, match="another rate"):
        lab.run(Command.CHECK, container, previous=previous, wishes=other)

    shown = lab.links.run(
        lambda: (
            subprocess.run(
                ["tc", "qdisc", "show", "dev", veth], capture_output=True, text=True, check=True
            ).stdout
        )
    )
    assert "rate 1Mbit" in shown
    lab.run(Command.DEL, container)
    assert lab.names() == {"lo", "phx-1027"}
