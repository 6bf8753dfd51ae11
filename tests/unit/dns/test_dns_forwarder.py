"""The forwarder against upstreams on loopback that lie, stall, cut short and fail."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Protocol

import pytest
from dnslib import RCODE, RR, A, DNSRecord
from tests.unit.dns.client import SECONDS

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.forward.message import UpstreamReply, make_key
from phalanx.dns.forward.ports import PORTS, USES

TRY_SECONDS = 1.0  # long enough for an answer on a busy machine, where another try fails

Script = Callable[[bytes, bool], Awaitable[Sequence[bytes]]]


class Upstream(Protocol):
    address: str
    asked: list[bytes]
    clients: list[tuple[str, int]]


Open = Callable[[Script], Awaitable[Upstream]]
Make = Callable[..., Forwarder]


def query(name: str = "www.example.com", id_: int = 4711) -> Query:
    message = DNSRecord.question(name).pack()
    found = parse_query(struct.pack("!H", id_) + bytes(message[2:]))
    assert isinstance(found, Query)
    return found


def answered(
    message: bytes, address: str = "192.0.2.80", *, ttl: int = 60, times: int = 1
) -> bytes:
    reply = DNSRecord.parse(message).reply(aa=0)
    for _ in range(times):
        reply.add_answer(RR(reply.q.qname, rdata=A(address), ttl=ttl))
    return bytes(reply.pack())


def failed(message: bytes, rcode: str = "SERVFAIL") -> bytes:
    reply = DNSRecord.parse(message).reply(aa=0)
    reply.header.rcode = getattr(RCODE, rcode)
    return bytes(reply.pack())


def says(address: str, *, ttl: int = 60) -> Script:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [answered(message, address, ttl=ttl)]

    return script


def fails(rcode: str) -> Script:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [failed(message, rcode)]

    return script


async def stalls(message: bytes, tcp: bool) -> Sequence[bytes]:
    return []


def result(reply: bytes) -> tuple[str, list[str]]:
    decoded = DNSRecord.parse(reply)
    return str(RCODE[decoded.header.rcode]), [str(record.rdata) for record in decoded.rr]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - it waits for counts, which tell nobody
            await asyncio.sleep(0.002)


@pytest.fixture
async def forwarder() -> AsyncIterator[Make]:
    """Yield a function that makes forwarders, closed at the end."""
    async with AsyncExitStack() as stack:

        def make(*upstreams: Upstream, **settings: object) -> Forwarder:
            addresses = [found.address for found in upstreams]
            found = Forwarder(addresses, **settings)  # type: ignore[arg-type]  # checked at run time
            stack.push_async_callback(found.close)
            return found

        yield make


async def test_answer_comes_back_with_the_clients_id_and_case(
    upstream: Open, forwarder: Make
) -> None:
    lookup = forwarder(await upstream(says("192.0.2.1")))

    reply = await lookup.resolve(query("wWw.Example.com"), 512)

    assert reply[:2] == struct.pack("!H", 4711)
    assert result(reply) == ("NOERROR", ["192.0.2.1"])
    assert str(DNSRecord.parse(reply).q.qname) == "wWw.Example.com."
    assert DNSRecord.parse(reply).header.ra == 1


async def test_each_try_has_a_random_id_and_any_of_several_ports(
    upstream: Open, forwarder: Make
) -> None:
    server = await upstream(says("192.0.2.1"))
    lookup = forwarder(server)

    for number in range(400):
        await lookup.resolve(query(f"n{number}.example.com"), 512)

    assert len({message[:2] for message in server.asked}) > 380
    ports = [port for _, port in server.clients]
    assert len(set(ports)) >= PORTS
    assert max(Counter(ports).values()) <= USES
    assert sum(one != other for one, other in pairwise(ports)) > 250


async def test_good_answer_beats_a_fast_failure(upstream: Open, forwarder: Make) -> None:
    has_failed = asyncio.Event()

    async def quick(message: bytes, tcp: bool) -> Sequence[bytes]:
        asyncio.get_running_loop().call_later(0.02, has_failed.set)
        return [failed(message, "SERVFAIL")]

    async def slow(message: bytes, tcp: bool) -> Sequence[bytes]:
        await has_failed.wait()
        return [answered(message, "192.0.2.2")]

    lookup = forwarder(await upstream(quick), await upstream(slow))

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.2"])
    assert list(lookup.failures.values()) == [1]


async def test_quicker_of_two_good_answers_wins(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(stalls), await upstream(says("192.0.2.2")))

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.2"])


async def test_denial_is_a_good_answer(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(fails("NXDOMAIN")), await upstream(stalls))

    assert result(await lookup.resolve(query(), 512)) == ("NXDOMAIN", [])


@pytest.mark.parametrize(
    ("spoil", "case"),
    [
        pytest.param(lambda m: struct.pack("!H", m[0] << 8 | m[1] ^ 1) + m[2:], "id", id="id"),
        pytest.param(lambda m: m.replace(b"example", b"exbmple", 1), "name", id="name"),
        pytest.param(lambda m: m[:5] + b"\0" + m[6:], "question", id="no-question"),
        pytest.param(lambda m: m[:20], "cut", id="cut"),
        pytest.param(lambda m: b"", "empty", id="empty"),
    ],
)
async def test_lies_are_not_heard(
    upstream: Open, forwarder: Make, spoil: Callable[[bytes], bytes], case: str
) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [spoil(answered(message, "203.0.113.66")), answered(message, "192.0.2.1")]

    lookup = forwarder(await upstream(script))

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.1"]), case


async def test_answer_from_elsewhere_is_not_heard(upstream: Open, forwarder: Make) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(answered(message, "203.0.113.66"), server.clients[-1])
        return [answered(message, "192.0.2.1")]

    server = await upstream(script)
    lookup = forwarder(server)

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.1"])


async def test_lost_datagram_is_sent_again(upstream: Open, forwarder: Make) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [answered(message)] if len(server.asked) > 1 else []

    server = await upstream(script)
    lookup = forwarder(server, try_seconds=TRY_SECONDS)

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.80"])


async def test_third_upstream_is_asked_when_the_best_two_fail(
    upstream: Open, forwarder: Make
) -> None:
    lookup = forwarder(
        await upstream(stalls),
        await upstream(fails("REFUSED")),
        await upstream(says("192.0.2.3")),
        try_seconds=TRY_SECONDS,
    )

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.3"])


async def test_upstream_that_failed_is_asked_later(upstream: Open, forwarder: Make) -> None:
    bad = [await upstream(fails("REFUSED")), await upstream(fails("SERVFAIL"))]
    good = [await upstream(says("192.0.2.3")), await upstream(says("192.0.2.3"))]
    lookup = forwarder(*bad, *good)
    await lookup.resolve(query("one.example.com"), 512)
    before = [len(server.asked) for server in bad]

    await lookup.resolve(query("two.example.com"), 512)

    assert [len(server.asked) for server in bad] == before == [1, 1]


@pytest.mark.parametrize("rcode", ["SERVFAIL", "REFUSED", "FORMERR", "NOTIMP"])
async def test_when_all_fail_the_client_hears_servfail(
    upstream: Open, forwarder: Make, rcode: str
) -> None:
    lookup = forwarder(await upstream(fails(rcode)), await upstream(fails(rcode)))

    assert result(await lookup.resolve(query(), 512)) == ("SERVFAIL", [])
    assert lookup.replies == {(".", 2): 1}


async def test_when_all_stall_the_client_hears_servfail(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(stalls), await upstream(stalls), try_seconds=0.05)

    assert result(await lookup.resolve(query(), 512)) == ("SERVFAIL", [])
    assert {reason for _, reason in lookup.failures} == {"timeout"}


async def test_closed_port_is_a_failure_at_once() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        free = sock.getsockname()[1]
    lookup = Forwarder([f"127.0.0.1:{free}"], try_seconds=60)

    assert result(await lookup.resolve(query(), 512)) == ("SERVFAIL", [])
    assert {reason for _, reason in lookup.failures} == {"unreachable"}
    await lookup.close()


async def test_without_upstreams_foreign_names_are_refused() -> None:
    assert result(await Forwarder().resolve(query(), 512)) == ("REFUSED", [])


async def test_cut_answer_is_fetched_whole_over_tcp(upstream: Open, forwarder: Make) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        if tcp:
            return [answered(message, times=60)]
        return [message[:2] + struct.pack("!H", 0x8380) + message[4:]]

    lookup = forwarder(await upstream(script))

    over_tcp = await lookup.resolve(query(), 65535)
    over_udp = await lookup.resolve(query(), 512)

    assert len(result(over_tcp)[1]) == 60
    assert (DNSRecord.parse(over_udp).header.tc, result(over_udp)[1]) == (1, [])
    assert lookup.events["cache_hit"] == 1


async def test_what_has_another_id_is_not_heard_over_tcp_either(
    upstream: Open, forwarder: Make
) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        if not tcp:
            return [message[:2] + struct.pack("!H", 0x8380) + message[4:]]
        other = bytes([message[0] ^ 1]) + message[1:]
        return [answered(other, "192.0.2.66"), answered(message, "192.0.2.1")]

    lookup = forwarder(await upstream(script))

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.1"])


async def test_upstream_that_hangs_up_on_tcp_has_failed(upstream: Open, forwarder: Make) -> None:
    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [] if tcp else [message[:2] + struct.pack("!H", 0x8380) + message[4:]]

    lookup = forwarder(await upstream(script))

    assert result(await lookup.resolve(query(), 512)) == ("SERVFAIL", [])
    assert {reason for _, reason in lookup.failures} == {"unreachable"}


async def test_answer_is_kept_and_its_ttl_runs_down(upstream: Open, forwarder: Make) -> None:
    now = 1000.0
    server = await upstream(says("192.0.2.1", ttl=60))
    lookup = forwarder(server, clock=lambda: now)
    await lookup.resolve(query(), 512)

    now += 25
    kept = await lookup.resolve(query("WWW.example.com"), 512)
    now += 35
    await lookup.resolve(query(), 512)

    assert [record.ttl for record in DNSRecord.parse(kept).rr] == [35]
    assert len(server.asked) == 2


async def test_same_questions_at_once_are_asked_once(upstream: Open, forwarder: Make) -> None:
    may_answer = asyncio.Event()

    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        await may_answer.wait()
        return [answered(message)]

    server = await upstream(script)
    lookup = forwarder(server)
    clients = [asyncio.create_task(lookup.resolve(query(id_=n), 512)) for n in range(5)]
    await until(lambda: lookup.events["coalesced"] == 4)
    may_answer.set()

    replies = await asyncio.gather(*clients)

    assert [reply[:2] for reply in replies] == [struct.pack("!H", n) for n in range(5)]
    assert len(server.asked) == 1


async def test_client_that_leaves_does_not_end_the_lookup_of_others(
    upstream: Open, forwarder: Make
) -> None:
    may_answer = asyncio.Event()

    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        await may_answer.wait()
        return [answered(message)]

    lookup = forwarder(await upstream(script))
    first, second = (asyncio.create_task(lookup.resolve(query(), 512)) for _ in range(2))
    await until(lambda: lookup.events["coalesced"] == 1)
    first.cancel()
    may_answer.set()

    assert result(await second) == ("NOERROR", ["192.0.2.80"])


async def test_too_many_lookups_at_once_fail_fast(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(stalls), max_flights=1)
    waiting = asyncio.create_task(lookup.resolve(query("one.example.com"), 512))
    await until(lambda: lookup.events["forwarded"] == 1)

    reply = await lookup.resolve(query("two.example.com"), 512)

    assert result(reply) == ("SERVFAIL", [])
    assert lookup.events["overload"] == 1
    waiting.cancel()


async def test_too_many_clients_of_one_lookup_fail_fast(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(stalls), max_waiting=1)
    waiting = asyncio.create_task(lookup.resolve(query(), 512))
    await until(lambda: lookup.events["forwarded"] == 1)

    assert result(await lookup.resolve(query(), 512)) == ("SERVFAIL", [])
    waiting.cancel()


async def test_zone_has_upstreams_of_its_own(upstream: Open) -> None:
    default, own = await upstream(says("192.0.2.1")), await upstream(says("192.0.2.2"))
    lookup = Forwarder([default.address], zones=[f"corp.example={own.address}", "no.example="])

    found = [
        result(await lookup.resolve(query(name), 512))
        for name in ("www.example.com", "www.Corp.example", "www.no.example")
    ]

    assert found == [("NOERROR", ["192.0.2.1"]), ("NOERROR", ["192.0.2.2"]), ("REFUSED", [])]
    await lookup.close()


async def test_upstream_that_always_loses_is_marked_when_it_never_answers(
    upstream: Open, forwarder: Make
) -> None:
    silent = await upstream(stalls)
    lookup = forwarder(silent, await upstream(says("192.0.2.2")), try_seconds=TRY_SECONDS)

    await lookup.resolve(query(), 512)

    await until(lambda: lookup.failures.total() == 1)
    assert {(str(place), why) for place, why in lookup.failures} == {(silent.address, "timeout")}


async def test_upstream_that_recovers_is_found_by_a_probe(upstream: Open, forwarder: Make) -> None:
    now = 0.0
    is_well = False

    async def flaps(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [answered(message, "192.0.2.9") if is_well else failed(message)]

    sick = await upstream(flaps)
    others = [await upstream(says("192.0.2.1")) for _ in range(2)]
    lookup = forwarder(sick, *others, clock=lambda: now)
    await lookup.resolve(query("one.example.com"), 512)
    await until(lambda: lookup.failures.total() == 1)
    is_well = True
    now += 1
    await lookup.resolve(query("two.example.com"), 512)
    before = len(sick.asked)
    now += 6

    await lookup.resolve(query("three.example.com"), 512)

    await until(lambda: len(sick.asked) == before + 1)
    assert before == 1


async def test_when_upstreams_fail_the_last_answer_is_given_with_a_short_ttl(
    upstream: Open, forwarder: Make
) -> None:
    now = 0.0
    is_well = True

    async def script(message: bytes, tcp: bool) -> Sequence[bytes]:
        return [answered(message, ttl=60) if is_well else failed(message)]

    server = await upstream(script)
    lookup = forwarder(server, clock=lambda: now)
    await lookup.resolve(query(), 512)
    is_well = False
    now += 3600

    stale = [await lookup.resolve(query(), 512) for _ in range(2)]

    assert [result(reply) for reply in stale] == [("NOERROR", ["192.0.2.80"])] * 2
    assert {record.ttl for reply in stale for record in DNSRecord.parse(reply).rr} == {30}
    assert len(server.asked) == 3  # fresh, then two rounds; the second client did not ask again
    is_well = True
    now += 60
    again = await lookup.resolve(query(), 512)
    assert [record.ttl for record in DNSRecord.parse(again).rr] == [60]


async def test_when_upstreams_stall_the_last_answer_is_given_soon(
    upstream: Open, forwarder: Make
) -> None:
    now = 0.0
    server = await upstream(says("192.0.2.1", ttl=60))
    lookup = forwarder(server, clock=lambda: now, try_seconds=60, patience_seconds=0.05)
    await lookup.resolve(query(), 512)
    server.script = stalls  # type: ignore[attr-defined]  # the protocol shows what most tests need
    now += 61

    assert result(await lookup.resolve(query(), 512)) == ("NOERROR", ["192.0.2.1"])
    assert lookup.lookups_under_way == 1


async def test_last_answer_that_had_to_make_room_is_no_reason_to_fail(
    upstream: Open, forwarder: Make
) -> None:
    now = 0.0
    may_answer = asyncio.Event()

    async def slow(message: bytes, tcp: bool) -> Sequence[bytes]:
        await may_answer.wait()
        return [answered(message)]

    server = await upstream(says("192.0.2.1", ttl=60))
    lookup = forwarder(
        server, clock=lambda: now, try_seconds=60, patience_seconds=0.0, max_cached=1
    )
    await lookup.resolve(query(), 512)
    reply, other = UpstreamReply(0, 0, (0, 0, 0), b"", 60, False), make_key(b"other")
    server.script = slow  # type: ignore[attr-defined]  # the protocol shows what most tests need
    now += 61
    heard: list[bytes] = []

    assert lookup.look_up(query(), 512, b"", lambda _, reply: heard.append(reply)) is None
    lookup._memory.cache.put(other, reply, now)
    await until(lambda: len(server.asked) == 2)  # patience is over by now

    assert not heard
    may_answer.set()
    await until(lambda: bool(heard))
    assert result(heard[0]) == ("NOERROR", ["192.0.2.80"])


async def test_hot_answer_is_fetched_anew_before_its_end(upstream: Open, forwarder: Make) -> None:
    now = 0.0
    server = await upstream(says("192.0.2.1", ttl=100))
    lookup = forwarder(server, clock=lambda: now)
    await lookup.resolve(query(), 512)
    now += 50
    await lookup.resolve(query(), 512)
    now += 45

    kept = await lookup.resolve(query(), 512)
    await until(lambda: lookup.lookups_under_way == 0)
    fresh = await lookup.resolve(query(), 512)

    ttls = [DNSRecord.parse(reply).rr[0].ttl for reply in (kept, fresh)]
    assert (ttls, len(server.asked)) == ([5, 100], 2)


async def test_one_client_does_not_take_the_room_of_others(upstream: Open, forwarder: Make) -> None:
    lookup = forwarder(await upstream(stalls), max_waiting=8, try_seconds=60)
    greedy = [
        asyncio.create_task(lookup.resolve(query(f"n{n}.example.com"), 512, b"10.0.0.1"))
        for n in range(4)
    ]
    modest = asyncio.create_task(lookup.resolve(query("m.example.com"), 512, b"10.0.0.2"))
    await until(lambda: lookup.events["forwarded"] == 5)

    assert result(await lookup.resolve(query("x.example.com"), 512, b"10.0.0.1")) == (
        "SERVFAIL",
        [],
    )
    third = asyncio.create_task(lookup.resolve(query("y.example.com"), 512, b"10.0.0.3"))
    await until(lambda: lookup.events["forwarded"] == 6)
    assert lookup.events["overload"] == 1
    for task in (*greedy, modest, third):
        task.cancel()
