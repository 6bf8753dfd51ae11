"""The server on loopback sockets: datagrams, connections, their bounds, and its start and end."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord
from prometheus_client import CollectorRegistry

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.core.service import SocketStore
from phalanx.dns.admission import Admission, parse_networks
from phalanx.dns.answer.transfer import Transfer
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.metrics import DnsCollector
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.dns.zones.record import RecordType
from phalanx.net.model.view import View

Serve = Callable[..., Awaitable[DnsServer]]


def message(name: str, id_: int = 1) -> bytes:
    return struct.pack("!H", id_) + bytes(DNSRecord.question(name).pack()[2:])


def framed(*queries: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(query)) + query for query in queries)


def addresses(reply: bytes) -> list[str]:
    return sorted(str(record.rdata) for record in DNSRecord.parse(reply).rr)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@pytest.fixture
async def serve(zones: ZoneTable) -> AsyncIterator[Serve]:
    """Yield a function that starts a server of the zones on a free port of loopback."""
    async with AsyncExitStack() as stack:

        async def start(forwarder: Forwarder | None = None, **settings: object) -> DnsServer:
            found = {"port": 0, "addresses": ["127.0.0.1"], **settings}
            server = DnsServer(zones, forwarder or Forwarder(), **found)  # type: ignore[arg-type]  # checked at run time
            return await stack.enter_async_context(server)

        yield start


async def ask_udp(place: HostPort, *queries: bytes) -> list[bytes]:
    """Send the queries from one socket; return as many replies."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((place.host, place.port))
        for query in queries:
            sock.send(query)
        async with asyncio.timeout(5):
            return [await loop.sock_recv(sock, 65535) for _ in queries]


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)


async def test_burst_of_datagrams_is_answered(serve: Serve) -> None:
    [place] = (await serve()).listening

    replies = await ask_udp(place, *(message("web.marathon.mesos", n) for n in range(200)))

    assert [struct.unpack("!H", reply[:2])[0] for reply in replies] == list(range(200))
    assert {tuple(addresses(reply)) for reply in replies} == {("9.0.0.1", "9.0.0.2", "9.0.0.3")}


async def test_burst_of_one_client_is_answered_in_turns_with_others(serve: Serve) -> None:
    server = await serve()
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
        async with asyncio.timeout(5):
            reply = await loop.sock_recv(modest, 65535)
            before = server.waiting
            for _ in range(1000):
                await loop.sock_recv(greedy, 65535)

    assert addresses(reply) == ["9.0.0.1", "9.0.0.2", "9.0.0.3"]
    assert (before > 0, server.waiting, server.dropped) == (True, 0, 0)


async def test_bursts_at_two_addresses_are_answered_from_where_they_came_to(serve: Serve) -> None:
    places = (await serve(addresses=["127.0.0.1", "127.0.0.9", "::1"])).listening
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
        async with asyncio.timeout(5):
            for sock in clients:
                ids = {(await loop.sock_recv(sock, 512))[:2] for _ in range(200)}
                assert len(ids) == 200


async def test_scraps_do_not_stop_the_server(serve: Serve) -> None:
    [place] = (await serve()).listening
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for scrap in (b"", b"\0", b"\x80" * 12):
            sock.sendto(scrap, (place.host, place.port))

    [reply] = await ask_udp(place, message("ready.spartan"))

    assert addresses(reply) == ["127.0.0.1"]


async def test_connection_carries_several_queries_at_once(serve: Serve) -> None:
    [place] = (await serve()).listening
    reader, writer = await asyncio.open_connection(place.host, place.port)
    queries = framed(*(message("big.marathon.mesos", n) for n in range(3)))
    writer.write(queries[:7])
    await writer.drain()
    writer.write(queries[7:])
    writer.write_eof()

    replies = [await read_reply(reader) for _ in range(3)]

    assert [struct.unpack("!H", reply[:2])[0] for reply in replies] == [0, 1, 2]
    assert {len(addresses(reply)) for reply in replies} == {100}
    assert await reader.read() == b""
    writer.close()


async def test_silent_connection_is_closed(serve: Serve) -> None:
    [place] = (await serve(idle_seconds=0.05)).listening
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(message("ready.spartan"))[:5])

    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_connections_beyond_the_bound_are_closed(serve: Serve) -> None:
    [place] = (await serve(max_connections=1)).listening
    first, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(message("ready.spartan")))
    await read_reply(first)

    second, other = await asyncio.open_connection(place.host, place.port)
    async with asyncio.timeout(5):
        assert await second.read() == b""
    other.close()

    writer.write(framed(message("ready.spartan")))
    assert addresses(await read_reply(first)) == ["127.0.0.1"]
    writer.close()


async def test_a_client_that_holds_connections_open_leaves_room_for_others(serve: Serve) -> None:
    [place] = (await serve(max_connections=3, max_connections_of_one=2)).listening

    async def connect(source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(place.host, place.port, local_addr=(source, 0))

    greedy = [await connect("127.0.0.2") for _ in range(3)]
    async with asyncio.timeout(5):
        assert await greedy[2][0].read() == b""
    reader, writer = await connect("127.0.0.3")
    writer.write(framed(message("ready.spartan")))

    assert addresses(await read_reply(reader)) == ["127.0.0.1"]
    for _, each in [*greedy, (reader, writer)]:
        each.close()


class Upstreams:
    """What the fixture of scripted upstreams yields, as a type."""

    address: str


async def says(query: bytes, tcp: bool) -> Sequence[bytes]:
    reply = DNSRecord.parse(query).reply()
    reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.1"), ttl=60))
    return [bytes(reply.pack())]


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


async def test_slow_lookup_does_not_hold_up_the_connection(
    serve: Serve, upstream: Callable[..., Awaitable[Upstreams]]
) -> None:
    may_answer = asyncio.Event()

    async def slow(query: bytes, tcp: bool) -> Sequence[bytes]:
        await may_answer.wait()
        return await says(query, tcp)

    server = await upstream(slow)
    [place] = (await serve(Forwarder([server.address]))).listening
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(message("www.example.com"), message("ready.spartan")))

    first = await read_reply(reader)
    may_answer.set()
    second = await read_reply(reader)
    writer.close()

    assert [addresses(first), addresses(second)] == [["127.0.0.1"], ["192.0.2.1"]]


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
            async with asyncio.timeout(5):
                await asked.wait()

    async with asyncio.timeout(5):
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


def rcode_of(reply: bytes) -> str:
    return str(RCODE[reply[3] & 0xF])


async def ask_tcp(place: HostPort, query: bytes) -> list[bytes]:
    """Send one query and the end; return what comes until the server's end."""
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(query))
    writer.write_eof()
    replies = []
    try:
        while True:
            replies.append(await read_reply(reader))
    except asyncio.IncompleteReadError:
        return replies
    finally:
        writer.close()


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


async def test_whole_zone_goes_to_whom_it_may(serve: Serve, zones: ZoneTable) -> None:
    here = Admission(transfers=parse_networks("dns-transfer", ["127.0.0.0/8"]))
    [place] = (await serve(admission=here)).listening
    query = bytes(DNSRecord.question("mesos", "AXFR").pack())

    replies = await ask_tcp(place, query)

    records = [record for reply in replies for record in DNSRecord.parse(reply).rr]
    assert [QTYPE[record.rtype] for record in (records[0], records[-1])] == ["SOA", "SOA"]
    zone = zones.zones["mesos."]
    assert zone is not None
    whole = [each for each in zone.records() if each.type is not RecordType.SOA]
    assert len(records) == len(whole) + 2
    assert {str(record.rname) for record in records} == {each.name for each in whole}


async def test_whole_zone_goes_to_nobody_else(serve: Serve) -> None:
    [place] = (await serve()).listening
    query = bytes(DNSRecord.question("mesos", "AXFR").pack())

    [reply] = await ask_tcp(place, query)
    [datagram] = await ask_udp(place, query)

    assert (rcode_of(reply), rcode_of(datagram)) == ("REFUSED", "REFUSED")


async def test_transfer_of_a_zone_that_changes_has_no_end(zones: ZoneTable, view: View) -> None:
    query = bytes(DNSRecord.question("mesos", "AXFR").pack())
    transfer = zones.answers.reply_tcp(query, may_transfer=True)
    assert isinstance(transfer, Transfer)
    messages = transfer.messages()
    first = next(messages)
    zones.publish(view)

    rest = list(messages)

    assert len(first) > 512
    assert not any(QTYPE[DNSRecord.parse(each).rr[-1].rtype] == "SOA" for each in rest)


async def test_names_are_answered_over_ipv6(serve: Serve) -> None:
    [place] = (await serve(addresses=["::1"])).listening
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(("::1", place.port))
        sock.send(message("web.marathon.mesos"))
        async with asyncio.timeout(5):
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


async def replaced(held: Mapping[HostPort, object], place: HostPort, old: object) -> None:
    async with asyncio.timeout(5):
        while held.get(place) in (None, old):  # noqa: ASYNC110 - who replaces it tells nobody
            await asyncio.sleep(0.005)


async def test_listener_that_falls_silent_is_opened_anew(serve: Serve) -> None:
    server = await serve(watch_seconds=0.1)
    [place] = server.listening
    [listener] = server._listeners.values()
    asyncio.get_running_loop().remove_reader(listener.sock)

    await replaced(server._listeners, place, listener)
    assert server.restarts

    [reply] = await ask_udp(place, message("ready.spartan"))
    assert addresses(reply) == ["127.0.0.1"]


async def test_socket_closed_under_its_listener_is_opened_anew(
    serve: Serve, tmp_path: Path
) -> None:
    """A service manager is told to let go of the old one."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    manager.bind(str(tmp_path / "manager"))
    store = SocketStore({"NOTIFY_SOCKET": str(tmp_path / "manager")})
    server = await serve(watch_seconds=0.2, store=store)
    [place] = server.listening
    told = []

    def hear() -> None:
        text, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        told.append(text.decode().split("\n")[:2])
        for fd in fds:
            os.close(fd)

    asyncio.get_running_loop().add_reader(manager, hear)
    for _ in range(2):
        [listener] = server._listeners.values()
        listener.sock.close()

        await replaced(server._listeners, place, listener)

        [reply] = await ask_udp(place, message("ready.spartan"))
        assert addresses(reply) == ["127.0.0.1"]
    asyncio.get_running_loop().remove_reader(manager)
    manager.close()
    name = f"FDNAME=sock_dgram-127.0.0.1-{place.port}"
    udp = [said for said, whose in told if whose == name]
    assert udp == ["FDSTORE=1", *["FDSTOREREMOVE=1", "FDSTORE=1"] * 2]


async def test_acceptor_that_is_gone_is_opened_anew(serve: Serve) -> None:
    server = await serve(watch_seconds=0.2)
    [place] = server.listening
    for _ in range(2):
        [acceptor] = server._acceptors.values()
        acceptor.close()
        await acceptor.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(place.host, place.port)

        await replaced(server._acceptors, place, acceptor)

        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(framed(message("ready.spartan")))
        assert addresses(await read_reply(reader)) == ["127.0.0.1"]
        writer.close()


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


async def test_connection_says_how_long_it_may_be_idle(serve: Serve) -> None:
    """RFC 7828: only over TCP, and only to who asks."""
    server = await serve(idle_seconds=7.0)
    [place] = server.listening
    keepalive = b"\0\0\x29\x04\xd0\0\0\0\0\0\4\0\x0b\0\0"

    def asking(name: str) -> bytes:
        plain = message(name)
        return plain[:10] + b"\0\1" + plain[12:] + keepalive

    [over_udp] = await ask_udp(place, asking("web.marathon.mesos"))
    reader, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(asking("web.marathon.mesos"), message("web.marathon.mesos")))
    own, plain = await read_reply(reader), await read_reply(reader)
    writer.write(framed(asking("www.example.com")))
    foreign = await read_reply(reader)
    writer.close()

    told = b"\0\6\0\x0b\0\2\0\x46"  # 70 tenths of a second
    assert own.endswith(told)
    assert foreign.endswith(told)
    assert b"\0\x0b\0" not in over_udp[-11:]
    assert len(addresses(own)) == len(addresses(plain)) == 3


async def test_silent_connections_make_room_when_there_is_none(serve: Serve) -> None:
    """Slow clients from many addresses keep nobody out, and leave no trace in the log."""
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    now = [0.0]
    [place] = (await serve(max_connections=2, clock=lambda: now[0])).listening

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(place.host, place.port)

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Sequence[str]:
        writer.write(framed(message("ready.spartan")))
        return addresses(await read_reply(reader))

    slow, busy = await connect(), await connect()
    assert await answered(*busy) == ["127.0.0.1"]
    slow[1].write(b"\0")
    refused = await connect()
    async with asyncio.timeout(5):
        assert await refused[0].read() == b""
    now[0] = 2.0
    assert await answered(*busy) == ["127.0.0.1"]

    new = await connect()

    assert await answered(*new) == ["127.0.0.1"]
    async with asyncio.timeout(5):
        assert await slow[0].read() == b""
    assert await answered(*busy) == ["127.0.0.1"]
    for _, writer in (slow, busy, refused, new):
        writer.close()
    assert not failed


async def test_longest_message_is_met(serve: Serve) -> None:
    [place] = (await serve()).listening
    reader, writer = await asyncio.open_connection(place.host, place.port)
    full = message("ready.spartan")
    full += bytes(65535 - len(full))

    writer.write(framed(full, message("ready.spartan", 2)))

    assert (await read_reply(reader))[3] & 15 == RCODE.FORMERR
    assert addresses(await read_reply(reader)) == ["127.0.0.1"]
    writer.close()
