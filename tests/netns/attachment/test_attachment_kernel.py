"""Attachments in real namespaces, with real packets."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from phalanx.core.error import ConflictError, DataplaneError, NotFoundError
from phalanx.core.netns import enter
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.commands import carry_out
from phalanx.net.attachment.error import CniError
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.namespace import opened
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.attachment.request import Command, Request
from phalanx.net.attachment.spec import veth_name
from phalanx.net.ipam.owner import Owner
from phalanx.net.ipam.store import AddressStore

DCOS = LeasedNetwork(
    "dcos",
    1024,
    1450,
    (LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1")),),
)
BLUE = LeasedNetwork(
    "blue",
    1025,
    1400,
    (
        LeasedSubnet(
            IPv4Network("10.1.0.0/16"), IPv4Network("10.1.3.0/24"), IPv4Address("10.1.3.1")
        ),
    ),
)
NETWORKS = {"dcos": DCOS, "blue": BLUE}


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def ip_json(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ip("-j", "-d", *arguments) or "[]")
    return [item for item in found if item]


def inside(netns: str, function: Callable[[], Any]) -> Any:
    """Call *function* in a thread of its own that is in a namespace."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            with opened([f"/run/netns/{netns}"]) as descriptor:
                enter(descriptor)
            outcome.append(function())
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    if isinstance(outcome[0], OSError):
        raise outcome[0]
    return outcome[0]


class Lab:
    """A node and as many containers as asked for."""

    def __init__(self, node: str, leases: Path, stack: ExitStack) -> None:
        self.node = node
        self._stack = stack
        self.leases = AddressStore(leases)
        self.links = KernelLinks(netns=Path("/run/netns", node))
        stack.callback(self.links.close)
        self.attachments = Attachments(self.links, self.leases, KernelHostPorts())

    def container(self) -> str:
        name = f"phxtest-c{uuid4().hex[:8]}"
        ip("netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def run(
        self,
        command: Command,
        container: str,
        ifname: str = "eth0",
        network: str = "dcos",
        **fields: Any,
    ) -> dict[str, Any]:
        request = Request(
            command,
            "1.0.0",
            network,
            Owner(container, ifname),
            netns=f"/run/netns/{container}",
            **fields,
        )
        return self.links.run(
            lambda: carry_out(self.attachments, request, lambda: NETWORKS[network])
        )

    def add(self, container: str, *arguments: str) -> IPv4Address:
        result = self.run(Command.ADD, container, *arguments)
        return IPv4Interface(result["ips"][0]["address"]).ip

    def node_links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in ip_json("-n", self.node, "link", "show")}


@pytest.fixture
def lab(ns: str, tmp_path: Path) -> Iterator[Lab]:
    with ExitStack() as stack:
        yield Lab(ns, tmp_path, stack)


def exchange(server: str, client: str, address: IPv4Address) -> bytes:
    """Send a word from one namespace to a listener in another; return what came back."""

    def listen() -> socket.socket:
        return socket.create_server((str(address), 8080))

    def ask() -> bytes:
        with socket.create_connection((str(address), 8080), timeout=5) as peer:
            peer.sendall(b"ping")
            return peer.recv(100)

    with closing(inside(server, listen)) as listener:

        def answer() -> None:
            connection, (host, _) = listener.accept()
            with connection:
                connection.sendall(connection.recv(100) + b" from " + host.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        reply: bytes = inside(client, ask)
        thread.join(10)
        return reply


def test_containers_on_one_bridge_talk_at_once(lab: Lab) -> None:
    first, second = lab.container(), lab.container()
    one, two = lab.add(first), lab.add(second)

    ping = subprocess.run(
        ["ip", "netns", "exec", first, "ping", "-c", "1", "-W", "5", str(two)], capture_output=True
    )

    assert ping.returncode == 0, ping.stdout
    assert exchange(second, first, two) == b"ping from " + str(one).encode()


def test_default_route_leads_through_the_gateway(lab: Lab) -> None:
    container = lab.container()
    address = lab.add(container)
    ip("-n", lab.node, "address", "add", "198.18.0.2/32", "dev", "lo")

    reply = exchange(lab.node, container, IPv4Address("198.18.0.2"))

    assert reply == b"ping from " + str(address).encode()
    [route] = ip_json("-n", container, "route", "show", "default")
    assert (route["gateway"], route["protocol"]) == ("9.0.1.1", "122")


def test_node_forwards_between_its_networks(lab: Lab) -> None:
    here, there = lab.container(), lab.container()
    one, two = lab.add(here), lab.add(there, "eth0", "blue")

    assert exchange(there, here, two) == b"ping from " + str(one).encode()


def test_links_are_as_planned(lab: Lab) -> None:
    container = lab.container()
    lab.add(container)
    links = lab.node_links()

    bridge, port = links["phx-1024"], links[veth_name(Owner(container, "eth0"))]
    [inner] = [link for link in ip_json("-n", container, "link") if link["ifname"] == "eth0"]

    assert bridge["ifalias"] == "dcos"
    assert bridge["address"] == "0a:58:09:00:01:01"
    assert bridge["linkinfo"]["info_data"]["stp_state"] == 0
    assert port["master"] == "phx-1024"
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert [bridge["mtu"], port["mtu"], inner["mtu"]] == [1450, 1450, 1450]
    queues = [link[f"num_{way}_queues"] for link in (port, inner) for way in ("tx", "rx")]
    assert queues == [1, 1, 1, 1]
    assert inner["address"] == "0a:58:09:00:01:02"
    assert "UP" in inner["flags"]
    [address] = ip_json("-n", lab.node, "address", "show", "dev", "phx-1024")
    assert [a["local"] for a in address["addr_info"] if a["family"] == "inet"] == ["9.0.1.1"]


def test_bridge_keeps_its_mac_when_ports_come_and_go(lab: Lab) -> None:
    containers = [lab.container() for _ in range(3)]
    for container in containers:
        lab.add(container)
    for container in containers:
        lab.run(Command.DEL, container)

    assert lab.node_links()["phx-1024"]["address"] == "0a:58:09:00:01:01"


def test_container_on_two_networks_reaches_both(lab: Lab) -> None:
    both, other = lab.container(), lab.container()
    lab.add(both)
    inner = lab.add(both, "eth1", "blue")
    address = lab.add(other, "eth0", "blue")

    routes = ip_json("-n", both, "route")

    assert exchange(other, both, address) == b"ping from " + str(inner).encode()
    assert {(r["dst"], r.get("gateway"), r.get("metric")) for r in routes if "gateway" in r} == {
        ("default", "9.0.1.1", None),
        ("default", "10.1.3.1", 1),
        ("10.1.0.0/16", "10.1.3.1", 1),
    }


def test_delete_leaves_nothing_and_may_be_repeated(lab: Lab) -> None:
    container = lab.container()
    lab.add(container)

    for _ in range(2):
        lab.run(Command.DEL, container)

    assert set(lab.node_links()) == {"lo", "phx-1024"}
    assert [link["ifname"] for link in ip_json("-n", container, "link")] == ["lo"]
    assert lab.leases.leases("dcos") == {}


def test_delete_works_when_the_namespace_is_gone(lab: Lab) -> None:
    container = lab.container()
    lab.add(container)
    ip("netns", "delete", container)

    lab.run(Command.DEL, container)

    assert set(lab.node_links()) == {"lo", "phx-1024"}
    assert lab.leases.leases("dcos") == {}


def test_add_without_namespace_leaves_nothing(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="there is none"):
        lab.run(Command.ADD, "phxtest-absent")

    assert set(lab.node_links()) == {"lo"}
    assert lab.leases.leases("dcos") == {}


def test_add_to_what_is_no_namespace_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    request = Request(Command.ADD, "1.0.0", "dcos", Owner("c", "eth0"), netns=str(file))

    with pytest.raises(NotFoundError, match="network namespace"):
        lab.links.run(lambda: carry_out(lab.attachments, request, lambda: DCOS))

    assert set(lab.node_links()) == {"lo"}


def test_add_over_an_existing_interface_leaves_nothing_new(lab: Lab) -> None:
    container = lab.container()
    ip("-n", container, "link", "add", "eth0", "type", "bridge")

    with pytest.raises(ConflictError, match="'eth0' exists in the container"):
        lab.add(container)

    assert set(lab.node_links()) == {"lo"}
    assert lab.leases.leases("dcos") == {}
    [link] = [link for link in ip_json("-n", container, "link") if link["ifname"] == "eth0"]
    assert link["linkinfo"]["info_kind"] == "bridge"


def test_add_that_fails_at_its_last_step_leaves_nothing(lab: Lab) -> None:
    container = lab.container()
    ip("-n", container, "link", "add", "other", "type", "bridge")
    ip("-n", container, "address", "add", "10.9.9.9/24", "dev", "other")
    ip("-n", container, "link", "set", "other", "up")
    ip("-n", container, "route", "add", "default", "via", "10.9.9.1")

    with pytest.raises(DataplaneError, match="File exists"):
        lab.add(container)

    assert set(lab.node_links()) == {"lo"}
    assert {link["ifname"] for link in ip_json("-n", container, "link")} == {"lo", "other"}
    assert lab.leases.leases("dcos") == {}


def test_failed_add_spares_a_bridge_that_others_use(lab: Lab) -> None:
    good, bad = lab.container(), lab.container()
    lab.add(good)
    ip("-n", bad, "link", "add", "eth0", "type", "bridge")

    with pytest.raises(ConflictError, match="exists"):
        lab.add(bad)

    assert set(lab.node_links()) == {"lo", "phx-1024", veth_name(Owner(good, "eth0"))}


def test_link_that_bears_the_name_of_a_bridge_is_not_touched(lab: Lab) -> None:
    ip("-n", lab.node, "link", "add", "phx-1024", "type", "veth")

    with pytest.raises(ConflictError, match="no bridge"):
        lab.add(lab.container())

    assert lab.node_links()["phx-1024"]["linkinfo"]["info_kind"] == "veth"


def test_add_works_anew_after_a_restart(lab: Lab, tmp_path: Path) -> None:
    first, second = lab.container(), lab.container()
    lab.add(first)
    with ExitStack() as stack:
        again = Lab(lab.node, tmp_path, stack)

        assert str(again.add(second)) == "9.0.1.3"
        with pytest.raises(ConflictError, match="holds"):
            again.add(first)
        again.run(Command.DEL, first)

    assert set(lab.node_links()) == {"lo", "phx-1024", veth_name(Owner(second, "eth0"))}


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (("link", "set", "eth0", "down"), "eth0 is down"),
        (("address", "flush", "dev", "eth0"), r"address 9\.0\.1\.2/24 is missing"),
        (("link", "set", "eth0", "address", "02:00:00:00:00:01"), "has MAC 02:00:00:00:00:01"),
        (("route", "delete", "default"), r"route to 0\.0\.0\.0/0 via 9\.0\.1\.1 is missing"),
        (("link", "delete", "eth0"), r"link phxv\w+ is missing"),
    ],
    ids=["down", "address", "mac", "route", "deleted"],
)
def test_check_sees_what_was_spoilt(lab: Lab, spoil: tuple[str, ...], fault: str) -> None:
    container = lab.container()
    address = IPv4Interface((lab.add(container), 24))
    lab.run(Command.CHECK, container, previous=(address,))
    ip("-n", container, *spoil)

    with pytest.raises(CniError, match=fault):
        lab.run(Command.CHECK, container, previous=(address,))


def test_check_sees_a_port_that_left_its_bridge(lab: Lab) -> None:
    container = lab.container()
    address = IPv4Interface((lab.add(container), 24))
    ip("-n", lab.node, "link", "set", veth_name(Owner(container, "eth0")), "nomaster")

    with pytest.raises(CniError, match="is not on phx-1024"):
        lab.run(Command.CHECK, container, previous=(address,))


def test_gc_removes_what_is_not_listed_on_its_own_network_only(lab: Lab) -> None:
    kept, lost, blue = lab.container(), lab.container(), lab.container()
    lab.add(kept)
    lab.add(lost)
    lab.add(blue, "eth0", "blue")

    lab.run(Command.GC, "", "", valid=frozenset({Owner(kept, "eth0")}))

    assert set(lab.leases.leases("dcos").values()) == {Owner(kept, "eth0")}
    assert set(lab.node_links()) == {
        "lo",
        "phx-1024",
        "phx-1025",
        veth_name(Owner(kept, "eth0")),
        veth_name(Owner(blue, "eth0")),
    }


def test_second_path_is_used_when_the_first_leads_nowhere(lab: Lab) -> None:
    container = lab.container()

    result = lab.run(Command.ADD, container, netns_handle="/proc/0/fd/3")

    assert result["interfaces"][2]["sandbox"] == f"/run/netns/{container}"
    assert "eth0" in {link["ifname"] for link in ip_json("-n", container, "link")}


def test_long_life_gathers_nothing(lab: Lab) -> None:
    container = lab.container()

    for _ in range(10):
        lab.add(container)
        lab.run(Command.DEL, container)
    opened_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        lab.add(container)
        lab.run(Command.DEL, container)

    assert len(list(Path("/proc/self/fd").iterdir())) == opened_files
