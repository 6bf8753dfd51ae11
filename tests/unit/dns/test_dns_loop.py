"""Upstreams that lead back to us, through others; and upstreams that change."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from dnslib import RCODE, RR, A, DNSRecord
from tests.unit.dns.client import SECONDS

from phalanx.core.config import HostPort
from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.answer.wire import HEADER_BYTES
from phalanx.dns.follow import follow_upstreams
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.forward.loop import DOUBT_SECONDS, MISSES, PROBE_SECONDS, LoopProbe
from phalanx.dns.forward.message import question_of
from phalanx.dns.forward.ports import Draws
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer

NODE = IPv4Address("198.18.0.2")
UPSTREAM = HostPort("192.0.2.1", 53)
Open = Callable[..., Awaitable[Any]]


async def says(message: bytes, tcp: bool) -> Sequence[bytes]:
    reply = DNSRecord.parse(message).reply(aa=0)
    reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.1"), ttl=60))
    return [bytes(reply.pack())]


async def ask(port: int, name: str) -> DNSRecord:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(("127.0.0.1", port))
        sock.send(bytes(DNSRecord.question(name).pack()))
        async with asyncio.timeout(SECONDS):
            return DNSRecord.parse(await asyncio.get_running_loop().sock_recv(sock, 4096))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it waits for counts, which tell nobody
            await asyncio.sleep(0.002)


async def test_upstream_that_asks_us_is_found_and_left_out(
    zones: ZoneTable, upstream: Open
) -> None:
    now = 0.0
    place: list[int] = []

    async def passes_on(message: bytes, tcp: bool) -> Sequence[bytes]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", place[0]))
            sock.send(message)
            return [await loop.sock_recv(sock, 4096)]

    other = await upstream(passes_on)
    good = await upstream(says)
    forwarder = Forwarder([other.address, good.address], clock=lambda: now)
    async with DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=0) as server:
        place.append(server.listening[0].port)
        await until(lambda: any(reason == "loop" for _, reason in forwarder.failures))
        before = len(other.asked)

        reply = await ask(place[0], "www.example.com")

        assert [str(record.rdata) for record in reply.rr] == ["192.0.2.1"]
        assert len(other.asked) == before
        assert {str(found) for found, why in forwarder.failures if why == "loop"} == {other.address}

        other.script = says
        for _ in range(1 + MISSES):
            assert [str(found) for found in forwarder.leading_back] == [other.address]
            now += DOUBT_SECONDS
            forwarder.probe_loops()
            await until(lambda: not forwarder.is_asking)
        assert not forwarder.leading_back
        await ask(place[0], "other.example.com")
        assert b"\x05other" in b"".join(other.asked[before:])


async def test_who_leads_back_is_known_when_asked_again_after_others(upstream: Open) -> None:
    bad, good = await upstream(says), await upstream(says)
    forwarder = Forwarder([bad.address])
    forwarder.probe_loops()
    await until(lambda: bool(bad.asked) and not forwarder.is_asking)
    assert forwarder.is_own_probe(bad.asked[0][HEADER_BYTES:])

    forwarder.reroute([good.address])
    others = forwarder.leading_back
    forwarder.reroute([bad.address, good.address])

    assert not others
    assert [str(place) for place in forwarder.leading_back] == [bad.address]
    await forwarder.close()


def probe() -> LoopProbe:
    return LoopProbe(Draws(random.Random(1)))


def asked(probe: LoopProbe, now: float) -> bytes:
    """Return the question that the one upstream is asked."""
    [(upstream, key)] = probe.questions([UPSTREAM], now)
    assert upstream == UPSTREAM
    return question_of(key)


def test_one_probe_that_is_lost_does_not_absolve() -> None:
    made = probe()
    made.recognised(asked(made, 0.0))
    asked(made, 5.0)  # lost

    again = asked(made, 10.0)

    assert set(made.leading_back) == {UPSTREAM}
    assert made.recognised(again) == UPSTREAM
    for now in (15.0, 20.0):
        asked(made, now)
    assert set(made.leading_back) == {UPSTREAM}  # one stayed away since
    asked(made, 25.0)
    assert not made.leading_back


def test_probes_that_follow_each_other_at_once_absolve_nobody() -> None:
    made = probe()
    first = asked(made, 0.0)
    made.recognised(first)

    for moment in range(5):
        asked(made, 0.1 * moment)

    assert set(made.leading_back) == {UPSTREAM}


def test_a_probe_that_comes_after_the_next_one_left_is_recognised_however_often() -> None:
    made = probe()
    first = asked(made, 0.0)
    asked(made, 1.0)

    assert [made.recognised(first) for _ in range(2)] == [UPSTREAM, UPSTREAM]


def test_probes_follow_soon_while_in_doubt() -> None:
    made = probe()
    waits = []
    for now in range(0, 25, 5):
        asked(made, float(now))
        waits.append(made.wait_seconds)
    made.change()
    changed = made.wait_seconds
    for now in range(25, 40, 5):
        question = asked(made, float(now))
    sure = made.wait_seconds
    made.recognised(question)

    assert waits == [DOUBT_SECONDS, DOUBT_SECONDS, PROBE_SECONDS, PROBE_SECONDS, PROBE_SECONDS]
    assert (changed, sure, made.wait_seconds) == (DOUBT_SECONDS, PROBE_SECONDS, DOUBT_SECONDS)


async def test_all_upstreams_lead_back(zones: ZoneTable, upstream: Open) -> None:
    place: list[int] = []

    async def passes_on(message: bytes, tcp: bool) -> Sequence[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", place[0]))
            sock.send(message)
            return [await asyncio.get_running_loop().sock_recv(sock, 4096)]

    forwarder = Forwarder([(await upstream(passes_on)).address])
    async with DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=0) as server:
        place.append(server.listening[0].port)
        await until(lambda: forwarder.failures.total() > 0)

        reply = await ask(place[0], "www.example.com")

    assert (RCODE[reply.header.rcode], reply.header.ra) == ("SERVFAIL", 1)


async def test_upstreams_change_while_a_lookup_is_under_way(upstream: Open) -> None:
    may_answer = asyncio.Event()

    async def slow(message: bytes, tcp: bool) -> Sequence[bytes]:
        await may_answer.wait()
        return await says(message, tcp)

    old, new = await upstream(slow), await upstream(says)
    forwarder = Forwarder([old.address])
    server = DnsServer(ZoneTable(node=NODE, servers=[]), forwarder, addresses=["127.0.0.1"], port=0)
    async with server:
        port = server.listening[0].port
        first = asyncio.create_task(ask(port, "one.example.com"))
        await until(lambda: forwarder.lookups_under_way == 1)
        forwarder.reroute([new.address])
        second = await ask(port, "two.example.com")
        may_answer.set()

        assert len((await first).rr) == len(second.rr) == 1
    assert b"\x03two" in b"".join(new.asked)


@pytest.mark.parametrize("fails_first", [True, False])
async def test_lookup_turns_to_new_upstreams_when_the_old_ones_fail(
    upstream: Open, fails_first: bool
) -> None:
    """One of the old ones owes nothing when they change, and is forgotten."""

    async def fails(message: bytes, tcp: bool) -> Sequence[bytes]:
        if not fails_first:
            return []
        reply = DNSRecord.parse(message).reply(aa=0)
        reply.header.rcode = RCODE.SERVFAIL
        return [bytes(reply.pack())]

    async def stalls(message: bytes, tcp: bool) -> Sequence[bytes]:
        return []

    old = [await upstream(each) for each in (fails, stalls)]
    new = await upstream(says)
    forwarder = Forwarder([each.address for each in old], try_seconds=1.0)
    query = parse_query(bytes(DNSRecord.question("www.example.com").pack()))
    assert isinstance(query, Query)
    asking = asyncio.create_task(forwarder.resolve(query, 512))
    await until(lambda: all(each.asked for each in old))
    await until(lambda: forwarder.failures.total() == fails_first)

    forwarder.reroute([new.address])

    async with asyncio.timeout(SECONDS):
        reply = await asking
    assert reply[3] & 15 == RCODE.NOERROR
    await until(lambda: not forwarder.is_asking)
    await until(lambda: [str(place) for place in forwarder.standings] == [new.address])
    await forwarder.close()


async def test_upstream_may_have_an_ipv6_address() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(("::1", 0))
        forwarder = Forwarder([f"[::1]:{sock.getsockname()[1]}"])
        server = DnsServer(
            ZoneTable(node=NODE, servers=[]), forwarder, addresses=["127.0.0.1"], port=0
        )
        async with server:
            asking = asyncio.create_task(ask(server.listening[0].port, "www.example.com"))
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(SECONDS):
                while b"\x03www" not in (query := await loop.sock_recvfrom(sock, 4096))[0]:
                    pass
            [reply] = await says(query[0], tcp=False)
            sock.sendto(reply, query[1])

            assert len((await asking).rr) == 1


def is_asking_only(forwarder: Forwarder, address: str) -> bool:
    return [str(each) for each in forwarder.routes.all] == [address]


async def test_upstreams_of_a_file_that_changes_are_followed(
    upstream: Open, tmp_path: Path
) -> None:
    old, new = await upstream(says), await upstream(says)
    file = tmp_path / "upstreams"
    file.write_text("")
    forwarder = Forwarder()
    zones = ZoneTable(node=NODE, servers=[])
    async with DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=0) as server:
        port = server.listening[0].port
        refused = await ask(port, "zero.example.com")
        follow = asyncio.create_task(
            follow_upstreams(lambda: file.read_text().split(), forwarder, zones, seconds=0.005)
        )
        for text, name in ((old.address, "one"), (new.address, "two"), ("", "three")):
            file.write_text(text)
            await until(partial(is_asking_only, forwarder, text or new.address))
            reply = await ask(port, f"{name}.example.com")
            assert (len(reply.rr), (await ask(port, "ready.spartan")).header.ra) == (1, 1)
        follow.cancel()

    assert RCODE[refused.header.rcode] == "REFUSED"
    asked = b"".join(new.asked)
    assert b"\x03two" in asked
    assert b"\x05three" in asked


async def test_probe_of_another_is_told_and_looked_up_like_any_name(upstream: Open) -> None:
    """A worker tells its plane, which knows what it asks; a resolver behind us is served."""
    other = await upstream(says)
    forwarder, unaware = Forwarder([other.address]), Forwarder()
    told: list[bytes] = []
    told_unaware: list[bytes] = []
    forwarder.probed, unaware.probed = told.append, told_unaware.append
    probe = b"\x10" + b"0123456789abcdef" + b"\x10" + b"f" * 16 + b"\0\0\x0d\0\1"
    header = b"\0\1\1\0\0\1\0\0\0\0\0\0"
    query = parse_query(header + probe)
    plain = parse_query(header + b"\x03www\x07example\0\0\x0d\0\1")
    assert isinstance(query, Query)
    assert isinstance(plain, Query)

    replies = [await forwarder.resolve(each, 512) for each in (query, plain)]

    refused = await unaware.resolve(query, 512)  # it was asked before it was told of upstreams

    assert told == told_unaware == [probe]
    assert [reply[3] & 15 for reply in replies] == [RCODE.NOERROR] * 2
    assert refused[3] & 15 == RCODE.REFUSED
    await forwarder.close()


async def test_upstream_that_another_found_to_lead_back_is_left_out(upstream: Open) -> None:
    bad, good = await upstream(says), await upstream(says)
    forwarder = Forwarder([bad.address, good.address])
    query = parse_query(bytes(DNSRecord.question("www.example.com").pack()))
    assert isinstance(query, Query)

    forwarder.believe([place for place in forwarder.routes.all if str(place) == bad.address])

    assert [str(place) for place in forwarder.leading_back] == [bad.address]
    assert (await forwarder.resolve(query, 512))[3] & 15 == RCODE.NOERROR
    assert (len(bad.asked), len(good.asked)) == (0, 1)
    forwarder.believe([])
    assert not forwarder.leading_back
    await forwarder.close()
