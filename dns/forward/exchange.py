"""One exchange with one upstream: a fresh socket, so a fresh random source port, each time."""

import asyncio
import socket
import struct

from phalanx.core.config import HostPort
from phalanx.dns.forward.message import Key, UpstreamReply, parse_reply, render_query

MAX_MESSAGE_BYTES = 65535

_LENGTH = struct.Struct("!H")


async def exchange(upstream: HostPort, key: Key, id_: int) -> UpstreamReply:
    """Ask over UDP, and again over TCP when the answer was cut.

    Waits for as long as it takes; raises OSError when the upstream can't be
    reached and EOFError when it hangs up.
    """
    reply = await _exchange_udp(upstream, key, id_)
    return await _exchange_tcp(upstream, key, id_) if reply.is_truncated else reply


async def _exchange_udp(upstream: HostPort, key: Key, id_: int) -> UpstreamReply:
    """Wait for the answer; a connected socket hears only the upstream, and the rest is checked."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((upstream.host, upstream.port))
        sock.send(render_query(key, id_))
        while True:
            message = await loop.sock_recv(sock, MAX_MESSAGE_BYTES)
            if (reply := parse_reply(message, key, id_)) is not None:
                return reply


async def _exchange_tcp(upstream: HostPort, key: Key, id_: int) -> UpstreamReply:
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    try:
        message = render_query(key, id_)
        writer.write(_LENGTH.pack(len(message)) + message)
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            reply = parse_reply(await reader.readexactly(length), key, id_)
            if reply is not None:
                return reply
    finally:
        writer.close()
