"""Whether a listener of ours answers: it asks itself what a client would ask."""

import asyncio
import secrets
import socket

from phalanx.core.config import HostPort
from phalanx.dns.answer.wire import encode_name

_HEADER = b"\1\0\0\1\0\0\0\0\0\0"  # a query, one question
_QUESTION = encode_name("ready.spartan.") + b"\0\1\0\1"


async def answers_tcp(place: HostPort, seconds: float) -> bool:
    """Tell whether a connection to *place* is served within the time: a reply, or its end."""
    message = secrets.token_bytes(2) + _HEADER + _QUESTION
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(place.host, place.port)
            try:
                writer.write(len(message).to_bytes(2, "big") + message)
                await reader.read(1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return True


async def answers(place: HostPort, seconds: float) -> bool:
    """Tell whether any reply comes from *place* over UDP within the time, whatever it says."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    loop = asyncio.get_running_loop()
    id_ = secrets.token_bytes(2)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect((place.host, place.port))
            sock.send(id_ + _HEADER + _QUESTION)
            async with asyncio.timeout(seconds):
                while (await loop.sock_recv(sock, 512))[:2] != id_:
                    pass
        except (OSError, TimeoutError):
            return False
    return True
