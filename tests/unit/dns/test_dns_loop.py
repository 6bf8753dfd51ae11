"""Upstreams that lead back to us, through others; and upstreams that change."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from dnslib import RCODE, RR, A, DNSRecord

from phalanx.dns.answer.query import Query, parse_query
from phalanx.dns.follow import follow_upstreams
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer

NODE = IPv4Address("198.18.0.2")
Open = Callable[..., Awaitable[Any]]


async def says(message: bytes, tcp: bool) -> Sequence[bytes]:
    reply = DNSRecord.parse(message).reply(aa=0)
    reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.1"), ttl=60))
    return [bytes(reply.pack())]


async def ask(port: int, name: str) -> DNSRecord:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(("127.0.0.1", port))
        sock.send(bytes(DNSRecord.question(name).pack()))
        async with asyncio.timeout(5):
            return DNSRecord.parse(await asyncio.get_running_loop().sock_recv(sock, 4096))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - it waits for counts, which tell nobody
            await asyncio.sleep(0.002)


async def test_upstream_that_asks_us_is_found_and_left_out(
    zones: ZoneTable, upstream: Open
) -> None:
    place: list[int] = []

    async def passes_on(message: bytes, tcp: bool) -> Sequence[bytes]:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(("127.0.0.1", place[0]))
            sock.send(message)
            return [await loop.sock_recv(sock, 4096)]

    other = await upstream(passes_on)
    good = await upstream(says)
    forwarder = Forwarder([other.address, good.address])
    async with DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=0) as server:
        place.append(server.listening[0].port)
        await until(lambda: any(reason == "loop" for _, reason in forwarder.failures))
        before = len(other.asked)

        reply = await ask(place[0], "www.example.com")

        assert [str(record.rdata) for record in reply.rr] == ["192.0.2.1"]
        assert len(other.asked) == before
        assert {str(found) for found, why in forwarder.failures if why == "loop"} == {other.address}

        other.script = says
        for _ in range(2):  # the first time it is still left out
            forwarder.probe_loops()
            await until(lambda: not forwarder.is_asking)
        await ask(place[0], "other.example.com")
        assert b"\x05other" in b"".join(other.asked[before:])


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

    assert RCODE[reply.header.rcode] == "SERVFAIL"


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
            async with asyncio.timeout(5):
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
