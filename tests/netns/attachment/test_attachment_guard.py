"""A container sends only as itself: what leaves its port with another's MAC or address is lost."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from phalanx.core.netns import call_in
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.attachment.spec import veth_name
from phalanx.net.ipam.owner import Owner

MAC, OTHER_MAC = "0a:58:09:00:01:02", "0a:58:09:00:01:03"
OWN, OTHER = "9.0.1.2", "9.0.1.3"
OWN6, OTHER6 = "fd01:b::2", "fd01:b::3"
LINK_LOCAL = "fe80::858:9ff:fe00:102"
ETH_P_ALL, MARK = 3, b"mark of this test"
ALL = "ff:ff:ff:ff:ff:ff"


@pytest.fixture
def wire(ns: str, tmp_path: Path) -> Iterator[Callable[[Packet], bool]]:
    """Yield a function that sends from a guarded container and tells whether its bridge has it."""
    owner = Owner("c1", "eth0")
    port = veth_name(owner)
    inside = f"{ns}-c"
    run("ip", "netns", "add", inside)
    sockets: list[socket.socket] = []
    try:
        run("ip", "-n", ns, "link", "add", "phx-1024", "type", "bridge")
        run("ip", "-n", ns, "link", "add", port, "type", "veth", "peer", "name", "eth0",
            "netns", inside)  # fmt: skip
        run("ip", "-n", ns, "link", "set", port, "master", "phx-1024", "up")
        run("ip", "-n", ns, "link", "set", "phx-1024", "up")
        run("ip", "-n", inside, "link", "set", "eth0", "address", MAC, "up")
        ports = KernelHostPorts(directory=tmp_path)
        addresses = [ip_interface(f"{OWN}/24"), ip_interface(f"{OWN6}/80")]
        node = Path("/run/netns", ns)
        call_in(node, lambda: ports.open("dcos", owner, addresses, (), bridge="phx-1024", mac=MAC))
        for name, link in ((inside, "eth0"), (ns, "phx-1024")):
            made = call_in(Path("/run/netns", name), packet_socket)
            made.bind((link, ETH_P_ALL))
            made.settimeout(5)
            sockets.append(made)
        sender, receiver = sockets

        def passes(packet: Packet) -> bool:
            last = Ether(src=MAC, dst=ALL) / IP(src=OWN, dst="9.0.1.255") / UDP() / b"last"
            sender.send(bytes(packet))
            sender.send(bytes(last))
            heard = []
            while (raw := receiver.recv(2048)) != bytes(last):
                heard.append(raw)
            return bytes(packet) in heard

        yield passes
        call_in(node, lambda: ports.close("dcos", owner))
        left = run("ip", "netns", "exec", ns, "nft", "list", "set", "bridge", "phalanx_cni", "own4")
        assert "elements" not in left
    finally:
        for item in sockets:
            item.close()
        run("ip", "netns", "delete", inside)


def packet_socket() -> socket.socket:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def ether(source: str = MAC) -> Packet:
    return Ether(src=source, dst=ALL)


def arp(mac: str, address: str) -> Packet:
    return ARP(op=2, hwsrc=mac, psrc=address, hwdst=ALL, pdst="9.0.1.1")


HONEST = {
    "ip": ether() / IP(src=OWN, dst="9.0.1.255") / UDP() / MARK,
    "arp": ether() / arp(MAC, OWN),
    "ip6": ether() / IPv6(src=OWN6, dst="ff02::1") / UDP() / MARK,
    "advertised": ether() / IPv6(src=LINK_LOCAL, dst="ff02::1") / ICMPv6ND_NA(tgt=OWN6),
    "asked-whether-taken": ether() / IPv6(src="::", dst="ff02::1") / UDP() / MARK,
}
FORGED = {
    "mac": ether(OTHER_MAC) / IP(src=OWN, dst="9.0.1.255") / UDP() / MARK,
    "address": ether() / IP(src=OTHER, dst="9.0.1.255") / UDP() / MARK,
    "both": ether(OTHER_MAC) / IP(src=OTHER, dst="9.0.1.255") / UDP() / MARK,
    "arp-of-another": ether() / arp(MAC, OTHER),
    "arp-of-the-gateway": ether() / arp(MAC, "9.0.1.1"),
    "arp-in-anothers-name": ether() / arp(OTHER_MAC, OWN),
    "address6": ether() / IPv6(src=OTHER6, dst="ff02::1") / UDP() / MARK,
    "neighbour-in-anothers-name": ether()
    / IPv6(src=OTHER6, dst="ff02::1")
    / ICMPv6ND_NA(tgt=OTHER6)
    / ICMPv6NDOptDstLLAddr(lladdr=MAC),
    "router": ether() / IPv6(src=LINK_LOCAL, dst="ff02::1") / ICMPv6ND_RA(),
    "no-protocol-of-containers": Ether(src=MAC, dst=ALL, type=0x88CC) / MARK,
}


@pytest.mark.parametrize("packet", HONEST.values(), ids=HONEST.keys())
def test_what_is_its_own_passes(wire: Callable[[Packet], bool], packet: Packet) -> None:
    assert wire(packet)


@pytest.mark.parametrize("packet", FORGED.values(), ids=FORGED.keys())
def test_what_is_anothers_is_lost(wire: Callable[[Packet], bool], packet: Packet) -> None:
    assert not wire(packet)
