"""Probe a task once: connect into its network, ask over HTTP, or run a command inside it."""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from phalanx.agent.health.outcome import Asked, CommandProbe, HttpProbe, Outcome, TcpProbe
from phalanx.agent.namespace import open_socket
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import CommandInfo

MOST_REDIRECTS = 50
MOST_HEADERS = 200
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PORTS = {"http": 80, "https": 443}


class Target(Protocol):
    """The container that is probed."""

    @property
    def network(self) -> Path | None:
        """Return the network namespace to connect in; None for the agent's own."""
        ...

    async def execute(self, command: CommandInfo, *, timeout_seconds: float | None) -> int:
        """Run a command inside; return its exit code; raise TimeoutError, ContainerError."""
        ...


async def probe(target: Target, asked: Asked, *, timeout_seconds: float) -> Outcome:
    """Probe once; no failure of the task raises. A time of 0 seconds is for ever."""
    limit = timeout_seconds or None
    try:
        async with asyncio.timeout(limit):
            if isinstance(asked, CommandProbe):
                return Outcome(await target.execute(asked.command, timeout_seconds=limit))
            if isinstance(asked, TcpProbe):
                return await _probe_tcp(target.network, asked)
            return Outcome(await http_status(target.network, asked))
    except TimeoutError:
        return Outcome(None, f"timed out after {timeout_seconds:g} s")
    except (ContainerError, OSError) as error:
        return Outcome(None, str(error))


async def _probe_tcp(network: Path | None, asked: TcpProbe) -> Outcome:
    try:
        (await _connect(network, asked.host, asked.port)).close()
    except OSError as error:
        return Outcome(False, str(error))
    return Outcome(True)


async def http_status(network: Path | None, asked: HttpProbe) -> int:
    """Return the status of a page, redirects followed; raise ContainerError, OSError."""
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    url = f"{asked.scheme}://{host}:{asked.port}{asked.path}"
    for _ in range(MOST_REDIRECTS):
        status, location = await _ask(network, url)
        if status not in REDIRECTS or not location:
            return status
        url = urljoin(url, location)
    raise ContainerError(f"more than {MOST_REDIRECTS} redirects")


async def _ask(network: Path | None, url: str) -> tuple[int, str]:
    """Ask for one page; return status and where it redirects to."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        ask = (
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: phalanx-agent\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode("ascii")
    except (KeyError, ValueError) as error:
        raise ContainerError(f"{url!r}: can't be asked for") from error
    connected = await _connect(network, parts.hostname or "", port)
    context = _trusting() if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        sock=connected, ssl=context, server_hostname="" if context else None
    )
    try:
        writer.write(ask)
        status = status_of(await reader.readline())
        location = ""
        for _ in range(MOST_HEADERS):
            line = await reader.readline()
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                break
            if name.strip().lower() == "location":
                location = value.strip()
    except ValueError as error:
        raise ContainerError("answer has no status line") from error
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
    return status, location


def status_of(line: bytes) -> int:
    """Return the status in an HTTP status line; raise ContainerError if it is none."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ContainerError(f"not an HTTP answer: {line[:100]!r}")
    return int(words[1])


async def _connect(network: Path | None, host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, _, _, _, address = found[0]
    opened = open_socket(network, socket.AddressFamily(family))
    try:
        await loop.sock_connect(opened, address)
    except BaseException:
        opened.close()
        raise
    return opened


def _trusting() -> ssl.SSLContext:
    """Return TLS settings that take any certificate, as health checks of Mesos do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # reads no certificates: that takes 20 ms
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
