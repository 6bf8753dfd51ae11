"""One connection to the switchboard of a container."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from phalanx.agent.session.process_io import FRAME, LISTEN
from phalanx.core.error import NotFoundError

SOCKET = "attach"


class Attachment:
    """A connection; what is not read slows the container, and after a while ends this."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def outputs(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield what the container writes, with on which output, until there is no more."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                kind, length = FRAME.unpack(await self._reader.readexactly(FRAME.size))
                data = await self._reader.readexactly(length)
                if kind == b"x":
                    return
                yield kind, data

    async def send(self, frame: bytes) -> None:
        """Send one frame; wait while the container reads slowly; raise NotFoundError at its end."""
        try:
            self._writer.write(frame)
            await self._writer.drain()
        except ConnectionError as error:
            raise NotFoundError("The container has ended") from error

    async def close(self) -> None:
        """End the connection."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def attach(run: Path, *, listens: bool = False) -> Attachment:
    """Connect to the container of a run directory; raise NotFoundError if it has no switchboard.

    Who *listens* hears what is written from now on.
    """
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # A unix socket's path is short; a run directory's need not be.
            await loop.sock_connect(connection, f"/proc/self/fd/{directory}/{SOCKET}")
        finally:
            os.close(directory)
    except OSError as error:
        connection.close()
        raise NotFoundError("Container cannot be attached: it has no session or tty") from error
    except BaseException:
        connection.close()
        raise
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    if listens:
        writer.write(LISTEN)
    return Attachment(reader, writer)
