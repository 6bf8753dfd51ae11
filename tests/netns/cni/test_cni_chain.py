"""Port mappings, masquerade and fences: real packets, alone and chained with the reference."""

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.netns.cni.host import Host, Json

from phalanx.core.netns import call_in
from phalanx.labs.wait import wait_until

LISTEN = """
import socket, sys
family = socket.AF_INET6 if sys.argv[2] == "6" else socket.AF_INET
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
listener = socket.socket(family, kind)
listener.bind(("::" if sys.argv[2] == "6" else "0.0.0.0", 80))
if sys.argv[1] == "tcp":
    listener.listen()
print("ready", flush=True)
while True:
    if sys.argv[1] == "tcp":
        peer, address = listener.accept()
        peer.sendall(address[0].encode())
        peer.close()
    else:
        _, address = listener.recvfrom(100)
        listener.sendto(address[0].encode(), address)
"""
ASK = """
import socket, sys
host, port, seconds = sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
peer.settimeout(seconds)
try:
    peer.connect((host, port))
    peer.settimeout(20)
    if sys.argv[1] == "udp":  # who listens on TCP says its word unasked, and may be gone by then
        peer.send(b"x")
    print(peer.recv(100).decode())
except OSError:
    print("nothing")
"""


def chain(host: Host, *more: Json, kind: str = "phalanx-bridge", **options: Any) -> list[Json]:
    base = {"cniVersion": "1.0.0", "name": options.pop("name", "testnet")}
    subnet = options.pop("subnet", "10.71.0.0/24")
    six = options.pop("six", "fd00:71::/64")
    main = {
        **base,
        "type": kind,
        "bridge": options.pop("bridge", "phxtestbr"),
        "isDefaultGateway": True,
        "ipam": {
            "type": "host-local" if kind == "bridge" else "phalanx-ipam",
            "dataDir": str(host.leases),
            "ranges": [[{"subnet": each}] for each in (subnet, six) if each],
        },
        **options,
    }
    return [main, *({**base, **each} for each in more)]


def ports(*mappings: Json) -> Json:
    return {"runtimeConfig": {"portMappings": list(mappings)}}


WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}


def listen(host: Host, ns: str, protocol: str = "tcp", family: str = "4") -> None:
    program = host.start("python3", "-c", LISTEN, protocol, family, ns=ns)
    assert program.stdout is not None
    assert program.stdout.readline() == b"ready\n"


def ask(
    host: Host, ns: str, target: str, port: int = 8080, protocol: str = "tcp", seconds: float = 3
) -> str:
    words = (protocol, target, str(port), str(seconds))
    return host.run("python3", "-c", ASK, *words, ns=ns).strip()


def is_shut(host: Host, ns: str, target: str, port: int = 8080) -> bool:
    """Tell that no connection comes about: between namespaces one does while it is asked for."""
    return ask(host, ns, target, port, seconds=1) == "nothing"


def client(host: Host) -> str:
    """Make a machine beside the node and return its namespace: 198.18.0.2, the node has .1."""
    ns = host.netns("x")
    host.run("ip", "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", ns)
    for where, link, last in (("", "out", 1), (ns, "eth0", 2)):
        host.run("ip", "addr", "add", f"198.18.0.{last}/24", "dev", link, ns=where)
        host.run("ip", "addr", "add", f"fd00:18::{last}/64", "dev", link, "nodad", ns=where)
        host.run("ip", "link", "set", link, "up", ns=where)
    return ns


PORTMAPS = {
    "in one": ([], {"hairpinMode": True, **ports(WEB)}, "phalanx-bridge"),
    "chained": (
        [{"type": "phalanx-portmap", **ports(WEB)}], {"hairpinMode": True}, "phalanx-bridge",
    ),
    "behind the reference": (
        [{"type": "phalanx-portmap", **ports(WEB)}], {"hairpinMode": True}, "bridge",
    ),
    "the reference behind ours": (
        [{"type": "portmap", **ports(WEB)}], {"hairpinMode": True, "six": ""}, "phalanx-bridge",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PORTMAPS)
def test_mapped_port_is_reached_from_everywhere(host: Host, case: str) -> None:
    more, options, kind = PORTMAPS[case]
    outside, ns, neighbour = client(host), host.netns(), host.netns()
    plugins = chain(host, *more, kind=kind, **dict(options))
    result = host.chain("ADD", plugins, ns)
    host.chain("ADD", chain(host, kind=kind, hairpinMode=True), neighbour, "c2")
    listen(host, ns)
    if case != "the reference behind ours":  # its CHECK wants rules of both families
        host.chain("CHECK", plugins, ns, previous=result)

    assert ask(host, outside, "198.18.0.1") == "198.18.0.2"
    assert ask(host, host.ns, "198.18.0.1") != "nothing"
    assert ask(host, host.ns, "127.0.0.1") == "10.71.0.1"
    assert ask(host, neighbour, "10.71.0.1") != "nothing"
    assert ask(host, ns, "10.71.0.1") != "nothing"
    assert is_shut(host, outside, "198.18.0.1", 8081)

    host.chain("DEL", plugins, ns, previous=result)
    assert is_shut(host, host.ns, "198.18.0.1")
    assert host.elements() == []


def test_udp_host_address_and_ipv6(host: Host) -> None:
    outside, ns = client(host), host.netns()
    mapping = ports(
        {"hostPort": 53, "containerPort": 80, "protocol": "udp"},
        {"hostPort": 81, "containerPort": 80, "hostIP": "198.18.0.1"},
        {"hostPort": 82, "containerPort": 80, "hostIP": "10.71.0.1"},
        {"hostPort": 83, "containerPort": 80, "hostIP": "::"},
    )
    host.chain("ADD", chain(host, **mapping), ns)
    listen(host, ns, "udp")
    listen(host, ns, "tcp", "6")

    assert ask(host, outside, "198.18.0.1", 53, "udp") == "198.18.0.2"
    assert "198.18.0.2" in ask(host, outside, "198.18.0.1", 81)
    assert is_shut(host, outside, "198.18.0.1", 82)
    assert "10.71.0.1" in ask(host, host.ns, "10.71.0.1", 82)
    assert ask(host, outside, "fd00:18::1", 83) == "fd00:18::2"


def test_a_port_is_given_once(host: Host) -> None:
    first, second = host.netns(), host.netns()
    plugins = chain(host, **ports(WEB))
    result = host.chain("ADD", plugins, first)
    before = host.elements()

    refused = host.call("ADD", plugins[0], second, "c2")

    assert refused.output["code"] == 101
    assert "8080/tcp" in refused.output["msg"]
    assert host.elements() == before
    assert len(host.held("testnet")) == 2
    assert host.call("DEL", plugins[0], second, "c2").status == 0
    assert host.elements() == before
    host.chain("CHECK", plugins, first, previous=result)
    host.chain("DEL", plugins, first)
    host.chain("ADD", plugins, second, "c2")


@pytest.mark.parametrize("kind", ["bridge", "phalanx-bridge"])
def test_masquerade_hides_containers_from_outside(host: Host, kind: str) -> None:
    outside, ns, neighbour = client(host), host.netns(), host.netns()
    host.chain("ADD", chain(host, kind=kind, ipMasq=True), ns)
    host.chain("ADD", chain(host, kind=kind, ipMasq=True), neighbour, "c2")
    listen(host, outside)
    listen(host, neighbour)

    assert ask(host, ns, "198.18.0.2", 80) == "198.18.0.1"
    assert ask(host, ns, "10.71.0.3", 80) == "10.71.0.2"


@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
@pytest.mark.parametrize("form", ["in one", "chained", "behind the reference"])
def test_ingress_policy(host: Host, policy: str, form: str) -> None:
    kind = "bridge" if form == "behind the reference" else "phalanx-bridge"
    wish = {"ingressPolicy": policy}
    more = [] if form == "in one" else [{"type": "phalanx-isolation", **wish}]
    options = wish if form == "in one" else {}
    one, same, other = (host.netns() for _ in range(3))
    here = chain(host, *more, kind=kind, **options)
    there = chain(
        host, *more, kind=kind, **options,
        name="othernet", bridge="phxtestb2", subnet="10.72.0.0/24", six="fd00:72::/64",
    )  # fmt: skip
    host.chain("ADD", here, one)
    result = host.chain("ADD", here, same, "c2")
    host.chain("ADD", there, other, "c3")
    listen(host, one)

    if policy == "isolated":
        assert is_shut(host, same, "10.71.0.2", 80)
    else:
        assert ask(host, same, "10.71.0.2", 80) == "10.71.0.3"
    if policy == "open":
        assert ask(host, other, "10.71.0.2", 80) == "10.72.0.2"
    else:
        assert is_shut(host, other, "10.71.0.2", 80)
    assert ask(host, host.ns, "10.71.0.2", 80) == "10.71.0.1"

    host.chain("CHECK", here, same, "c2", previous=result)
    host.chain("DEL", here, one, "c1")
    assert is_shut(host, other, "10.71.0.3", 80)
    host.chain("DEL", here, same, "c2")
    host.chain("DEL", there, other, "c3")
    assert host.elements() == []


def test_containers_send_from_their_own_addresses_only(host: Host) -> None:
    ns, target = host.netns(), host.netns()
    guarded = {"type": "phalanx-isolation"}
    host.chain("ADD", chain(host, guarded), ns)
    host.chain("ADD", chain(host, guarded), target, "c2")
    for address in ("10.71.0.1", "10.71.0.3", "fd00:71::3"):
        host.run("ping", "-c1", "-w10", address, ns=ns)

    def reaches(*source: str) -> bool:
        command = ["ping", "-c1", "-w3", *source]
        return subprocess.run(host.enter(*command, ns=ns), capture_output=True).returncode == 0

    host.run("ip", "addr", "add", "10.71.0.99/24", "dev", "eth0", ns=ns)
    host.run("ip", "addr", "add", "fd00:71::99/64", "dev", "eth0", "nodad", ns=ns)
    assert not reaches("-I", "10.71.0.99", "10.71.0.3")
    assert not reaches("-I", "fd00:71::99", "fd00:71::3")
    assert reaches("10.71.0.3")
    host.run("ip", "link", "set", "eth0", "address", "0a:58:0a:47:00:63", ns=ns)
    host.run("ip", "neigh", "flush", "all", ns=ns)
    assert not reaches("10.71.0.3")
    host.run("ip", "link", "set", "eth0", "address", "0a:58:0a:47:00:02", ns=ns)
    assert reaches("10.71.0.3")


def test_reference_tuning_and_bandwidth_behind_ours(host: Host) -> None:
    ns = host.netns()
    plugins = chain(
        host,
        {"type": "tuning", "mtu": 1300},
        {"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000},
    )

    result = host.chain("ADD", plugins, ns)
    host.chain("CHECK", plugins, ns, previous=result)

    assert "mtu 1300" in host.run("ip", "link", "show", "eth0", ns=ns)
    assert "tbf" in host.run("tc", "qdisc", "show", "dev", result["interfaces"][1]["name"])
    host.chain("DEL", plugins, ns, previous=result)


def test_loopback(host: Host) -> None:
    ns = host.netns()
    config = {"cniVersion": "1.0.0", "name": "lo", "type": "phalanx-loopback"}

    result = host.call("ADD", config, ns, CNI_IFNAME="lo").result
    host.chain("CHECK", [config], ns, previous=result, CNI_IFNAME="lo")

    assert result["ips"][0]["address"] == "127.0.0.1/8"
    host.run("ping", "-c1", "-w10", "127.0.0.1", ns=ns)
    assert host.call("DEL", config, ns, CNI_IFNAME="lo").status == 0
    assert "state DOWN" in host.run("ip", "link", "show", "lo", ns=ns)


@pytest.mark.parametrize("kind", ["bridge", "phalanx-bridge"])
def test_bandwidth_is_limited_both_ways(host: Host, kind: str) -> None:
    ns = host.netns()
    limit = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    limit |= {"egressRate": 16_000_000, "egressBurst": 800_000}
    plugins = chain(host, {"type": "phalanx-bandwidth", **limit}, kind=kind)

    result = host.chain("ADD", plugins, ns)
    host.chain("CHECK", plugins, ns, previous=result)

    veth, ifb = (result["interfaces"][index]["name"] for index in (1, 3))
    assert "rate 8Mbit burst 100000b" in host.run("tc", "qdisc", "show", "dev", veth)
    assert "rate 16Mbit burst 100000b" in host.run("tc", "qdisc", "show", "dev", ifb)
    for sender, receiver, address, megabits in (
        (host.ns, ns, "10.71.0.2", 8),
        (ns, host.ns, "10.71.0.1", 16),
    ):
        assert_limited(host, sender, receiver, address, megabits)
    changed = [plugins[0], {**plugins[1], "ingressRate": 9_000_000}]
    config = {**changed[1], "prevResult": result}
    assert host.call("CHECK", config, ns).output["code"] == 102
    host.chain("DEL", plugins, ns, previous=result)
    assert ifb not in host.run("ip", "link")


SINK = """
import socket, time
listener = socket.create_server(("0.0.0.0", 90))
print("ready", flush=True)
peer, _ = listener.accept()
count = 0
while data := peer.recv(65536):
    count += len(data)
print(count, time.monotonic(), flush=True)
"""
SOURCE = """
import socket, sys, time
print(time.monotonic())
with socket.create_connection((sys.argv[1], 90)) as peer:
    peer.sendall(bytes(2_000_000))
"""


def assert_limited(host: Host, sender: str, receiver: str, address: str, megabits: int) -> None:
    """Send until the machine has time for more than half of the rate; no sending is faster."""
    rates: list[float] = []

    def is_reached() -> bool:
        rates.append(throughput(host, sender, receiver, address))
        return rates[-1] > megabits * 0.5

    assert wait_until(is_reached, seconds=60), rates
    assert max(rates) < megabits * 1.3


def throughput(host: Host, sender: str, receiver: str, address: str) -> float:
    """Return how many megabits a second two megabytes go at; fewer where the machine is busy."""
    sink = host.start("python3", "-c", SINK, ns=receiver)
    assert sink.stdout is not None
    assert sink.stdout.readline() == b"ready\n"
    began = float(host.run("python3", "-c", SOURCE, address, ns=sender))
    count, ended = map(float, sink.stdout.readline().split())
    return count * 8 / 1e6 / (ended - began)


def test_udp_flow_under_way_follows_its_port(host: Host) -> None:
    outside, first, second = client(host), host.netns(), host.netns()
    dns = ports({"hostPort": 5300, "containerPort": 80, "protocol": "udp"})
    flow = Flow(host, outside)
    assert not flow.asks()  # nobody has the port yet, and conntrack knows the flow

    one = chain(host, hairpinMode=True, **dns)
    listen(host, first, "udp")
    result = host.chain("ADD", one, first)
    assert flow.asks()

    host.chain("DEL", one, first, previous=result)
    listen(host, second, "udp")
    host.chain("ADD", chain(host, hairpinMode=True, **dns), second, "c2")
    assert flow.asks()


class Flow:
    """One UDP socket of a client that goes on sending to one port of the node."""

    def __init__(self, host: Host, ns: str) -> None:
        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        self._socket: socket.socket = call_in(Path("/run/netns", ns), make)
        host.closing(self._socket)
        self._socket.connect(("198.18.0.1", 5300))

    def asks(self) -> bool:
        """Send one datagram; tell whether it was answered."""
        self._socket.settimeout(30)
        try:
            self._socket.send(b"x")
            return bool(self._socket.recv(100))
        except OSError:
            return False


FIREWALLS = {
    "policy": (("-P", "FORWARD", "DROP"),),
    "rule": (("-A", "FORWARD", "-j", "REJECT"),),
}


@pytest.mark.parametrize("form", ["in one", "chained"])
@pytest.mark.parametrize("drops", FIREWALLS)
def test_host_that_drops_what_is_forwarded_lets_containers_through(
    host: Host, drops: str, form: str
) -> None:
    outside, ns = client(host), host.netns()
    host.run("ip", "route", "add", "10.71.0.0/24", "via", "198.18.0.1", ns=outside)
    for tool in ("iptables", "ip6tables"):
        for rule in FIREWALLS[drops]:
            host.run(tool, *rule)
    more = [{"type": "phalanx-isolation", "antiSpoofing": False}] if form == "chained" else []
    options = {} if more else {"ingressPolicy": "open"}
    plugins = chain(host, *more, hairpinMode=True, **options, **ports(WEB))
    result = host.chain("ADD", plugins, ns)
    listen(host, ns)
    listen_outside = host.start("python3", "-c", LISTEN, "tcp", "4", ns=outside)
    assert listen_outside.stdout is not None
    assert listen_outside.stdout.readline() == b"ready\n"

    assert ask(host, ns, "198.18.0.2", 80) == "10.71.0.2"  # out, and the answers in
    assert ask(host, outside, "198.18.0.1") == "198.18.0.2"  # by a mapped port
    assert is_shut(host, outside, "10.71.0.2", 80)  # not by itself
    host.chain("CHECK", plugins, ns, previous=result)
    if form == "chained":
        host.run("iptables", "-F", "PHALANX-CNI")
        answer = host.call("CHECK", {**plugins[-1], "prevResult": result}, ns)
        assert answer.output["code"] == 102
    again = host.netns()
    host.chain("ADD", [{**each, "runtimeConfig": {}} for each in plugins], again, "c2")
    listed = host.run("iptables", "-S")
    assert listed.count("-i phxtestbr") == listed.count("-o phxtestbr") == 1
    assert listed.count("-A FORWARD -j PHALANX-CNI") == 1
    for container, space in (("c1", ns), ("c2", again)):
        collect = {**plugins[0], "cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
        if container == "c1":
            collect["cni.dev/valid-attachments"] = [{"containerID": "c2", "ifname": "eth0"}]
        host.chain("DEL", plugins, space, container)
        assert host.call("GC", collect, space, container).status == 0
        assert ("PHALANX-CNI" in host.run("iptables", "-S")) is (container == "c1")
    assert "PHALANX-CNI" not in host.run("ip6tables", "-S")


def test_host_that_drops_nothing_gets_no_rules(host: Host) -> None:
    ns = host.netns()
    host.chain("ADD", chain(host, ingressPolicy="open"), ns)

    assert "PHALANX" not in host.run("nft", "list", "ruleset").replace("phalanx", "")


HOST_FIREWALL = """
table inet hostfw {
  chain forward {
    type filter hook forward priority filter; policy drop;
    %s
  }
  chain input {
    type filter hook input priority filter; policy drop;
    accept
  }
}
table ip other {
  chain forward {
    type filter hook forward priority filter; policy accept;
  }
}
"""


@pytest.mark.parametrize("kind", ["bridge", "phalanx-bridge"])
def test_nftables_chain_that_drops_is_named_and_left_to_its_owner(host: Host, kind: str) -> None:
    """No accept in another table helps, the reference's neither; STATUS says which chain it is."""
    outside, ns = client(host), host.netns()
    firewall = "firewall" if kind == "bridge" else "phalanx-isolation"
    plugins = chain(host, {"type": firewall}, kind=kind, ipMasq=True)
    listen(host, outside)
    load = host.enter("nft", "-f", "-")
    subprocess.run(load, input=(HOST_FIREWALL % "").encode(), check=True)
    result = host.chain("ADD", plugins, ns)

    assert is_shut(host, ns, "198.18.0.2", 80)
    if kind == "phalanx-bridge":
        for plugin in plugins:
            status = host.call("STATUS", {**plugin, "cniVersion": "1.1.0"}, ns)
            assert status.status == 0
            assert ": inet hostfw forward: " in status.stderr

    through = 'iifname "phxtestbr" accept; ct state established accept'
    host.run("nft", "delete", "table", "inet", "hostfw")
    subprocess.run(load, input=(HOST_FIREWALL % through).encode(), check=True)
    assert ask(host, ns, "198.18.0.2", 80) == "198.18.0.1"
    host.chain("DEL", plugins, ns, previous=result)
