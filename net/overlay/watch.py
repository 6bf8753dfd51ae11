"""Notice changes of what is ours of links, routes, rules, addresses and settings, without a list.

The kernel tells of each change, but of routes that go with their link or with
their source address: so those two are watched as well. Of settings it tells
of forwarding and of reverse path filters.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

from phalanx.net.address.kernel import LABEL, OURS6
from phalanx.net.overlay.mark import PROTOCOL, TUNNEL
from phalanx.net.rtnl.attribute import decode_attributes
from phalanx.net.rtnl.conversation import HEADER, SOL_NETLINK, Conversation, is_own
from phalanx.net.rtnl.ports import OwnPorts

NETLINK_ADD_MEMBERSHIP = 1
SO_RCVBUFFORCE = 33
# RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF,
# _IPV6_NETCONF
GROUPS = (1, 5, 7, 8, 9, 11, 24, 25)
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR = 20, 21
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
RTM_NEWRULE, RTM_DELRULE = 32, 33
RTM_NEWNETCONF = 80
LOST = 0  # a type that no message of rtnetlink has

_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDRMSG = struct.Struct("=BBBBI")
_FIBMSG_BYTES = 12  # rtmsg and fib_rule_hdr
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU = 1, 3, 4
_IFA_ADDRESS, _IFA_LOCAL, _IFA_LABEL = 1, 2, 3
_FRA_PROTOCOL = 21
_NETCONFMSG_BYTES = 4
_NETCONFA_IFINDEX = 1
_ALL_LINKS = -1
_IFF_UP = 1

GONE = " gone"
OURS = "phx-"  # begins the names of the tunnel and of bridges, not of containers' links
BUFFER_BYTES = 4 << 20
DATAGRAM_BYTES = 1 << 16

_Form = tuple[int, int, bytes, int]  # of a link: whether it is up, MTU, MAC address, index


class RtnlWatch:
    """The news of the calling thread's network namespace that may concern a node's tables."""

    def __init__(self, node: IPv4Address) -> None:
        """Start watching; *node* is the underlay address, whose link is watched, too."""
        self._node = node.packed
        self._links: dict[str, _Form] = {}
        self._own_ports = OwnPorts(socket.NETLINK_ROUTE)
        self._news = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._news.setblocking(False)
        self._news.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._news.bind((0, 0))
        for group in GROUPS:
            self._news.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)
        with Conversation() as conversation:
            for message in conversation.dump(RTM_GETLINK, _IFINFOMSG.pack(0, 0, 0, 0, 0)):
                self._note_link(RTM_NEWLINK, message)

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is news, of whatever."""
        return self._news.fileno()

    def news(self) -> frozenset[str]:
        """Return what others changed of ours since the last call.

        ``route``, ``rule``, ``address``, ``setting``, ``lost`` or the name of a link, followed by
        ``GONE`` for one that is down or no more. The kernel tells of no writer of a link or a
        setting: our own changes of those count as others'.
        """
        found = set()
        for kind, port, message in self._messages():
            word = self._concern(kind, message)
            if word is not None and port not in self._own_ports:
                found.add(word)
        return frozenset(found)

    def close(self) -> None:
        """Stop watching."""
        self._news.close()

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield type, port of the writer and payload of each; LOST where some was lost."""
        while True:
            try:
                datagram = self._news.recv(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield LOST, 0, b""
                continue
            offset = 0
            while offset + HEADER.size <= len(datagram):
                length, kind, _, _, port = HEADER.unpack_from(datagram, offset)
                if not is_own(port):
                    yield kind, port, datagram[offset + HEADER.size : offset + length]
                offset += (length + 3) & ~3

    def _concern(self, kind: int, message: bytes) -> str | None:
        """Return what of ours a message tells of; None for what is not ours."""
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            return self._note_link(kind, message)
        if kind == LOST:
            return "lost"
        if kind in (RTM_NEWADDR, RTM_DELADDR):
            return "address" if self._is_our_address(message) else None
        if kind in (RTM_NEWROUTE, RTM_DELROUTE):
            return "route" if message[5] == PROTOCOL else None
        if kind in (RTM_NEWRULE, RTM_DELRULE):
            found = dict(decode_attributes(message[_FIBMSG_BYTES:]))
            return "rule" if found.get(_FRA_PROTOCOL) == bytes([PROTOCOL]) else None
        if kind == RTM_NEWNETCONF:
            return "setting" if self._is_our_setting(message) else None
        return None

    def _note_link(self, kind: int, message: bytes) -> str | None:
        """Remember a link; return its name if it is ours or carries us, and is another than was."""
        family, _, index, flags, _ = _IFINFOMSG.unpack_from(message)
        found = dict(decode_attributes(message[_IFINFOMSG.size :]))
        name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        if family or (name.startswith("phx") and not name.startswith(OURS)):
            return None  # a bridge tells of a port, or a container comes or goes
        before = self._links.get(name)
        if kind == RTM_DELLINK:
            self._links.pop(name, None)
            return name + GONE if name.startswith(OURS) else None
        mtu = int.from_bytes(found.get(_IFLA_MTU, b""), "little")
        form = (flags & _IFF_UP, mtu, found.get(_IFLA_ADDRESS, b""), index)
        self._links[name] = form
        if before is None:
            return name if name.startswith(OURS) else None
        if form[:2] == before[:2] and (form == before or not name.startswith(OURS)):
            return None
        return name + GONE if before[0] and not form[0] else name

    def _is_our_setting(self, message: bytes) -> bool:
        found = dict(decode_attributes(message[_NETCONFMSG_BYTES:]))
        index = int.from_bytes(found.get(_NETCONFA_IFINDEX, b""), "little", signed=True)
        tunnel = self._links.get(TUNNEL)
        return index == _ALL_LINKS or (tunnel is not None and index == tunnel[-1])

    def _is_our_address(self, message: bytes) -> bool:
        found = dict(decode_attributes(message[_IFADDRMSG.size :]))
        if message[0] == socket.AF_INET:
            label = found.get(_IFA_LABEL, b"").rstrip(b"\0")
            return label == LABEL.encode() or found.get(_IFA_LOCAL) == self._node
        packed = found.get(_IFA_ADDRESS, b"")
        return len(packed) == 16 and any(IPv6Address(packed) in prefix for prefix in OURS6)
