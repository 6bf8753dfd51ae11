"""What the underlay carries, as the kernel of the calling thread's network namespace says."""

import fcntl
import socket
import struct
from ipaddress import IPv4Address

from phalanx.net.rtnl.attribute import decode_attributes
from phalanx.net.rtnl.conversation import Conversation

RTM_GETADDR = 22
_IFADDRMSG = struct.Struct("=BBBBI")  # family, length of the prefix, flags, scope, link
_IFA_LOCAL = 2
_SIOCGIFMTU = 0x8921
_IFREQ = struct.Struct("=16si20x")


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
