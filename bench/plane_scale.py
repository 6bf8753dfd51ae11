"""A plane of ten thousand nodes and fifty thousand tasks: start, one change, memory, and names."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import overlay
from aiohttp import ClientError, ClientSession, UnixConnector, web
from bench_netns import made_netns, run_in
from claim import Bound, Figure
from dnslib import DNSRecord

from phalanx.core.api.serve import Listener, serve
from phalanx.core.netns import call_in, enter
from phalanx.net.api.feed import feed_route
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.objects import Framework, Task, TaskPhase, TaskPort, VipLease
from phalanx.net.model.view import View

NODES, TASKS, PER_APP = 10_000, 50_000, 50
CHANGES = 20
START_SECONDS = 600.0
CHANGE_SECONDS = 120.0
POLL_SECONDS = 0.002
ASK_SECONDS = 0.002
QUIET_SECONDS = 3.0
APART_SECONDS = 0.25
FEED_PORT = 5050
EPOCH, NEXT_EPOCH = "bench", "next"
NAME = "app1.marathon.mesos"
RESOLVER = ("198.51.100.1", 53)
TICKS = os.sysconf("SC_CLK_TCK")


def measure() -> Sequence[Figure]:
    """Start a plane in a namespace, beside its source; change the View; ask for names meanwhile."""
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        netns = made_netns(stack, "scale")
        run_in(netns, "ip", "addr", "add", f"{overlay.ME}/16", "dev", "lo")
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        asker = context.Process(target=_ask, args=(netns, theirs))
        asker.start()
        try:
            return call_in(
                Path("/run/netns", netns), lambda: asyncio.run(_measure(netns, Path(place), ours))
            )
        finally:
            asker.kill()
            asker.join()


def view_of_tasks(view: View) -> View:
    """Return *view* with the tasks of a thousand apps, each behind a VIP of its own."""
    apps = TASKS // PER_APP
    vips = [
        VipLease(f"app{n}.marathon", IPv4Address("11.0.0.1") + n, IPv6Address("fd01:c::1") + n)
        for n in range(apps)
    ]
    return view.changed([Framework("F", "marathon"), *vips, *map(_task, range(TASKS))])


def _task(number: int) -> Task:
    app, on = number // PER_APP, number % NODES
    node = overlay.ME + on
    place = 2 + number // NODES
    return Task(
        "F",
        f"app{app}.{number}",
        f"app{app}",
        f"S{on}",
        node,
        TaskPhase.RUNNING,
        addresses=(IPv4Address((9 << 24) + (on << 8) + place),),
        networks=("n0",),
        addresses6=(IPv6Address((0xFD01 << 112 | 0xB0 << 96) + (on << 48) + place),),
        networks6=("n0",),
        discovery_name=f"app{app}",
        ports=(TaskPort(80, "web", "tcp", (("VIP_0", f"/app{app}:80"),)),),
    )


class _Plane:
    """The process, what it says of itself, and what it has cost."""

    def __init__(self, process: subprocess.Popen[bytes], client: ClientSession) -> None:
        self._process = process
        self._client = client

    async def holds(self, sequence: int, *, seconds: float) -> None:
        """Wait until every table holds the View with this number."""
        await self._until(lambda status: status["applied"] == sequence, seconds)

    async def follows(self, epoch: str, *, seconds: float) -> None:
        """Wait until every table holds a View of this leader."""
        await self._until(lambda status: status["epoch"] == epoch, seconds)

    async def answers(self, *, seconds: float) -> None:
        """Wait until it serves, with the View from its disk."""
        await self._until(lambda _: True, seconds, must_be_in_sync=False)

    async def _until(
        self, is_so: Callable[[Any], bool], seconds: float, *, must_be_in_sync: bool = True
    ) -> None:
        async with asyncio.timeout(seconds):
            while not await self._says(is_so, must_be_in_sync=must_be_in_sync):  # noqa: ASYNC110 - the other side is a process
                await asyncio.sleep(POLL_SECONDS)

    async def _says(self, is_so: Callable[[Any], bool], *, must_be_in_sync: bool) -> bool:
        if self._process.poll() is not None:
            raise SystemExit("the plane has ended")
        try:
            async with self._client.get("http://plane/v1/status") as response:
                status = await response.json()
        except ClientError:
            return False
        return bool(status["in_sync"] or not must_be_in_sync) and is_so(status)

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def mebibytes(self) -> float:
        """Return its resident memory."""
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        [found] = [line for line in lines if line.startswith("VmRSS:")]
        return int(found.split()[1]) / 1024


async def _measure(netns: str, place: Path, asker: Connection) -> Sequence[Figure]:
    view = view_of_tasks(overlay.view_of(has_ipv6=True, remotes=NODES))
    source = FeedSource()
    source.publish(view, epoch=EPOCH)
    app = web.Application()
    app.add_routes([feed_route(lambda: source)])
    async with serve(app, Listener("127.0.0.1", FEED_PORT)):
        with _running(place) as process:
            connector = UnixConnector(str(place / "plane.sock"))
            async with ClientSession(connector=connector) as client:
                plane = _Plane(process, client)
                begun = time.perf_counter()
                await plane.holds(1, seconds=START_SECONDS)
                start, start_cpu = time.perf_counter() - begun, plane.cpu_seconds
                _longest(asker)
                figures = await _changes(source, plane)
                changing = _longest(asker)
                assert source.current is not None
                source.publish(source.current.view, epoch=NEXT_EPOCH)  # as all that is said anew
                await plane.follows(NEXT_EPOCH, seconds=CHANGE_SECONDS)
                leading = _longest(asker)
                remote = view.subnets[f"n0/{overlay.ME + 8}"]
                run_in(netns, "ip", "route", "delete", str(remote.subnet))
                await asyncio.sleep(QUIET_SECONDS)  # a resync for drift, which reads all back
                resync = _longest(asker)
                memory = plane.mebibytes
        with _running(place) as process:
            connector = UnixConnector(str(place / "plane.sock"))
            async with ClientSession(connector=connector) as client:
                plane = _Plane(process, client)
                await _named(seconds=START_SECONDS)
                named_cpu = plane.cpu_seconds
                await plane.answers(seconds=START_SECONDS)
                _longest(asker)
                await plane.follows(NEXT_EPOCH, seconds=START_SECONDS)
                restarted = _longest(asker)
    at_most = Bound.OURS_AT_MOST
    return [
        Figure("start to in sync", "s", start, at_most, 20.0),
        Figure("start to in sync, CPU", "s", start_cpu, at_most, 20.0),
        *figures,
        Figure("longest wait for a name, 80 changes", "ms", changing * 1e3, at_most, 50.0),
        Figure("longest wait for a name, new leader", "ms", leading * 1e3, at_most, 50.0),
        Figure("longest wait for a name, resync", "ms", resync * 1e3, at_most, 50.0),
        Figure(
            "longest wait for a name, back after a restart", "ms", restarted * 1e3, at_most, 50.0
        ),
        Figure("restart to names from disk, CPU", "s", named_cpu, at_most, 1.5),
        Figure("memory", "MiB", memory, at_most, 1024.0),
    ]


async def _named(*, seconds: float) -> None:
    """Wait until the resolver knows a name."""
    loop = asyncio.get_running_loop()
    message = bytes(DNSRecord.question(NAME).pack())
    async with asyncio.timeout(seconds):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            while True:
                with suppress(OSError):  # nobody is there yet, or says nothing
                    await loop.sock_sendto(sock, message, RESOLVER)
                    async with asyncio.timeout(10 * ASK_SECONDS):
                        if DNSRecord.parse(await loop.sock_recv(sock, 4096)).rr:
                            return
                await asyncio.sleep(ASK_SECONDS)


async def _changes(source: FeedSource, plane: _Plane) -> Sequence[Figure]:
    """Return what it takes until one change of the View is in all tables."""
    figures = []

    def of_task(view: View, number: int) -> View:
        task = view.tasks[f"F/app{number}.{number * PER_APP}"]
        return view.changed([msgspec.structs.replace(task, phase=TaskPhase.KILLING)])

    def of_node(view: View, number: int) -> View:
        networks = list(view.networks.values())
        return view.changed(overlay.node_of(networks, NODES + 1 + number))

    for what, change in (("a task", of_task), ("a node", of_node)):
        taken = []
        for number in range(CHANGES):
            begun = time.perf_counter()
            sequence = _publish(source, change, number)
            await plane.holds(sequence, seconds=CHANGE_SECONDS)
            taken.append(time.perf_counter() - begun)
        cpu = plane.cpu_seconds
        for number in range(CHANGES, 2 * CHANGES):
            sequence = _publish(source, change, number)
            await asyncio.sleep(APART_SECONDS)  # nobody asks meanwhile: that costs as much
        await plane.holds(sequence, seconds=CHANGE_SECONDS)
        cpu = (plane.cpu_seconds - cpu) / CHANGES
        figures += [
            Figure(f"{what} changes", "ms", median(taken) * 1e3, Bound.OURS_AT_MOST, 50.0),
            Figure(f"{what} changes, CPU", "ms", cpu * 1e3, Bound.OURS_AT_MOST, 50.0),
        ]
    return figures


def _publish(source: FeedSource, change: Callable[[View, int], View], number: int) -> int:
    """Publish a change; return the number of the View that it makes."""
    current = source.current
    assert current is not None
    source.publish(change(current.view, number), epoch=EPOCH)
    return current.position.sequence + 1


@contextmanager
def _running(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        str(Path(sys.executable).with_name("phalanx")), "plane", f"--ip={overlay.ME}",
        f"--source=http://127.0.0.1:{FEED_PORT}", f"--state-dir={place}",
        f"--socket={place}/plane.sock", f"--cni-socket={place}/cni.sock",
        "--upstreams=", "--lb=nftables", "--resync=3600", "--log-level=warning",
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _longest(asker: Connection) -> float:
    """Return the longest wait for an answer since the last call."""
    asker.send(None)
    return float(asker.recv())


def _ask(netns: str, reports: Connection) -> None:
    """Ask for a name every 2 ms, in a process of its own; report the longest wait when asked."""
    enter(Path("/run/netns", netns))
    message = bytes(DNSRecord.question(NAME).pack())
    longest = 0.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2.0)
        while True:
            begun = time.perf_counter()
            with suppress(OSError):  # what never comes counts with the time waited for it
                sock.sendto(message, RESOLVER)
                sock.recv(4096)
            longest = max(longest, time.perf_counter() - begun)
            if reports.poll(ASK_SECONDS):
                reports.recv()
                reports.send(longest)
                longest = 0.0
