"""Let clients on this machine reach the leading master and the leading Marathon of a lab.

One process a lab. It listens on 127.0.0.1 in the machine's own namespace, and makes every
connection onwards from a socket that lives in the lab's router. Each connection goes to
whoever leads then; without a leader it goes to the first who listens and says so himself.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from phalanx.core.files import write_whole
from phalanx.core.log import configure_log
from phalanx.labs.namespace import tcp_socket

log = structlog.get_logger()

CONNECT_SECONDS = 1.0
CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Service:
    """Servers of which one leads, and the question that only the leader answers with 200."""

    name: str
    servers: tuple[tuple[str, int], ...]
    question: str


class Relay:
    """Carries bytes between clients on this machine and servers in a lab."""

    def __init__(self, netns: Path | None) -> None:
        self._netns = netns

    async def listen(self, service: Service) -> asyncio.Server:
        """Listen on a free port of 127.0.0.1 for *service*."""

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await self._carry(service, reader, writer)
            except OSError as error:
                log.info("connection_broken", service=service.name, error=str(error))
            finally:
                writer.close()

        return await asyncio.start_server(accepted, "127.0.0.1", 0)

    async def _carry(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server = await self._choose(service)
        if server is None:
            log.warning("no_server_found", service=service.name)
            return
        inward, outward = await self._connect(server)
        try:
            await asyncio.gather(_pump(reader, outward), _pump(inward, writer))
        finally:
            outward.close()

    async def _choose(self, service: Service) -> tuple[str, int] | None:
        """Return the server that leads, else one that listens, else None."""
        if len(service.servers) == 1:
            return service.servers[0]
        answers = await asyncio.gather(
            *(self._ask(server, service.question) for server in service.servers)
        )
        listening = {
            s: status for s, status in zip(service.servers, answers, strict=True) if status
        }
        leading = [server for server, status in listening.items() if status == 200]
        return next(iter([*leading, *listening]), None)

    async def _ask(self, server: tuple[str, int], question: str) -> int | None:
        """Return the status with which *server* answers a question; None without an answer."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await self._connect(server)
                try:
                    request = f"GET {question} HTTP/1.1\r\nHost: {server[0]}\r\n"
                    writer.write(f"{request}Connection: close\r\n\r\n".encode())
                    words = (await reader.readline()).split()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    async def _connect(
        self, server: tuple[str, int]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        connection = tcp_socket(self._netns)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, server)
        except BaseException:
            connection.close()
            raise
        return await asyncio.open_connection(sock=connection)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until their end, and hand on that end."""
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def relay(netns: Path, services: Sequence[Service], ports_file: Path) -> None:
    """Listen for every service, write the ports down, and carry on until cancelled."""
    carrier = Relay(netns)
    servers = [await carrier.listen(service) for service in services]
    ports = {
        service.name: server.sockets[0].getsockname()[1]
        for service, server in zip(services, servers, strict=True)
    }
    write_whole(ports_file, (json.dumps(ports) + "\n").encode())
    log.info("listening", **{name: f"127.0.0.1:{port}" for name, port in ports.items()})
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _servers(text: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        (host, int(port)) for host, _, port in (s.rpartition(":") for s in text.split(","))
    )


def main(arguments: Sequence[str]) -> int:
    """Run the relay of one lab."""
    parser = argparse.ArgumentParser(prog="phalanx.labs.relay", description=__doc__)
    parser.add_argument("--netns", type=Path, required=True, help="where to connect from")
    parser.add_argument("--ports-file", type=Path, required=True, help="where to write the ports")
    parser.add_argument("--master", required=True, help="the masters, HOST:PORT,…")
    parser.add_argument("--marathon", required=True, help="the Marathons, HOST:PORT,…")
    given = parser.parse_args(arguments)
    configure_log("relay")
    services = [
        Service("master", _servers(given.master), "/v1/networks"),
        Service("marathon", _servers(given.marathon), "/v2/info"),
    ]
    asyncio.run(relay(given.netns, services, given.ports_file))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
