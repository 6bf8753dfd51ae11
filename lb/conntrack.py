"""Tracked connections by netlink (linux/netfilter/nfnetlink_conntrack.h)."""

import errno
import os
import socket
from collections.abc import Collection
from typing import NamedTuple

from phalanx.lb.service import Endpoint, Vip
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute
from phalanx.net.rtnl.conversation import Conversation, Request

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = (1 << 8) + 1, (1 << 8) + 2
ORIGINAL, REPLY = 1, 2  # tuples of a connection
ADDRESSES, PROTOCOL = 1, 2  # parts of a tuple
NUMBER, SOURCE_PORT, DESTINATION_PORT = 1, 2, 3
NESTED = 0x8000

_HEAD_BYTES = 4  # of an nfnetlink message: family, version, resource
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

Key = tuple[bytes, int, int, bytes, int]  # of VIP and backend, as packets spell them


class Flow(NamedTuple):
    """A connection: where its packets go, where its replies come from, and its name."""

    key: Key
    original: bytes  # the tuple that names it


def forget(pairs: Collection[tuple[Vip, Endpoint]]) -> int:
    """Delete the flows from each VIP to the endpoint beside it; return how many there were.

    Costs one look at all flows of the thread's network namespace, however many
    pairs there are. Raises OSError when the kernel refuses.
    """
    wanted = {_key(vip, endpoint) for vip, endpoint in pairs}
    deleted = 0
    with Conversation(NETLINK_NETFILTER) as conversation:
        for version in {vip.address.version for vip, _ in pairs}:
            head = bytes((_FAMILIES[version], 0, 0, 0))
            found = [
                Request(CT_DELETE, 0, head + encode_attribute(ORIGINAL | NESTED, flow.original))
                for answer in conversation.dump(CT_GET, head)
                if (flow := decode_flow(answer)) is not None and flow.key in wanted
            ]
            for error in conversation.ask(found):
                if error not in (0, errno.ENOENT):
                    raise OSError(error, os.strerror(error))
            deleted += len(found)
    return deleted


def decode_flow(answer: bytes) -> Flow | None:
    """Return the flow of one message, None for a protocol without ports; pure."""
    tuples = dict(decode_attributes(answer[_HEAD_BYTES:]))
    there, back = (_ends(tuples.get(kind, b"")) for kind in (ORIGINAL, REPLY))
    if there is None or back is None:
        return None
    _, destination, number, _, port = there
    source, _, _, source_port, _ = back
    return Flow((destination, number, port, source, source_port), tuples[ORIGINAL])


def _ends(data: bytes) -> tuple[bytes, bytes, int, int, int] | None:
    """Return source, destination, protocol number and both ports of a tuple."""
    parts = dict(decode_attributes(data))
    addresses = [value for _, value in sorted(decode_attributes(parts.get(ADDRESSES, b"")))]
    protocol = dict(decode_attributes(parts.get(PROTOCOL, b"")))
    try:
        source, destination = addresses  # the source's attribute has the lower number
        number, *ports = (
            int.from_bytes(protocol[kind], "big")
            for kind in (NUMBER, SOURCE_PORT, DESTINATION_PORT)
        )
    except (KeyError, ValueError):
        return None
    return source, destination, number, ports[0], ports[1]


def _key(vip: Vip, endpoint: Endpoint) -> Key:
    return (
        vip.address.packed,
        vip.protocol.number,
        vip.port,
        endpoint.address.packed,
        endpoint.port,
    )
