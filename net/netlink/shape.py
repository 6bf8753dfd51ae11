"""Queueing of a link: token buckets, and what comes in led through a link of its own."""

from _struct import pack, unpack_from

from phalanx.net.netlink.wire import (
    CREATE,
    EXCL,
    Conversation,
    Message,
    attribute,
    attributes,
    nest,
    text,
)

NEWQDISC, GETQDISC, NEWTFILTER = 36, 38, 44
ROOT, INGRESS, INGRESS_HANDLE = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFF0000
LATENCY = 25  # milliseconds that a packet waits at most
ETHERNET, NEAREST_64_NS = 1, 64
STOLEN, REDIRECT = 4, 1


def token_bucket(index: int, rate: int, burst: int) -> Message:
    """Return the message that lets *rate* bytes a second out of a link, *burst* bytes at once."""
    slow = min(rate, 0xFFFFFFFF)
    limit = min(rate * LATENCY // 1000 + burst, 0xFFFFFFFF)
    ticks = min(burst * 1_000_000_000 // rate // NEAREST_64_NS, 0xFFFFFFFF)
    parameters = pack("=BBHhHI", 0, ETHERNET, 0, 0, 0, slow) + bytes(12)
    options = [attribute(1, parameters + pack("=III", limit, ticks, 0))]
    if rate > slow:
        options.append(attribute(4, pack("=Q", rate)))
    options.append(attribute(6, pack("=I", burst)))
    head = pack("=BxxxiIII", 0, index, 0x10000, ROOT, 0)
    return Message(NEWQDISC, CREATE | EXCL, head + text(1, "tbf") + nest(2, *options))


def led_through(index: int, other: int) -> list[Message]:
    """Return the messages that lead what comes in by a link through another."""
    qdisc = pack("=BxxxiIII", 0, index, INGRESS_HANDLE, INGRESS, 0) + text(1, "ingress")
    selector = pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(16)
    mirror = pack("=IIiiiiI", 0, 0, STOLEN, 0, 0, REDIRECT, other)
    action = nest(1, text(1, "mirred"), nest(2, attribute(2, mirror)))
    options = nest(2, attribute(5, selector), nest(7, action))
    filtered = pack("=BxxxiIII", 0, index, 0, INGRESS_HANDLE, 1 << 16 | 0x0300)
    return [
        Message(NEWQDISC, CREATE | EXCL, qdisc),
        Message(NEWTFILTER, CREATE | EXCL, filtered + text(1, "u32") + options),
    ]


def rate_of(talk: Conversation, index: int) -> int:
    """Return how many bytes a second a link's token bucket lets out, 0 without one."""
    for payload in talk.dump(GETQDISC, pack("=BxxxiIII", 0, index, 0, 0, 0)):
        inner = attributes(payload, 20)
        if unpack_from("=i", payload, 4)[0] != index or inner.get(1) != b"tbf\0":
            continue
        options = attributes(inner[2])
        if 4 in options:
            return int(unpack_from("=Q", options[4])[0])
        return int(unpack_from("=I", options[1], 8)[0])
    return 0
