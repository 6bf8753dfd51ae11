"""What options of phalanx-bridge do to links, seen in the kernel and with packets."""

import json
import subprocess
from typing import Any

import pytest
from tests.netns.cni.host import Host, Json

REFUSED_MAC = "02:00:00:00:00:77"


def bridge(host: Host, subnet: str = "10.71.0.0/24", **options: Any) -> Json:
    return {
        "cniVersion": "1.0.0",
        "name": "testnet",
        "type": "phalanx-bridge",
        "bridge": "phxtestbr",
        "isDefaultGateway": True,
        "ipam": {
            "type": "phalanx-ipam",
            "dataDir": str(host.leases),
            "ranges": [[{"subnet": subnet}]],
        },
        **options,
    }


def pings(host: Host, ns: str, address: str) -> bool:
    command = host.enter("ping", "-c", "1", "-w", "5", address, ns=ns)
    return subprocess.run(command, capture_output=True).returncode == 0


def addresses(host: Host) -> list[str]:
    [link] = json.loads(host.run("ip", "-j", "-4", "addr", "show", "phxtestbr"))
    return [each["local"] for each in link["addr_info"]]


def test_gateway_moves_only_by_force(host: Host) -> None:
    first, second = host.netns(), host.netns()
    host.chain("ADD", [bridge(host)], first)
    moved = bridge(host, "10.72.0.0/24", name="moved")

    refused = host.call("ADD", moved, second, "c2")
    assert (refused.status, refused.output["code"]) == (1, 101)
    assert "different" in refused.output["msg"]
    assert addresses(host) == ["10.71.0.1"]
    assert host.held("moved") == {}

    host.chain("ADD", [{**moved, "forceAddress": True}], second, "c2")
    assert addresses(host) == ["10.72.0.1"]
    assert pings(host, second, "10.72.0.1")


def test_isolated_ports_reach_the_gateway_and_not_each_other(host: Host) -> None:
    one, other, free = host.netns(), host.netns(), host.netns()
    host.chain("ADD", [bridge(host, portIsolation=True)], one)
    host.chain("ADD", [bridge(host, portIsolation=True)], other, "c2")
    host.chain("ADD", [bridge(host)], free, "c3")

    assert pings(host, one, "10.71.0.1")
    assert not pings(host, one, "10.71.0.3")
    assert pings(host, one, "10.71.0.4")


def test_spoofed_mac_is_dropped_and_an_address_is_not_looked_at(host: Host) -> None:
    ns = host.netns()
    host.chain("ADD", [bridge(host, macspoofchk=True)], ns)
    host.run("ip", "addr", "add", "10.71.0.99/24", "dev", "eth0", ns=ns)
    assert pings(host, ns, "10.71.0.1")
    bound = host.enter("ping", "-c", "1", "-w", "3", "-I", "10.71.0.99", "10.71.0.1", ns=ns)
    assert subprocess.run(bound, capture_output=True).returncode == 0

    host.run("ip", "link", "set", "eth0", "address", REFUSED_MAC, ns=ns)

    assert not pings(host, ns, "10.71.0.1")


def test_disabled_interface_is_there_and_down(host: Host) -> None:
    ns = host.netns()
    settings = bridge(host, disableContainerInterface=True)
    del settings["ipam"]

    result = host.chain("ADD", [settings], ns)

    [link] = json.loads(host.run("ip", "-j", "link", "show", "eth0", ns=ns))
    assert link["operstate"] == "DOWN"
    assert "UP" not in link["flags"]
    assert result["interfaces"][2]["name"] == "eth0"
    host.chain("CHECK", [settings], ns, previous=result)
    host.chain("DEL", [settings], ns, previous=result)


def test_port_of_sctp_is_mapped(host: Host) -> None:
    ns = host.netns()
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}
    settings = bridge(host, runtimeConfig={"portMappings": [mapping]})
    result = host.chain("ADD", [settings], ns)

    assert any("'sctp', 8080" in element for element in host.elements())
    host.chain("CHECK", [settings], ns, previous=result)
    host.chain("DEL", [settings], ns, previous=result)
    assert host.elements() == []


@pytest.mark.parametrize("wish", [{"vlan": 10}, {"vlanTrunk": [{"minID": 10, "maxID": 12}]}])
def test_vlan_is_there_or_refused_in_the_words_of_the_kernel(host: Host, wish: Json) -> None:
    """`tests/guest/cni` sends packets where the kernel's bridges have VLANs."""
    ns = host.netns()
    plain = ("link", "add", "phxtestvl", "type", "bridge", "vlan_filtering", "1")
    has_vlans = subprocess.run(host.enter("ip", *plain), capture_output=True).returncode == 0

    answer = host.call("ADD", bridge(host, **wish), ns)

    assert (answer.status == 0) is has_vlans, answer.output
    if not has_vlans:
        assert answer.output["code"] == 100
        assert "vlan: the kernel's bridges have no VLANs" in answer.output["msg"]
        assert "Operation not supported" in answer.output["msg"]
        assert host.held("testnet") == {}
        assert "eth0" not in host.run("ip", "link", ns=ns)
        assert json.loads(host.run("ip", "-j", "link", "show", "master", "phxtestbr")) == []


def test_ipv6_address_that_another_has_is_seen_when_it_is_asked_for(host: Host) -> None:
    """With enabledad an ADD ends when the address is the container's alone, or is refused."""
    one, other, last = host.netns(), host.netns(), host.netns()
    settings = bridge(host, "fd00:71::/64", enabledad=True)
    first = host.chain("ADD", [settings], one)
    assert "tentative" not in host.run("ip", "-6", "addr", "show", "eth0", ns=one)
    assert first["ips"][0]["address"] == "fd00:71::2/64"

    host.run("ip", "addr", "add", "fd00:71::3/64", "dev", "eth0", "nodad", ns=one)
    refused = host.call("ADD", settings, other, "c2")

    assert refused.output["code"] == 101
    assert "fd00:71::3" in refused.output["msg"]
    assert "eth0" not in host.run("ip", "link", ns=other)
    assert host.held("testnet").keys() == {"fd00:71::2"}
    again = host.chain("ADD", [settings], last, "c3")
    assert again["ips"][0]["address"] == "fd00:71::4/64"


@pytest.mark.parametrize("backend", ["", "iptables", "nftables"])
def test_backends_that_need_nothing_of_ours_are_taken(host: Host, backend: str) -> None:
    fence = {**bridge(host), "type": "phalanx-isolation", "backend": backend}

    assert host.chain("ADD", [bridge(host), fence], host.netns())["ips"]


@pytest.mark.parametrize("backend", ["firewalld", "ufw"])
def test_firewall_that_we_do_not_speak_to_is_refused(host: Host, backend: str) -> None:
    ns = host.netns()
    settings = bridge(host, cniVersion="1.1.0")
    fence = {**settings, "type": "phalanx-isolation", "backend": backend}
    result = host.chain("ADD", [settings], ns)

    for command in ("ADD", "STATUS"):
        refused = host.call(command, {**fence, "prevResult": result}, ns)
        assert (refused.status, refused.output["code"]) == (1, 2)
        assert refused.output["msg"].startswith(f"backend: {backend!r} is not supported: ")
    assert host.elements() == []
    assert host.call("DEL", {**fence, "prevResult": result}, ns).status == 0
