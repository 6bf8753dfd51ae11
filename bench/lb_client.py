"""Clients of a VIP on one node of a lab: ``lb_client.py probe|load ADDRESS PORT``, until SIGTERM.

``probe`` asks over new connections, one after the other, and prints for each when it began, when
it had its answer, and of whom, or a dash. ``load`` asks over new and over kept connections at
once and prints at its end, as JSON, how many requests worked and why the others did not.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter

PAUSE_SECONDS = 0.004
PROBE_SECONDS = 0.25
LOAD_SECONDS = 5.0
CLIENTS = 3  # of each kind
REQUEST = b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class ClosedError(Exception):
    """The connection was closed before the first byte of an answer: a client tries again."""


async def exchange(streams: Streams) -> str:
    """Ask once; return the body, one line."""
    reader, writer = streams
    try:
        writer.write(REQUEST)
        await writer.drain()
        first = await reader.read(1)
    except ConnectionError as error:
        raise ClosedError from error
    if not first:
        raise ClosedError
    head = first + await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head:
        raise OSError(head.split(b"\r\n")[0].decode())
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    return (await reader.readexactly(length)).decode().strip()


async def once(address: str, port: int) -> str:
    """Ask over a new connection."""
    streams = await asyncio.open_connection(address, port)
    try:
        return await exchange(streams)
    except ClosedError as error:
        raise OSError("closed without an answer") from error
    finally:
        streams[1].close()


async def probe(address: str, port: int) -> None:
    """Ask for ever and print."""
    while True:
        began, body = time.time(), "-"
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                body = await once(address, port)
        except (OSError, EOFError):
            pass
        print(f"{began:.6f} {time.time():.6f} {body}", flush=True)
        await asyncio.sleep(PAUSE_SECONDS)


class Load:
    """Requests over new and over kept connections, counted."""

    def __init__(self, address: str, port: int) -> None:
        self._at = (address, port)
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._new())
                group.create_task(self._kept())

    async def _new(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    await once(*self._at)
                self.counts["new"] += 1
            except (OSError, EOFError) as error:
                self._failed("new", error)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _kept(self) -> None:
        streams: Streams | None = None
        while True:
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    streams = await self._ask_kept(streams)
                self.counts["kept"] += 1
            except (OSError, EOFError, ClosedError) as error:
                self._failed("kept", error)
                streams = None
            await asyncio.sleep(PAUSE_SECONDS)

    async def _ask_kept(self, streams: Streams | None) -> Streams:
        """Ask over a connection that is there; over a new one if it was closed meanwhile."""
        if streams is not None:
            try:
                await exchange(streams)
            except ClosedError:
                streams[1].close()
                self.counts["again"] += 1
            else:
                return streams
        streams = await asyncio.open_connection(*self._at)
        await exchange(streams)
        return streams

    def _failed(self, kind: str, error: BaseException) -> None:
        self.counts[f"{kind} failed"] += 1
        self.reasons[f"{kind}: {type(error).__name__}: {error}"] += 1


async def main(mode: str, address: str, port: int) -> None:
    """Run one of both until SIGTERM."""
    load = Load(address, port)
    work = asyncio.ensure_future(load.run() if mode == "load" else probe(address, port))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        if mode == "load":
            print(json.dumps({"counts": load.counts, "reasons": load.reasons}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
