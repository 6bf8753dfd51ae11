"""One question to an upstream over TCP, for an answer that was cut."""

import asyncio
import struct

from phalanx.core.config import HostPort
from phalanx.dns.forward.message import Key, UpstreamReply, parse_reply, question_of

_LENGTH = struct.Struct("!H")


async def ask_tcp(
    upstream: HostPort, key: Key, id_: bytes, *, seconds: float
) -> UpstreamReply | str:
    """Return the answer, or a word for why there is none.

    That is ``timeout``, ``unreachable``, or ``cut`` when even here it is not whole.
    """
    try:
        async with asyncio.timeout(seconds):
            reply = await _exchange(upstream, key, id_)
            return "cut" if reply.is_truncated else reply
    except TimeoutError:
        return "timeout"
    except (OSError, EOFError):
        return "unreachable"


async def _exchange(upstream: HostPort, key: Key, id_: bytes) -> UpstreamReply:
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
    try:
        message = id_ + key
        writer.write(_LENGTH.pack(len(message)) + message)
        question = question_of(key)
        while True:
            (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
            message = await reader.readexactly(length)
            reply = parse_reply(message, question) if message.startswith(id_) else None
            if reply is not None:
                return reply
    finally:
        writer.close()
