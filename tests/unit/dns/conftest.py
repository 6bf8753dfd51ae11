"""A small cluster with its published zones, and upstreams that do as they are told."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from ipaddress import IPv4Address

import pytest

from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase, TaskPort, VipLease
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")


def _task(name: str, number: int) -> Task:
    return Task(
        framework_id="f",
        id=f"{name}.{number}",
        name=name,
        agent_id="x-S0",
        node=NODE,
        phase=TaskPhase.RUNNING,
        addresses=(IPv4Address("9.0.0.0") + number,),
        networks=("dcos",),
        discovery_name=name,
        ports=(TaskPort(80, "http"),),
    )


@pytest.fixture
def view() -> View:
    """Return a View of one master, one agent, ``web`` with 3 tasks and ``big`` with 100."""
    return View().changed(
        [
            Node(IPv4Address("198.18.0.1"), "m1", is_master=True, is_leader=True, port=5050),
            Node(NODE, "a1", agent_id="x-S0", port=5051),
            Framework("f", "marathon", "m1"),
            *(_task("web", number) for number in range(1, 4)),
            *(_task("big", number) for number in range(101, 201)),
            VipLease("web.marathon", IPv4Address("11.0.0.7")),
        ]
    )


@pytest.fixture
def zones(view: View) -> ZoneTable:
    """Return a table that has published the View."""
    table = ZoneTable(node=NODE, servers=[IPv4Address("198.51.100.1")], serial=100)
    table.publish(view)
    return table


@pytest.fixture
def unpublished() -> ZoneTable:
    """Return a table that has seen no View."""
    return ZoneTable(node=NODE, servers=[IPv4Address("198.51.100.1")])


Script = Callable[[bytes, bool], Awaitable[Sequence[bytes]]]


class Upstream:
    """A name server on loopback that answers as its script says, over UDP and TCP.

    The script gets each query and whether it came over TCP; it returns the
    messages to send back, in order.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[bytes] = []
        self.clients: list[tuple[str, int]] = []
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._converse, "127.0.0.1", 0)
        stack.callback(server.close)
        port = server.sockets[0].getsockname()[1]
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        stack.enter_context(sock)
        sock.bind(("127.0.0.1", port))
        loop = asyncio.get_running_loop()
        loop.add_reader(sock, self._receive, sock)
        stack.callback(loop.remove_reader, sock)
        stack.push_async_callback(self._end)
        self.address = f"127.0.0.1:{port}"

    def _receive(self, sock: socket.socket) -> None:
        message, client = sock.recvfrom(4096)
        self.asked.append(message)
        self.clients.append(client)

        async def answer() -> None:
            for reply in await self.script(message, False):
                sock.sendto(reply, client)

        self._keep(asyncio.ensure_future(answer()))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            message = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            self.asked.append(message)
            for reply in await self.script(message, True):
                writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
        finally:
            writer.close()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[[Script], Awaitable[Upstream]]]:
    """Yield a function that opens an upstream with a script."""
    async with AsyncExitStack() as stack:

        async def open_upstream(script: Script) -> Upstream:
            found = Upstream(script)
            await found.open(stack)
            return found

        yield open_upstream


Serve = Callable[..., Awaitable[DnsServer]]


@pytest.fixture
async def serve(zones: ZoneTable) -> AsyncIterator[Serve]:
    """Yield a function that starts a server of the zones on a free port of loopback."""
    async with AsyncExitStack() as stack:

        async def start(forwarder: Forwarder | None = None, **settings: object) -> DnsServer:
            found = {"port": 0, "addresses": ["127.0.0.1"], **settings}
            server = DnsServer(zones, forwarder or Forwarder(), **found)  # type: ignore[arg-type]  # checked at run time
            return await stack.enter_async_context(server)

        yield start
