"""A client of a server under test, and what it says."""

import asyncio
import socket
import struct
from collections.abc import Sequence

from dnslib import RCODE, RR, A, DNSRecord

from phalanx.core.config import HostPort

SECONDS = 60.0  # for what takes milliseconds where nothing else runs


def message(name: str, id_: int = 1) -> bytes:
    """Return a query."""
    return struct.pack("!H", id_) + bytes(DNSRecord.question(name).pack()[2:])


def framed(*queries: bytes) -> bytes:
    """Return queries as they go over a connection."""
    return b"".join(struct.pack("!H", len(query)) + query for query in queries)


def addresses(reply: bytes) -> list[str]:
    """Return the data of all answers."""
    return sorted(str(record.rdata) for record in DNSRecord.parse(reply).rr)


def rcode_of(reply: bytes) -> str:
    """Return a reply's code by its name."""
    return str(RCODE[reply[3] & 0xF])


def free_port() -> int:
    """Return a port of loopback that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


async def ask_udp(place: HostPort, *queries: bytes) -> list[bytes]:
    """Send the queries from one socket; return as many replies."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((place.host, place.port))
        for query in queries:
            sock.send(query)
        async with asyncio.timeout(SECONDS):
            return [await loop.sock_recv(sock, 65535) for _ in queries]


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """Return the next reply on a connection."""
    async with asyncio.timeout(SECONDS):
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)


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


async def says(query: bytes, tcp: bool) -> Sequence[bytes]:
    """Answer any question with one address."""
    reply = DNSRecord.parse(query).reply()
    reply.add_answer(RR(reply.q.qname, rdata=A("192.0.2.1"), ttl=60))
    return [bytes(reply.pack())]
