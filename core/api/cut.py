"""Ending a connection at once, with all that was not received yet."""

import socket
import struct

from aiohttp import web

NO_LINGER = struct.pack("ii", 1, 0)


def cut(request: web.BaseRequest) -> None:
    """End the connection of *request*; what the kernel still holds for it is never sent.

    A plain close would go on sending it, minutes later if packets were lost: a
    leader that was deposed meanwhile must not be heard.
    """
    if request.transport is None:
        return
    end = request.transport.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    request.transport.abort()
