"""Requests in bulk: each refusal is told of the request that it is about, and holds up no other."""

import errno
import struct
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from phalanx.core.netns import call_in
from phalanx.net.rtnl.attribute import encode_attribute
from phalanx.net.rtnl.conversation import BATCH, Conversation, Request

RTM_NEWADDR, RTM_GETADDR = 20, 22
IFA_LOCAL = 2
LOOPBACK, NOWHERE = 1, 999  # indices of links
FIRST = IPv4Address("192.0.2.0")

Tell = Callable[[Conversation, list[bytes]], list[int]]


def ask(conversation: Conversation, payloads: list[bytes]) -> list[int]:
    return conversation.ask([Request(RTM_NEWADDR, 0, each) for each in payloads])


def tell(conversation: Conversation, payloads: list[bytes]) -> list[int]:
    refusals = conversation.tell(RTM_NEWADDR, payloads)
    assert all(refusals.values())
    return [refusals.get(place, 0) for place in range(len(payloads))]


def address(number: int, link: int = LOOPBACK) -> bytes:
    head = struct.pack("=BBBBI", 2, 32, 0, 0, link)
    return head + encode_attribute(IFA_LOCAL, (FIRST + number).packed)


@pytest.mark.parametrize("way", [ask, tell])
@pytest.mark.parametrize("size", [0, 1, BATCH, 2 * BATCH + 50])
def test_each_refusal_is_of_its_request(ns: str, way: Tell, size: int) -> None:
    last = size - 1
    faults = {
        place: fault
        for place, fault in {
            7: errno.EEXIST,
            BATCH - 1: errno.ENODEV,  # the one that asks for an answer
            BATCH: errno.EEXIST,
            last: errno.ENODEV,
        }.items()
        if 0 <= place < size
    }
    payloads = [
        address(place, NOWHERE if faults.get(place) == errno.ENODEV else LOOPBACK)
        if faults.get(place) != errno.EEXIST
        else address(0)
        for place in range(size)
    ]

    def run() -> tuple[list[int], list[int], int]:
        with Conversation() as conversation:
            first = way(conversation, payloads)
            again = way(conversation, payloads)
            return (
                first,
                again,
                len(conversation.dump(RTM_GETADDR, bytes((2, 0, 0, 0, 0, 0, 0, 0)))),
            )

    first, again, there = call_in(Path("/run/netns", ns), run)

    assert first == [faults.get(place, 0) for place in range(size)]
    assert again == [faults.get(place, errno.EEXIST) for place in range(size)]
    assert there == 1 + size - len(faults)  # with 127.0.0.1
