"""What the underlay carries, as the kernel of the calling thread's network namespace says."""

import fcntl
import socket
import struct
from ipaddress import IPv4Address

import structlog

from phalanx.net.rtnl.attribute import decode_attributes
from phalanx.net.rtnl.conversation import Conversation

RTM_GETADDR = 22
_IFADDRMSG = struct.Struct("=BBBBI")  # family, length of the prefix, flags, scope, link
_IFA_LOCAL = 2
_SIOCGIFMTU = 0x8921
_IFREQ = struct.Struct("=16si20x")

log = structlog.get_logger()


class Underlay:
    """The underlay as the node with the address *node* sees it."""

    def __init__(self, node: IPv4Address) -> None:
        self._node = node
        self._is_missing = False

    def mtu(self) -> int | None:
        """Return what ``underlay_mtu`` does; an address that is on no link is told of once."""
        found = underlay_mtu(self._node)
        if found is None and not self._is_missing:
            about = "is on no link here: routes start again when it is back, or with another --ip"
            log.warning("underlay_address_missing", address=str(self._node), about=about)
        self._is_missing = found is None
        return found


def underlay_mtu(node: IPv4Address) -> int | None:
    """Return the MTU of the link that has the address *node*; None when none has it.

    Raises OSError when the kernel can't be asked.
    """
    with Conversation() as conversation:
        messages = conversation.dump(RTM_GETADDR, _IFADDRMSG.pack(socket.AF_INET, 0, 0, 0, 0))
    for message in messages:
        *_, index = _IFADDRMSG.unpack_from(message)
        found = dict(decode_attributes(message[_IFADDRMSG.size :]))
        if found.get(_IFA_LOCAL) == node.packed:
            return _mtu_of(index)
    return None


def _mtu_of(index: int) -> int | None:
    """Return the MTU of a link; None when it has just gone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            request = _IFREQ.pack(socket.if_indextoname(index).encode(), 0)
            answer = fcntl.ioctl(asker, _SIOCGIFMTU, request)
        except OSError:
            return None
    return int(_IFREQ.unpack(answer)[1])
