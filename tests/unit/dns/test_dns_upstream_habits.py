"""Every bad habit of an upstream beside a good one, and alone."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from dnslib import RCODE, RR, A, DNSRecord
from tests.unit.dns.client import SECONDS

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.forward.forwarder import Forwarder

Script = Callable[[bytes, bool], Awaitable[Sequence[bytes]]]
Open = Callable[[Script], Awaitable[Any]]
GOOD, LIE = "192.0.2.1", "203.0.113.66"
TRY_SECONDS = 0.15  # where nobody is to be heard
HEARD_SECONDS = 1.0  # long enough for an answer on a busy machine


def query(name: str = "www.example.com") -> Query:
    found = parse_query(bytes(DNSRecord.question(name).pack()))
    assert isinstance(found, Query)
    return found


def answered(message: bytes, address: str = LIE) -> bytes:
    reply = DNSRecord.parse(message).reply(aa=0)
    reply.add_answer(RR(reply.q.qname, rdata=A(address), ttl=60))
    return bytes(reply.pack())


def habit(*spoiled: Callable[[bytes], bytes]) -> Script:
    """Return a script that sends each of these instead of the answer."""

    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [spoil(message) for spoil in spoiled]

    return script


def with_flags(flags: int) -> Callable[[bytes], bytes]:
    return lambda message: message[:2] + struct.pack("!H", flags) + answered(message)[4:]


def shifted(message: bytes) -> bytes:
    reply = answered(message)
    return bytes([reply[0] ^ 0x80]) + reply[1:]


HABITS = {
    "stalls": habit(),
    "another-id": habit(shifted),
    "another-question": habit(lambda m: answered(m.replace(b"example", b"exomple"))),
    "another-type": habit(lambda m: answered(m[:-3] + b"\x1c" + m[-2:])),
    "two-questions": habit(lambda m: answered(m)[:5] + b"\2" + answered(m)[6:]),
    "a-query": habit(lambda m: m),
    "no-answer-bit": habit(with_flags(0x0180)),
    "another-opcode": habit(with_flags(0x9180)),
    "cut-in-a-record": habit(lambda m: answered(m)[:-2]),
    "garbage": habit(lambda m: m[:2] + b"\xff" * 40),
    "endless-name": habit(lambda m: m[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + m[12:] + b"\xc0"),
    "refuses": habit(with_flags(0x8185)),
    "fails": habit(with_flags(0x8182)),
    "cut-over-tcp-too": habit(with_flags(0x8380)),
    "many-wrong-ones": habit(*[shifted] * 20),
}


async def result(forwarder: Forwarder) -> tuple[str, list[str]]:
    async with asyncio.timeout(SECONDS):
        reply = DNSRecord.parse(await forwarder.resolve(query(), 1232))
    await forwarder.close()
    return str(RCODE[reply.header.rcode]), [str(record.rdata) for record in reply.rr]


@pytest.mark.parametrize("name", HABITS)
async def test_bad_habit_beside_a_good_upstream_does_no_harm(upstream: Open, name: str) -> None:
    bad, good = await upstream(HABITS[name]), await upstream(habit(lambda m: answered(m, GOOD)))

    forwarder = Forwarder([bad.address, good.address], try_seconds=SECONDS)

    assert await result(forwarder) == ("NOERROR", [GOOD])


@pytest.mark.parametrize("name", HABITS)
async def test_bad_habit_alone_is_a_failure_told_to_the_client(upstream: Open, name: str) -> None:
    forwarder = Forwarder([(await upstream(HABITS[name])).address], try_seconds=TRY_SECONDS)

    rcode, answers = await result(forwarder)

    assert (rcode, answers) == ("SERVFAIL", [])
    assert forwarder.failures.total() > 0


async def test_answer_from_another_port_of_the_upstream_is_not_heard(upstream: Open) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            other.sendto(answered(message), server.clients[-1])
        return []

    server = await upstream(script)

    assert await result(Forwarder([server.address], try_seconds=TRY_SECONDS)) == ("SERVFAIL", [])


async def test_answer_after_its_time_is_not_heard(upstream: Open) -> None:
    late = asyncio.Event()

    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        await late.wait()
        return [answered(message)]

    server = await upstream(script)
    forwarder = Forwarder([server.address], try_seconds=0.05)
    async with asyncio.timeout(SECONDS):
        reply = DNSRecord.parse(await forwarder.resolve(query(), 1232))
    late.set()

    assert RCODE[reply.header.rcode] == "SERVFAIL"
    assert not forwarder.is_asking
    await forwarder.close()


async def test_upstream_that_flaps_is_used_while_it_is_well(upstream: Open) -> None:
    turn = 0

    async def flaps(message: bytes, tcp: bool) -> Sequence[bytes]:
        nonlocal turn
        turn += 1
        return [answered(message, GOOD)] if turn % 2 else []

    forwarder = Forwarder([(await upstream(flaps)).address], try_seconds=HEARD_SECONDS)
    for number in range(4):
        reply = DNSRecord.parse(await forwarder.resolve(query(f"n{number}.example.com"), 1232))
        assert [str(record.rdata) for record in reply.rr] == [GOOD]
    await forwarder.close()
