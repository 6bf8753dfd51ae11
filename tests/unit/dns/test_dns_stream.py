"""Connections to the server: what is said on one, how many there may be, whole zones."""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dnslib import QTYPE, RCODE, DNSRecord
from tests.unit.dns.client import (
    SECONDS,
    addresses,
    ask_tcp,
    ask_udp,
    framed,
    message,
    rcode_of,
    read_reply,
    says,
)

from phalanx.dns.admission import Admission, parse_networks
from phalanx.dns.answer.transfer import Transfer
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.dns.zones.record import RecordType
from phalanx.net.model.view import View

Serve = Callable[..., Awaitable[DnsServer]]


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

    async with asyncio.timeout(SECONDS):
        assert await reader.read() == b""
    writer.close()


async def test_connections_beyond_the_bound_are_closed(serve: Serve) -> None:
    [place] = (await serve(max_connections=1)).listening
    first, writer = await asyncio.open_connection(place.host, place.port)
    writer.write(framed(message("ready.spartan")))
    await read_reply(first)

    second, other = await asyncio.open_connection(place.host, place.port)
    async with asyncio.timeout(SECONDS):
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
    async with asyncio.timeout(SECONDS):
        assert await greedy[2][0].read() == b""
    reader, writer = await connect("127.0.0.3")
    writer.write(framed(message("ready.spartan")))

    assert addresses(await read_reply(reader)) == ["127.0.0.1"]
    for _, each in [*greedy, (reader, writer)]:
        each.close()


async def test_slow_lookup_does_not_hold_up_the_connection(
    serve: Serve, upstream: Callable[..., Awaitable[Any]]
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
    async with asyncio.timeout(SECONDS):
        assert await refused[0].read() == b""
    now[0] = 2.0
    assert await answered(*busy) == ["127.0.0.1"]

    new = await connect()

    assert await answered(*new) == ["127.0.0.1"]
    async with asyncio.timeout(SECONDS):
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
