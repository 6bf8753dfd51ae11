"""Ending connections at once, with all that was not received yet."""

import asyncio
import socket
import struct

NO_LINGER = struct.pack("ii", 1, 0)


def cut(transport: asyncio.Transport | None) -> None:
    """End a connection; what the kernel still holds for it is never sent.

    A plain close would go on sending it, minutes later if packets were lost: a
    leader that was deposed meanwhile must not be heard.
    """
    if transport is None:
        return
    end = transport.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX and not transport.is_closing():
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()
