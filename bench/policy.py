"""What isolation costs: load, change, packets, and a restart, at 10 and at 100,000 elements."""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median

from claim import Bound, Figure

from phalanx.core.netns import call_in
from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.net.isolation.desired import Isolation, desired_isolation
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Network, Object, Policy, Task, TaskPhase, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

MANY, CROWD, SOME, FEW = 100_000, 50_000, 10_000, 10
ROUND_TRIPS, TURNS, CHANGES = 4000, 7, 50
NODE = IPv4Address("198.18.0.1")
CLIENT, SERVER, PORT = "9.0.0.2", "10.0.0.2", 7000
NETWORKS = (
    Network("green", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
    Network("blue", IPv4Network("10.0.0.0/8"), 24, 1025, 1450),
)
POLICIES = (
    Policy("udp", "role=web", "role=db", Traffic.UDP, ports=((PORT, PORT),)),
    Policy("tcp", "role=web", "role=db", Traffic.TCP, ports=((80, 81), (443, 443))),
)


def measure() -> Sequence[Figure]:
    """Measure in namespaces of our own: a node between two containers."""
    return asyncio.run(_measure())


async def _measure() -> Sequence[Figure]:
    with ExitStack() as stack:
        bench = Bench(stack)
        costs: dict[int, list[float]] = {0: [], FEW: [], MANY: []}
        views = {size: cluster(size) for size in (FEW, MANY)}
        compiled = await timed(lambda: asyncio.to_thread(desired_isolation, views[MANY]))
        held = desired_isolation(views[MANY])
        loaded = await bench.load(held)
        changes = [await bench.change(held, number) for number in range(CHANGES)]
        follows = {word: await bench.follow(views[MANY], each) for word, each in FOLLOWED.items()}
        crowd = views[MANY].changed(others())
        new_label = await bench.follow(crowd, [NEW_LABEL])
        for _ in range(TURNS):
            await bench.clear()
            costs[0].append(bench.round_trip())
            for size in (FEW, MANY):
                await bench.load(desired_isolation(views[size]))
                costs[size].append(bench.round_trip())
        await bench.load(desired_isolation(cluster(SOME)))
        again = await bench.restart(desired_isolation(cluster(SOME)))
        added = {size: median(costs[size]) - median(costs[0]) for size in (FEW, MANY)}
        # A round trip is judged twice: once each way.
        figures = [
            ("compile 100,000 elements from the View", "s", compiled, 5),
            ("load 100,000 elements", "s", loaded, 2),
            ("one change in the kernel at 100,000", "ms", median(changes) * 1e3, 2),
            *(
                (f"View to kernel at 100,000: {word}", "ms", seconds * 1e3, 250)
                for word, seconds in follows.items()
            ),
            (
                "View to kernel: a new label of 50,000, to a label of 50,000",
                "ms",
                new_label * 1e3,
                1000,
            ),
            ("added to a packet by 10 elements", "µs", added[FEW] / 2 * 1e6, 1),
            ("added to a packet by 100,000 elements", "µs", added[MANY] / 2 * 1e6, 1),
            (
                "100,000 elements over 10, a packet",
                "µs",
                (added[MANY] - added[FEW]) / 2 * 1e6,
                0.3,
            ),
            ("restart with 10,000 elements", "s", again, 2),
        ]
        return [
            Figure(name, unit, value, Bound.OURS_AT_MOST, goal)
            for name, unit, value, goal in figures
        ]


def cluster(size: int) -> View:
    """Return a View whose policies take about *size* elements."""
    tasks = []
    for number in range(size // 2):
        tasks.append(task(f"w{number}", "green", IPv4Address(CLIENT) + number, "web"))
        tasks.append(task(f"d{number}", "blue", IPv4Address(SERVER) + number, "db"))
    return View().changed([*NETWORKS, *POLICIES, *tasks])


def task(name: str, network: str, address: IPv4Address, role: str) -> Task:
    """Return a task with one address and one label."""
    return Task(
        "f",
        name,
        name,
        "agent",
        NODE,
        TaskPhase.RUNNING,
        addresses=(address,),
        networks=(network,),
        labels=(("role", role),),
    )


def others() -> Sequence[Task]:
    """Return fifty thousand tasks with a label that no policy names."""
    first = IPv4Address("9.128.0.1")
    return [task(f"o{number}", "green", first + number, "other") for number in range(CROWD)]


async def timed(function: Callable[[], Awaitable[object]]) -> float:
    """Return how many seconds it takes."""
    began = time.perf_counter()
    await function()
    return time.perf_counter() - began


FOLLOWED: dict[str, Sequence[Object]] = {
    "a task comes": [task("more", "green", IPv4Address("9.200.0.1"), "web")],
    "a policy's ports change": [
        Policy("udp", "role=web", "role=db", Traffic.UDP, ports=((PORT, PORT + 1),))
    ],
    "a policy more between labels": [Policy("more", "role=web", "role=db", Traffic.ICMP)],
    "a policy for a hundred": [
        Policy("few", "role=few", "role=db", Traffic.TCP),
        *(task(f"few{n}", "green", IPv4Address("9.201.0.1") + n, "other") for n in range(100)),
    ],
}


NEW_LABEL = Policy("new", "role=other", "role=db", Traffic.TCP, ports=((5432, 5432),))


class Bench:
    """A client and a server in two networks, and the node between them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        prefix = f"phxbench-{os.getpid()}"
        self._node, self._client, self._server = (f"{prefix}-{name}" for name in "ncs")
        for name in (self._node, self._client, self._server):
            run("ip", "netns", "add", name)
            stack.callback(subprocess.run, ["ip", "netns", "delete", name])
        run("ip", "netns", "exec", self._node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for vni, name, address in ((1024, self._client, CLIENT), (1025, self._server, SERVER)):
            gateway = address.rpartition(".")[0] + ".1"
            link = f"phx-{vni}"
            run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", link,
                "netns", self._node)  # fmt: skip
            run("ip", "-n", self._node, "addr", "add", f"{gateway}/24", "dev", link)
            run("ip", "-n", self._node, "link", "set", link, "up")
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "route", "add", "default", "via", gateway)
        # What is compared with has connection tracking, too: it is a node's anyway.
        track = (
            "table inet track { chain f { type filter hook forward priority 5; ct state new; }; }"
        )
        run("ip", "netns", "exec", self._node, "nft", track)
        self._nft = Nft(netns=Path("/run/netns", self._node))
        stack.callback(self._nft.close)
        self._table = KernelSetTable(self._nft, ISOLATION)
        self._ends = self._sockets()

    async def load(self, elements: Mapping[Element, None]) -> float:
        """Make the table hold *elements*; return the seconds."""
        return await timed(Reconciler(self._table, lambda: elements).reconcile_once)

    async def change(self, elements: Mapping[Element, None], number: int) -> float:
        """Add a task to the loaded table, then take it back; return the seconds of adding it."""
        known = next(element for element in elements if element.set_name == "fine4")
        fresh = Element("fine4", (f"9.200.{number // 250}.{number % 250}",), known.data)
        added = await timed(lambda: self._table.apply(Delta({fresh: None}, frozenset())))
        await self._table.apply(Delta({}, frozenset({fresh})))
        return added

    async def follow(self, view: View, objects: Sequence[Object]) -> float:
        """Return the median seconds from a View with *objects* more to the kernel."""
        held, _ = Isolation().follow(view)
        taken = []
        for _ in range(TURNS):
            after = view.changed(objects)  # the feed's doing
            began = time.perf_counter()
            more, change = held.follow(after)
            await self._table.apply(change)
            taken.append(time.perf_counter() - began)
            held, back = more.follow(view)
            await self._table.apply(back)
        return median(taken)

    async def clear(self) -> None:
        """Remove the table."""
        await self._nft.run(f"add table inet {ISOLATION.table}", table="bench")
        await self._nft.run(f"delete table inet {ISOLATION.table}", table="bench")

    async def restart(self, elements: Mapping[Element, None]) -> float:
        """Reconcile as a process that has just started; return the seconds."""
        table = KernelSetTable(self._nft, ISOLATION)
        return await timed(Reconciler(table, lambda: elements).reconcile_once)

    def round_trip(self) -> float:
        """Return the median seconds of a datagram there and one back, of a known flow."""
        client, server = self._ends
        taken = []
        for _ in range(ROUND_TRIPS):
            began = time.perf_counter()
            client.send(b"x")
            _, address = server.recvfrom(16)
            server.sendto(b"y", address)
            client.recv(16)
            taken.append(time.perf_counter() - began)
        return median(taken)

    def _sockets(self) -> tuple[socket.socket, socket.socket]:
        made = []
        for name in (self._client, self._server):
            one = call_in(
                Path("/run/netns", name), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            )
            one.settimeout(5)
            self._stack.callback(one.close)
            made.append(one)
        client, server = made
        server.bind((SERVER, PORT))
        client.connect((SERVER, PORT))
        return client, server


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True)
