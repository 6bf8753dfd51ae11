"""A node, its bridge, three backends and a client on it, of both IP versions."""

import asyncio
import contextlib
import socket
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

from phalanx.core.netns import call_in
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, IPAddress, Service, Vip
from phalanx.net.model.objects import Protocol

NODE = "198.18.0.1"
BACKENDS = {"b1": "9.0.1.11", "b2": "9.0.1.12", "b3": "9.0.1.13"}
CLIENT = "9.0.1.20"
WEB = Vip(IPv4Address("11.0.0.1"), 80)
DNS = Vip(IPv4Address("11.0.0.2"), 53, Protocol.UDP)
OWN = Vip(IPv4Address("203.0.113.7"), 443)
PORT = 8080
NODE6 = "fd01:a::c612:1"
BACKENDS6 = {"b1": "fd01:b::11", "b2": "fd01:b::12", "b3": "fd01:b::13"}
CLIENT6 = "fd01:b::20"
WEB6 = Vip(IPv6Address("fd01:c::1"), 80)
DNS6 = Vip(IPv6Address("fd01:c::2"), 53, Protocol.UDP)
OWN6 = Vip(IPv6Address("fd01:f::7"), 443)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def open_socket(namespace: str, kind: socket.SocketKind, version: int = 4) -> socket.socket:
    """Open a socket that lives in *namespace*, from a thread that moves there and ends."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    opened = call_in(Path("/run/netns") / namespace, lambda: socket.socket(family, kind))
    opened.setblocking(False)
    return opened


class Lab:
    """A node's namespace and what stands in the containers on its bridge."""

    def __init__(self, node: str) -> None:
        self.node = node

    def namespace(self, name: str) -> str:
        return f"{self.node}-{name}"

    async def connect(
        self, where: str, vip: Vip, *, source: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = open_socket(where, socket.SOCK_STREAM, vip.address.version)
        try:
            if source:
                opened.bind((source, 0))
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(opened, (str(vip.address), vip.port))
        except BaseException:
            opened.close()
            raise
        return await asyncio.open_connection(sock=opened)

    async def ask(self, where: str, vip: Vip, *, source: str = "") -> tuple[str, str]:
        """Connect from *where*; return the name of the backend and the source that it saw."""
        reader, writer = await self.connect(where, vip, source=source)
        try:
            return await exchange(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def asked(self, where: str, vip: Vip, times: int) -> Counter[str]:
        return Counter([(await self.ask(where, vip))[0] for _ in range(times)])


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, str]:
    writer.write(b"who\n")
    async with asyncio.timeout(5):
        line = await reader.readline()
    name, source = line.decode().split()
    return name, source


async def ask_udp(opened: socket.socket) -> str:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(opened, b"who")
    async with asyncio.timeout(5):
        return (await loop.sock_recv(opened, 100)).decode()


class Named(asyncio.DatagramProtocol):
    """Answers every datagram with its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._name.encode(), addr)


def answer_with(
    name: str,
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        source = writer.get_extra_info("peername")[0]
        with contextlib.suppress(ConnectionError):
            while await reader.readline():
                writer.write(f"{name} {source}\n".encode())
                await writer.drain()
        writer.close()

    return serve


def service(**weights: int) -> Service:
    return Service.of(
        Backend(IPv4Address(BACKENDS[name]), PORT, weight) for name, weight in weights.items()
    )


async def put(services: NftablesServices, wanted: dict[Vip, Service]) -> None:
    await services.apply(Delta(wanted, frozenset()))


def service6(**weights: int) -> Service:
    return Service.of(
        Backend(IPv6Address(BACKENDS6[name]), PORT, weight) for name, weight in weights.items()
    )


@dataclass(frozen=True, slots=True)
class Family:
    """The lab by one version of IP."""

    version: int
    node: str
    client: str
    bridge: str
    backends: Mapping[str, str]
    web: Vip
    dns: Vip
    own: Vip  # by an address of its own
    unused: IPAddress  # of the range, without a service
    beyond: tuple[str, str]  # the node's and a client's addresses on a link of its own
    behind_b3: str  # the prefix of *own*, routed to b3

    def service(self, **weights: int) -> Service:
        return Service.of(
            Backend(ip_address(self.backends[name]), PORT, weight)
            for name, weight in weights.items()
        )

    def all(self) -> Service:
        return self.service(b1=1, b2=1, b3=1)


IP4 = Family(
    version=4,
    node=NODE,
    client=CLIENT,
    bridge="9.0.1.1",
    backends=BACKENDS,
    web=WEB,
    dns=DNS,
    own=OWN,
    unused=ip_address("11.0.0.9"),
    beyond=("9.0.2.1/24", "9.0.2.20/24"),
    behind_b3="203.0.113.0/24",
)
IP6 = Family(
    version=6,
    node=NODE6,
    client=CLIENT6,
    bridge="fd01:b::1",
    backends=BACKENDS6,
    web=WEB6,
    dns=DNS6,
    own=OWN6,
    unused=ip_address("fd01:c::9"),
    beyond=("fd01:e::1/64", "fd01:e::20/64"),
    behind_b3="fd01:f::/64",
)
FAMILIES = (IP4, IP6)

ALL = service(b1=1, b2=1, b3=1)
ALL6 = service6(b1=1, b2=1, b3=1)
TIMES = 300
# Five standard deviations of a fair draw: sqrt(300 · 1/3 · 2/3) = 8.2.
BOUND = 41


def is_even(counts: Counter[str], *, names: int = 3) -> bool:
    fair = counts.total() / names
    return len(counts) == names and all(abs(count - fair) <= BOUND for count in counts.values())
