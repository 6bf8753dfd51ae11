"""The two connections of a simulated agent: its stream of events and its stream of calls.

Bare HTTP/1.1 on asyncio streams: thousands of agents share one process with
nothing but these between them and the master.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress

from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.mesos.agent_protocol import CALLS_PATH, PATH, STREAM_HEADER
from phalanx.mesos.recordio import RecordDecoder, encode_record

CONNECT_SECONDS = 5.0


class Connection:
    """A subscription to one master."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._events: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._calls: asyncio.StreamWriter | None = None
        self._stream_id = ""

    async def subscribe(self, call: bytes) -> None:
        """Open the stream; raise UnavailableError when the master will not have us."""
        reader, writer = await self._open()
        self._events = reader, writer
        writer.write(self._head(PATH, {"Content-Length": str(len(call))}) + call)
        status, headers = await _head_of(reader)
        if status != 200:
            raise UnavailableError(f"status {status}, {headers.get('location', '')}")
        self._stream_id = headers.get(STREAM_HEADER.lower(), "")

    async def records(self) -> AsyncIterator[bytes]:
        """Yield each event until the master ends the stream."""
        assert self._events is not None  # subscribed first
        decoder = RecordDecoder()
        async for chunk in _chunks(self._events[0]):
            for record in decoder.feed(chunk):
                yield record

    async def send(self, calls: Iterable[bytes]) -> None:
        """Send calls; what the master thinks of them shows in the stream of events."""
        if self._calls is None:
            _, self._calls = await self._open()
            headers = {"Transfer-Encoding": "chunked", STREAM_HEADER: self._stream_id}
            self._calls.write(self._head(CALLS_PATH, headers))
        body = b"".join(map(encode_record, calls))
        if body:
            self._calls.write(b"%x\r\n%b\r\n" % (len(body), body))

    def close(self) -> None:
        """Cut both connections."""
        for writer in (self._events[1] if self._events else None, self._calls):
            if writer is not None:
                writer.transport.abort()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await asyncio.open_connection(self._host, self._port)

    def _head(self, path: str, headers: Mapping[str, str]) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        lines += ["Content-Type: application/json", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _head_of(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str]]:
    with suppress(asyncio.IncompleteReadError):
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        return int(first.split(" ")[1]), {k.lower(): v.strip() for k, _, v in pairs}
    raise UnavailableError("the master closed the connection")


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Undo the chunked transfer coding (RFC 9112 section 7.1)."""
    while True:
        line = await reader.readline()
        if not line:
            return
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError as error:
            raise ProtocolError(f"chunk size {line!r}") from error
        if size == 0:
            return
        chunk = await reader.readexactly(size + 2)
        yield chunk[:-2]
