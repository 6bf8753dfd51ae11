"""Probe a task once: connect into its network, ask over HTTP, or run a command inside it."""

import asyncio
import socket
import ssl
from pathlib import Path

from phalanx.agent.namespace import open_socket
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import CheckHttp, HealthCheck, HealthCheckType

LOOPBACK = "127.0.0.1"
HEALTHY = range(200, 400)


def kind_of(check: HealthCheck) -> HealthCheckType:
    """Return how a task is checked, also when only the matching field says so."""
    if check.type not in (None, HealthCheckType.UNKNOWN):
        return check.type or HealthCheckType.UNKNOWN
    if check.http is not None:
        return HealthCheckType.HTTP
    if check.tcp is not None:
        return HealthCheckType.TCP
    return HealthCheckType.COMMAND if check.command is not None else HealthCheckType.UNKNOWN


async def probe_tcp(network: Path | None, port: int) -> None:
    """Connect to a port inside a network; raise OSError when that fails."""
    (await _connect(network, port)).close()


async def probe_http(network: Path | None, http: CheckHttp) -> None:
    """Ask for a page inside a network; raise ContainerError unless its status is 200 to 399."""
    connected = await _connect(network, http.port)
    context = _trusting() if http.scheme == "https" else None
    reader, writer = await asyncio.open_connection(
        sock=connected, ssl=context, server_hostname="" if context else None
    )
    try:
        path = http.path or "/"
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{http.port}\r\n"
            "User-Agent: phalanx-agent\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
        )
        line = await reader.readline()
    except ValueError as error:
        raise ContainerError("answer has no status line") from error
    finally:
        writer.transport.abort()
    status = status_of(line)
    if status not in HEALTHY:
        raise ContainerError(f"status {status}")


def status_of(line: bytes) -> int:
    """Return the status in an HTTP status line; raise ContainerError if it is none."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ContainerError(f"not an HTTP answer: {line[:100]!r}")
    return int(words[1])


async def _connect(network: Path | None, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    opened = open_socket(network)
    try:
        await loop.sock_connect(opened, (LOOPBACK, port))
    except BaseException:
        opened.close()
        raise
    return opened


def _trusting() -> ssl.SSLContext:
    """Return TLS settings that take any certificate, as health checks of Mesos do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
