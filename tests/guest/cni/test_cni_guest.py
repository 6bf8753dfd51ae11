"""What needs another kernel: VLANs of a bridge's ports, and limits where there is no ifb."""

import json
import subprocess
from typing import Any

from tests.netns.cni.host import Host, Json


def bridge(host: Host, subnet: str, **options: Any) -> Json:
    return {
        "cniVersion": "1.0.0",
        "name": f"testnet{subnet.split('.')[1]}",
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
    command = host.enter("ping", "-c", "1", "-W", "2", address, ns=ns)
    return subprocess.run(command, capture_output=True).returncode == 0


def vlans(host: Host, link: str) -> dict[int, bool]:
    """Return the VLANs of a port, and whether each goes without tags."""
    [found] = json.loads(host.run("bridge", "-j", "vlan", "show", "dev", link))
    return {
        number: "Egress Untagged" in each.get("flags", ())
        for each in found["vlans"]
        for number in range(each["vlan"], each.get("vlanEnd", each["vlan"]) + 1)
    }


def test_containers_of_one_vlan_are_apart_from_others(host: Host) -> None:
    """Each VLAN has a gateway of its own: within, frames; between, only by the node's routing."""
    one, same, other = host.netns(), host.netns(), host.netns()
    fenced = {"ingressPolicy": "same-bridge"}
    ten = bridge(host, "10.71.0.0/24", vlan=10, preserveDefaultVlan=False, **fenced)
    twenty = bridge(host, "10.72.0.0/24", vlan=20, **fenced)
    result = host.chain("ADD", [ten], one)
    host.chain("ADD", [ten], same, "c2")
    host.chain("ADD", [twenty], other, "c3")

    assert result["interfaces"][3]["name"] == "phxtestbr.10"
    assert vlans(host, result["interfaces"][1]["name"]) == {10: True}
    assert pings(host, one, "10.71.0.1")
    assert pings(host, one, "10.71.0.3")
    assert not pings(host, one, "10.72.0.2")
    host.run("ip", "addr", "add", "10.71.0.9/24", "dev", "eth0", ns=other)
    assert not pings(host, one, "10.71.0.9")
    host.chain("CHECK", [ten], one, previous=result)
    host.chain("DEL", [ten], one, previous=result)
    assert pings(host, same, "10.71.0.1")


def test_trunk_carries_its_vlans_with_tags(host: Host) -> None:
    access, trunk = host.netns(), host.netns()
    host.chain("ADD", [bridge(host, "10.71.0.0/24", vlan=10)], access)
    trunked = bridge(
        host,
        "10.73.0.0/24",
        vlanTrunk=[{"minID": 10, "maxID": 12}, {"id": 40}],
        preserveDefaultVlan=False,
        isDefaultGateway=False,
    )

    result = host.chain("ADD", [trunked], trunk, "c2")

    assert vlans(host, result["interfaces"][1]["name"]) == dict.fromkeys((10, 11, 12, 40), False)
    host.run("ip", "link", "add", "link", "eth0", "name", "eth0.10", "type", "vlan", "id", "10",
             ns=trunk)  # fmt: skip
    host.run("ip", "addr", "add", "10.71.0.9/24", "dev", "eth0.10", ns=trunk)
    host.run("ip", "link", "set", "eth0.10", "up", ns=trunk)
    assert pings(host, trunk, "10.71.0.2")
    assert not pings(host, access, "10.73.0.2")


def test_limits_hold_where_the_kernel_has_no_ifb(host: Host) -> None:
    """The bucket of what the container sends is then on its own end."""
    ns = host.netns()
    refused = subprocess.run(host.enter("ip", "link", "add", "phxtestifb", "type", "ifb"))
    assert refused.returncode != 0, "this kernel has ifb: the test would show nothing"
    limit = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    limit |= {"egressRate": 16_000_000, "egressBurst": 800_000}
    limited: Json = {"cniVersion": "1.0.0", "name": "testnet71", "type": "phalanx-bandwidth"}
    plugins = [bridge(host, "10.71.0.0/24"), {**limited, **limit}]

    result = host.chain("ADD", plugins, ns)

    assert len(result["interfaces"]) == 3
    veth = result["interfaces"][1]["name"]
    assert "rate 8Mbit burst 100000b" in host.run("tc", "qdisc", "show", "dev", veth)
    inside = host.run("tc", "qdisc", "show", "dev", "eth0", ns=ns)
    assert "rate 16Mbit burst 100000b" in inside
    host.chain("CHECK", plugins, ns, previous=result)
    host.run("tc", "qdisc", "del", "dev", "eth0", "root", ns=ns)
    answer = host.call("CHECK", {**plugins[1], "prevResult": result}, ns)
    assert answer.output["code"] == 102
    host.chain("DEL", plugins, ns, previous=result)
