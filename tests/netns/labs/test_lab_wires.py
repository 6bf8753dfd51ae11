"""The underlay, asserted with packets."""

import json
import re
import subprocess
from uuid import uuid4

from phalanx.labs.lab import Lab
from phalanx.labs.outfit import Bare
from phalanx.labs.wait import wait_until

REFUSED = 7  # curl's status when nobody listens


def ping(lab: Lab, source: str, target: str, *options: str) -> str:
    address = target if target[0].isdigit() else lab.node(target).address
    done = lab.node(source).run(["ping", "-c1", "-W1", *options, address])
    return done.stdout


def reaches(lab: Lab, source: str, target: str, *options: str) -> bool:
    return "1 received" in ping(lab, source, target, *options)


def curl_status(lab: Lab) -> int:
    return lab.node("a1").run(["curl", "-s", "-m2", "http://a2:8000/"]).returncode


def test_agents_reach_each_other_through_one_router(lab: Lab) -> None:
    assert re.search(r"ttl=63\b", ping(lab, "a1", "a2"))
    assert "Time to live exceeded" in ping(lab, "a1", "a2", "-t1")


def test_nodes_of_one_segment_reach_each_other_without_a_router(lab: Lab) -> None:
    assert re.search(r"ttl=64\b", ping(lab, "m1", "a1"))


def test_client_reaches_every_node_and_knows_no_other_way(lab: Lab) -> None:
    assert all(reaches(lab, "c1", node) for node in ("m1", "a1", "a2"))
    assert "unreachable" in lab.node("c1").run(["ping", "-c1", "-W1", "11.0.0.1"]).stderr


def test_router_drops_packets_that_are_not_from_the_underlay(lab: Lab) -> None:
    lab.node("a1").run(["ip", "address", "add", "9.0.0.1/32", "dev", "lo"])
    lab.node("a2").run(["ip", "route", "add", "9.0.0.1/32", "via", "198.18.1.1"])
    lab.node("r1").run(["ip", "route", "add", "9.0.0.1/32", "via", lab.node("a1").address])

    assert not reaches(lab, "a1", "a2", "-I", "9.0.0.1")
    rules = lab.node("r1").run(["nft", "-j", "list", "table", "inet", "phxlab"]).stdout
    counters = [
        expression["counter"]["packets"]
        for item in json.loads(rules)["nftables"]
        for expression in item.get("rule", {}).get("expr", [])
        if "counter" in expression
    ]
    assert counters == [1]


def test_partitioned_node_is_silent_until_healed(lab: Lab) -> None:
    lab.partition("a2")

    assert not reaches(lab, "a1", "a2")
    assert not reaches(lab, "a2", "r1")
    assert "LOWER_UP" in lab.node("a2").run(["ip", "link", "show", "eth0"]).stdout
    assert {n.name: n.condition for n in lab.status().nodes}["a2"] == "partitioned"

    lab.heal("a2")

    # Who asked for its neighbour in vain gives up before it asks anew.
    assert wait_until(lambda: reaches(lab, "a1", "a2"), seconds=30)
    assert {n.name: n.condition for n in lab.status().nodes}["a2"] == ""


def test_partition_inside_a_segment_holds_too(lab: Lab) -> None:
    assert reaches(lab, "m1", "a1")

    lab.partition("a1")

    assert not reaches(lab, "m1", "a1")


def test_labs_side_by_side_use_the_same_addresses_and_never_meet(lab: Lab) -> None:
    other = Lab.up(name=f"t{uuid4().hex[:7]}", outfit=lambda place, topology: Bare())
    try:
        served = wait_until(lambda: curl_status(lab) == 0, seconds=60)

        assert other.node("a2").address == lab.node("a2").address
        assert served
        assert curl_status(other) == REFUSED
    finally:
        other.down()


def test_nothing_of_the_underlay_is_in_the_machines_own_namespace(lab: Lab) -> None:
    shown = subprocess.run(
        ["ip", "address", "show"], capture_output=True, text=True, check=True
    ).stdout

    assert "198.18." not in shown
    assert "br-s1" not in shown


def test_nodes_have_the_sysctls_of_a_host_with_containers(lab: Lab) -> None:
    def sysctl(node: str, key: str) -> str:
        return lab.node(node).run(["cat", f"/proc/sys/net/ipv4/{key}"]).stdout.strip()

    assert sysctl("a1", "ip_forward") == "1"
    assert sysctl("a1", "conf/eth0/rp_filter") == "2"
    assert sysctl("c1", "ip_forward") == "0"
