"""A container sends only as itself: what leaves its port with another's MAC or address is lost."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_interface
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet

from phalanx.core.netns import call_in
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.attachment.spec import veth_name
from phalanx.net.ipam.owner import Owner

MAC, OTHER_MAC = "0a:58:09:00:01:02", "0a:58:09:00:01:03"
OWN, OTHER = "9.0.1.2", "9.0.1.3"
OWN6, OTHER6 = "fd01:b::2", "fd01:b::3"
LINK_LOCAL = "fe80::858:9ff:fe00:102"
ATTEMPTS = 10
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
            made.settimeout(1)
            sockets.append(made)
        sender, receiver = sockets

        def passes(packet: Packet) -> bool:
            last = Ether(src=MAC, dst=ALL) / IP(src=OWN, dst="9.0.1.255") / UDP() / b"last"
            for _ in range(ATTEMPTS):  # the bridge hears some moments later that its port is up
                sender.send(bytes(packet))
                sender.send(bytes(last))
                heard = []
                with suppress(TimeoutError):
                    while (raw := receiver.recv(2048)) != bytes(last):
                        heard.append(raw)
                    return bytes(packet) in heard
            raise AssertionError("nothing passes at all")

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


def advert(target: str, mac: str = MAC, source: str = LINK_LOCAL) -> Packet:
    option = ICMPv6NDOptDstLLAddr(lladdr=mac)
    return ether() / IPv6(src=source, dst="ff02::1") / ICMPv6ND_NA(tgt=target, S=0) / option


def solicit(target: str, mac: str = MAC, source: str = OWN6) -> Packet:
    option = ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return ether() / IPv6(src=source, dst="ff02::1") / ICMPv6ND_NS(tgt=target) / option


def taken(target: str) -> Packet:
    return ether() / IPv6(src="::", dst="ff02::1") / ICMPv6ND_NS(tgt=target)


def routers(mac: str) -> Packet:
    option = ICMPv6NDOptSrcLLAddr(lladdr=mac)
    return ether() / IPv6(src=LINK_LOCAL, dst="ff02::2") / ICMPv6ND_RS() / option


def dhcp(source: int, destination: int) -> Packet:
    return ether() / IP(src=OWN, dst="9.0.1.255") / UDP(sport=source, dport=destination) / MARK


def dhcp6(source: int, destination: int) -> Packet:
    ends = IPv6(src=LINK_LOCAL, dst="ff02::1:2")
    return ether() / ends / UDP(sport=source, dport=destination) / MARK


NONCE = ICMPv6NDOptUnknown(type=14, len=1, data=b"nonce!")
HONEST = {
    "ip": ether() / IP(src=OWN, dst="9.0.1.255") / UDP() / MARK,
    "arp": ether() / arp(MAC, OWN),
    "arp-for-itself": ether() / ARP(op=1, hwsrc=MAC, psrc=OWN, pdst=OWN),
    "arp-asks-for-the-gateway": ether() / ARP(op=1, hwsrc=MAC, psrc=OWN, pdst="9.0.1.1"),
    "arp-asks-whether-taken": ether() / ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", pdst=OWN),
    "ip6": ether() / IPv6(src=OWN6, dst="ff02::1") / UDP() / MARK,
    "advertised": ether() / IPv6(src=LINK_LOCAL, dst="ff02::1") / ICMPv6ND_NA(tgt=OWN6),
    "advertised-with-its-mac": advert(OWN6),
    "advertised-from-its-address": advert(OWN6, source=OWN6),
    "link-local-advertised": advert(LINK_LOCAL),
    "asks-for-another": solicit(OTHER6),
    "asks-for-the-gateway": solicit("fd01:b::1", source=LINK_LOCAL),
    "asks-without-its-mac": ether() / IPv6(src=OWN6, dst="ff02::1") / ICMPv6ND_NS(tgt=OTHER6),
    "asked-whether-taken": taken(OWN6),
    "asked-whether-its-link-local-is-taken": taken(LINK_LOCAL),
    "asked-with-a-nonce": taken(OWN6) / NONCE,
    "no-address-yet": ether() / IPv6(src="::", dst="ff02::1") / UDP() / MARK,
    "asks-for-routers": routers(MAC),
    "asks-for-routers-without-its-mac": ether()
    / IPv6(src=LINK_LOCAL, dst="ff02::2")
    / ICMPv6ND_RS(),
    "ping": ether() / IPv6(src=OWN6, dst="ff02::1") / ICMPv6EchoRequest(data=MARK),
    "dhcp-client": dhcp(68, 67),
    "dhcp-relay": dhcp(67, 67),
    "dhcp6-client": dhcp6(546, 547),
    "answer-from-a-port-of-dhcp": dhcp(546, 40000),
    "tcp-to-a-port-of-dhcp": ether() / IP(src=OWN, dst="9.0.1.255") / TCP(dport=68) / MARK,
}
FORGED = {
    "mac": ether(OTHER_MAC) / IP(src=OWN, dst="9.0.1.255") / UDP() / MARK,
    "address": ether() / IP(src=OTHER, dst="9.0.1.255") / UDP() / MARK,
    "both": ether(OTHER_MAC) / IP(src=OTHER, dst="9.0.1.255") / UDP() / MARK,
    "address-behind-a-tag": ether() / Dot1Q(vlan=1) / IP(src=OTHER, dst="9.0.1.255") / UDP() / MARK,
    "arp-of-another": ether() / arp(MAC, OTHER),
    "arp-of-the-gateway": ether() / arp(MAC, "9.0.1.1"),
    "arp-in-anothers-name": ether() / arp(OTHER_MAC, OWN),
    "arp-for-another-as-its-proxy": ether() / ARP(op=2, hwsrc=MAC, psrc=OTHER, pdst=OTHER),
    "arp-asks-whether-anothers-is-taken": ether()
    / ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", pdst=OTHER),
    "address6": ether() / IPv6(src=OTHER6, dst="ff02::1") / UDP() / MARK,
    "neighbour-in-anothers-name": advert(OTHER6, source=OTHER6),
    "neighbour-of-another-by-its-own-name": advert(OTHER6),
    "gateway-by-its-own-name": advert("fd01:b::1", source=OWN6),
    "neighbour-with-anothers-mac": advert(OWN6, OTHER_MAC),
    "neighbour-behind-another-option": ether()
    / IPv6(src=OWN6, dst="ff02::1")
    / ICMPv6ND_NA(tgt=OWN6)
    / NONCE
    / ICMPv6NDOptDstLLAddr(lladdr=OTHER_MAC),
    "neighbour-behind-a-header": ether()
    / IPv6(src=OWN6, dst="ff02::1")
    / IPv6ExtHdrDestOpt()
    / ICMPv6ND_NA(tgt=OTHER6),
    "neighbour-in-fragments": ether()
    / IPv6(src=OWN6, dst="ff02::1")
    / IPv6ExtHdrFragment(m=1, id=7)
    / ICMPv6ND_NA(tgt=OTHER6),
    "asks-with-anothers-mac": solicit("fd01:b::1", OTHER_MAC),
    "asks-for-routers-with-anothers-mac": routers(OTHER_MAC),
    "asked-whether-anothers-is-taken": taken(OTHER6),
    "router": ether() / IPv6(src=LINK_LOCAL, dst="ff02::1") / ICMPv6ND_RA(),
    "router-behind-a-header": ether()
    / IPv6(src=LINK_LOCAL, dst="ff02::1")
    / IPv6ExtHdrHopByHop()
    / ICMPv6ND_RA(),
    "redirect": ether()
    / IPv6(src=LINK_LOCAL, dst="ff02::1")
    / ICMPv6ND_Redirect(tgt=OWN6, dst=OTHER6),
    "dhcp-server": dhcp(67, 68),
    "dhcp-server-at-another-port": dhcp(6767, 68),
    "dhcp-server-at-the-clients-port": dhcp(68, 68),
    "dhcp6-server": dhcp6(547, 546),
    "dhcp6-server-at-another-port": dhcp6(5470, 546),
    "dhcp6-server-behind-a-header": ether()
    / IPv6(src=LINK_LOCAL, dst="ff02::1:2")
    / IPv6ExtHdrDestOpt()
    / UDP(sport=5470, dport=546)
    / MARK,
    "no-protocol-of-containers": Ether(src=MAC, dst=ALL, type=0x88CC) / MARK,
}


@pytest.mark.parametrize("packet", HONEST.values(), ids=HONEST.keys())
def test_what_is_its_own_passes(wire: Callable[[Packet], bool], packet: Packet) -> None:
    assert wire(packet)


@pytest.mark.parametrize("packet", FORGED.values(), ids=FORGED.keys())
def test_what_is_anothers_is_lost(wire: Callable[[Packet], bool], packet: Packet) -> None:
    assert not wire(packet)


def test_rules_of_an_older_version_are_written_anew_and_elements_stay(
    ns: str, tmp_path: Path
) -> None:
    node = Path("/run/netns", ns)
    ports = KernelHostPorts(directory=tmp_path)

    def opened(container: str, address: str) -> None:
        ports.open("dcos", Owner(container, "eth0"), [ip_interface(address)], (),
                   bridge="phx-1024", mac=MAC)  # fmt: skip

    def listed(family: str) -> str:
        return run("ip", "netns", "exec", ns, "nft", "list", "table", family, "phalanx_cni")

    call_in(node, lambda: opened("c1", "9.0.1.2/24"))
    of_one, of_both = listed("bridge"), listed("inet")
    older = (
        "flush table bridge phalanx_cni; delete set bridge phalanx_cni target;"
        " add rule bridge phalanx_cni prerouting accept"
    )
    run("ip", "netns", "exec", ns, "nft", older)

    call_in(node, lambda: opened("c2", "9.0.1.3/24"))
    assert "9.0.1.2" in listed("bridge")
    call_in(node, lambda: ports.close("dcos", Owner("c2", "eth0")))

    assert rules_of(listed("bridge")) == rules_of(of_one)
    assert rules_of(listed("inet")) == rules_of(of_both)


def rules_of(listing: str) -> list[str]:
    lines = listing[listing.index("chain ") :].splitlines()
    return [re.sub(r"packets \d+ bytes \d+", "", line) for line in lines]
