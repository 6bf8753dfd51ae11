"""The server on loopback sockets: datagrams, who may ask, and its start and end."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Any

import pytest
from dnslib import RCODE, RR, A, DNSRecord
from prometheus_client import CollectorRegistry
from tests.unit.dns.client import (
    SECONDS,
    addresses,
    ask_tcp,
    ask_udp,
    framed,
    free_port,
    message,
    rcode_of,
    read_reply,
    says,
)

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.admission import Admission, parse_networks
from phalanx.dns.batch import Datagram
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.listener import RECEIVE_BUFFER_BYTES, Listener
from phalanx.dns.metrics import DnsCollector
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.net.model.view import View

Serve = Callable[..., Awaitable[DnsServer]]


def stands() -> float:
    """Return one time for ever: what waits is never too old, however busy the machine is."""
    return 7.5


async def test_burst_of_datagrams_is_answered(serve: Serve) -> None:
    [place] = (await serve(clock=stands)).listening

    replies = await ask_udp(place, *(message("web.marathon.mesos", n) for n in range(200)))

    assert [struct.unpack("!H", reply[:2])[0] for reply in replies] == list(range(200))
    assert {tuple(addresses(reply)) for reply in replies} == {("9.0.0.1", "9.0.0.2", "9.0.0.3")}


async def test_burst_of_one_client_is_answered_in_turns_with_others(serve: Serve) -> None:
    server = await serve(clock=stands)
    [place] = server.listening
    loop = asyncio.get_running_loop()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as greedy,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as modest,
    ):
        greedy.bind(("127.0.0.2", 0))
        modest.bind(("127.0.0.3", 0))
        for number in range(1000):
            greedy.sendto(message("web.marathon.mesos", number), (place.host, place.port))
        modest.sendto(message("web.marathon.mesos", 7), (place.host, place.port))
        async with asyncio.timeout(SECONDS):
            reply = await loop.sock_recv(modest, 65535)
            before = server.waiting
            for _ in range(1000):
                await loop.sock_recv(greedy, 65535)

    assert addresses(reply) == ["9.0.0.1", "9.0.0.2", "9.0.0.3"]
    assert (before > 0, server.waiting, server.dropped) == (True, 0, 0)


async def test_bursts_at_two_addresses_are_answered_from_where_they_came_to(serve: Serve) -> None:
    places = (await serve(addresses=["127.0.0.1", "127.0.0.9", "::1"], clock=stands)).listening
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        clients = []
        for place in places:
            family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            clients.append(stack.enter_context(sock))
            sock.connect((place.host, place.port))  # so it hears nobody else
        for number in range(200):
            for sock in clients:
                sock.send(message("ready.spartan", number))
        async with asyncio.timeout(SECONDS):
            for sock in clients:
                ids = {(await loop.sock_recv(sock, 512))[:2] for _ in range(200)}
                assert len(ids) == 200


async def test_listener_ends_in_a_flood_and_answers_what_waited() -> None:
    waiting, most = 300, 1000
    answered: list[bytes] = []
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        client.connect(sock.getsockname())

        def serve(came: list[Datagram], _: Listener, __: bool) -> list[Datagram]:
            client.send(b"more")
            answered.extend(each for each, _ in came)
            assert len(answered) < most
            return []

        listener = Listener(sock, serve, lambda: None, clock=stands)
        for number in range(waiting):
            client.send(str(number).encode())

        listener.close()

        assert sock.fileno() < 0
    assert {str(number).encode() for number in range(waiting)} <= {*answered}


async def test_scraps_do_not_stop_the_server(serve: Serve) -> None:
    [place] = (await serve()).listening
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for scrap in (b"", b"\0", b"\x80" * 12):
            sock.sendto(scrap, (place.host, place.port))

    [reply] = await ask_udp(place, message("ready.spartan"))

    assert addresses(reply) == ["127.0.0.1"]


class Upstreams:
    """What the fixture of scripted upstreams yields, as a type."""

    address: str


async def test_foreign_name_is_looked_up_over_either_transport(
    serve: Serve, upstream: Callable[..., Awaitable[Upstreams]]
) -> None:
    server = await upstream(says)
    [place] = (await serve(Forwarder([server.address]))).listening

    [fresh] = await ask_udp(place, message("www.example.com"))
    [kept] = await ask_udp(place, message("www.example.com"))
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(message("other.example.com")))
    writer.write_eof()
    over_tcp = await read_reply(reader)
    writer.close()

    assert [addresses(reply) for reply in (fresh, kept, over_tcp)] == 3 * [["192.0.2.1"]]


async def test_without_upstreams_foreign_names_are_refused(serve: Serve) -> None:
    [place] = (await serve()).listening

    [reply] = await ask_udp(place, message("www.example.com"))

    assert RCODE[DNSRecord.parse(reply).header.rcode] == "REFUSED"


async def test_server_ends_while_lookups_are_under_way(
    zones: ZoneTable, upstream: Callable[..., Awaitable[Upstreams]]
) -> None:
    asked = asyncio.Event()

    async def stalls(query: bytes, tcp: bool) -> Sequence[bytes]:
        asked.set()
        return []

    server = await upstream(stalls)
    forwarder = Forwarder([server.address])
    async with DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=0) as running:
        [place] = running.listening
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(message("www.example.com"), (place.host, place.port))
            reader, writer = await asyncio.open_connection(place.host, place.port)
            async with asyncio.timeout(SECONDS):
                await asked.wait()

    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""
    writer.close()
    assert not forwarder.lookups_under_way


async def test_address_that_is_taken_is_named(serve: Serve, zones: ZoneTable) -> None:
    [place] = (await serve()).listening
    second = DnsServer(zones, Forwarder(), addresses=["127.0.0.1"], port=place.port)

    with pytest.raises(ConfigError, match=f"dns: listen: 127.0.0.1:{place.port}: "):
        await second.__aenter__()


async def test_address_that_is_not_ours_is_named_and_nothing_stays_open(
    serve: Serve, zones: ZoneTable
) -> None:
    port = free_port()
    server = DnsServer(zones, Forwarder(), addresses=["127.0.0.1", "192.0.2.1"], port=port)

    with pytest.raises(ConfigError, match=rf"dns: listen: 192\.0\.2\.1:{port}: "):
        await server.__aenter__()

    [place] = (await serve(port=port)).listening
    assert addresses((await ask_udp(place, message("ready.spartan")))[0]) == ["127.0.0.1"]


async def test_upstream_that_is_ourselves_is_refused(zones: ZoneTable) -> None:
    free = free_port()
    forwarder = Forwarder([f"127.0.0.1:{free}"])
    server = DnsServer(zones, forwarder, addresses=["127.0.0.1"], port=free)

    with pytest.raises(ConfigError, match=f"upstream: '127.0.0.1:{free}' is an address that we"):
        await server.__aenter__()


async def test_metrics_tell_replies_lookups_and_names(zones: ZoneTable) -> None:
    registry = CollectorRegistry()
    forwarder = Forwarder()
    registry.register(DnsCollector(zones, forwarder))
    zones.answers.reply(message("web.marathon.mesos"))
    zones.answers.reply(message("nosuch.mesos"))
    forwarder.events["cache_hit"] += 2
    forwarder.failures[HostPort("192.0.2.1", 53), "timeout"] += 1

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"phalanx_dns_{name}", labels)

    assert value("replies_total", zone="mesos.", rcode="NOERROR") == 1
    assert value("replies_total", zone="mesos.", rcode="NXDOMAIN") == 1
    assert value("lookups_total", served="cache_hit") == 2
    assert value("upstream_failures_total", upstream="192.0.2.1:53", reason="timeout") == 1
    assert value("zone_names", zone="spartan.") == 3


async def test_outsiders_are_refused(serve: Serve) -> None:
    inside = Admission(allowed=parse_networks("dns-allow", ["192.0.2.0/24"]))
    [place] = (await serve(admission=inside)).listening

    [datagram] = await ask_udp(place, message("web.marathon.mesos"))
    [segment] = await ask_tcp(place, message("web.marathon.mesos"))

    assert (rcode_of(datagram), rcode_of(segment)) == ("REFUSED", "REFUSED")


async def test_client_that_asks_too_often_is_sent_to_tcp_and_then_not_heard(serve: Serve) -> None:
    [place] = (await serve(admission=Admission(per_second=3), clock=lambda: 7.5)).listening

    replies = await ask_udp(place, *(message("ready.spartan", n) for n in range(6)))
    replies.sort()
    [whole] = await ask_tcp(place, message("ready.spartan"))

    assert [bool(reply[2] & 2) for reply in replies] == [False] * 3 + [True] * 3
    assert addresses(whole) == ["127.0.0.1"]


async def test_names_are_answered_over_ipv6(serve: Serve) -> None:
    [place] = (await serve(addresses=["::1"])).listening
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(("::1", place.port))
        sock.send(message("web.marathon.mesos"))
        async with asyncio.timeout(SECONDS):
            reply = await loop.sock_recv(sock, 65535)

    assert addresses(reply) == ["9.0.0.1", "9.0.0.2", "9.0.0.3"]
    [segment] = await ask_tcp(place, message("ready.spartan"))
    assert addresses(segment) == ["127.0.0.1"]


async def test_kept_answer_is_given_again_with_its_ttl_running_down(
    view: View, upstream: Callable[..., Awaitable[Any]]
) -> None:
    now = 100.0

    async def script(query: bytes, tcp: bool) -> Sequence[bytes]:
        reply = DNSRecord.parse(query).reply(aa=0)
        reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.1"), ttl=60))
        return [bytes(reply.pack())]

    server = await upstream(script)
    forwarder = Forwarder([server.address], clock=lambda: now)
    table = ZoneTable(
        node=IPv4Address("198.18.0.2"), servers=[], forwards=True, foreign=forwarder.recent
    )
    table.publish(view)
    async with DnsServer(table, forwarder, addresses=["127.0.0.1"], port=0) as found:
        [place] = found.listening
        ttls = []
        for number, passed in enumerate((0, 0.2, 0.3, 0.3, 0.3, 30)):
            now += passed
            [reply] = await ask_udp(place, message("www.example.com", number))
            assert reply[:2] == struct.pack("!H", number)
            assert addresses(reply) == ["192.0.2.1"]
            ttls.append(DNSRecord.parse(reply).rr[0].ttl)

    assert ttls == [60, 60, 60, 60, 59, 29]
    asked = [each for each in server.asked if b"\x03www" in each]  # not the probe for loops
    assert (len(asked), forwarder.replies) == (1, {(".", 0): 6})


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
async def test_clock_of_the_node_may_jump(serve: Serve, jump: float) -> None:
    """A cookie from before is renewed, and nobody goes without an answer."""
    now = [1.7e9]
    [place] = (await serve(wall_clock=lambda: now[0])).listening
    plain = message("web.marathon.mesos")

    def asking(cookie: bytes) -> bytes:
        option = struct.pack("!HH", 10, len(cookie)) + cookie
        opt = b"\0\0\x29\x04\xd0\0\0\0\0" + struct.pack("!H", len(option)) + option
        return plain[:10] + b"\0\1" + plain[12:] + opt

    [first] = await ask_udp(place, asking(b"12345678"))
    [again] = await ask_udp(place, asking(first[-24:]))
    now[0] += jump
    [after] = await ask_udp(place, asking(first[-24:]))
    [renewed] = await ask_udp(place, asking(after[-24:]))

    assert [len(addresses(each)) for each in (first, again, after, renewed)] == [3, 3, 3, 3]
    assert first[-24:] == again[-24:] != after[-24:] == renewed[-24:]
