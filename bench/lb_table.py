"""A load balancer's table for benchmarks, and how long passes over it take."""

import asyncio
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from statistics import median
from uuid import uuid4

from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.service import Backend, Scheduler, Service, Vip

BACKENDS = 5
CHANGES = 20
PASSES = 5

Services = Dataplane[Vip, Service]
Table = dict[Vip, Service]


def table(size: int) -> Table:
    """Return *size* services of *BACKENDS* backends."""
    first, inside = IPv4Address("11.1.0.0"), IPv4Address("9.0.0.0")
    return {
        Vip(first + number, 80): Service.of(
            Backend(inside + number * BACKENDS + each, 8080) for each in range(BACKENDS)
        )
        for number in range(size)
    }


def reconciled(services: Services, wanted: Table) -> float:
    """Bring *services* to *wanted* by one pass; return the seconds that it took."""
    loop = Reconciler(services, lambda: wanted)
    began = time.perf_counter()
    if not asyncio.run(loop.reconcile_once()):
        raise SystemExit("the data plane refuses the table")
    return time.perf_counter() - began


def changed(
    services: Services, wanted: Table, *, changes: int = CHANGES, passes: int = PASSES
) -> tuple[float, float]:
    """Drain backends and bring them back; return the median seconds of a change, and of a pass.

    A change is what a plane makes of a task's end; a pass compares the whole table first.
    """
    vips = [list(wanted)[number * 37 % len(wanted)] for number in range(changes)]
    applied = asyncio.run(_applied(services, wanted, vips))
    passed = []
    for vip in vips[:passes]:
        passed.append(reconciled(services, wanted | {vip: _drained(wanted[vip])}))
        reconciled(services, wanted)
    return median(applied), median(passed)


async def _applied(services: Services, wanted: Table, vips: Sequence[Vip]) -> list[float]:
    seconds = []
    await services.read()  # as a plane has done
    for vip in vips:
        for service in (_drained(wanted[vip]), wanted[vip]):
            began = time.perf_counter()
            await services.apply(Delta({vip: service}, frozenset()))
            seconds.append(time.perf_counter() - began)
    return seconds


@contextmanager
def namespace() -> Iterator[Path]:
    """Make a network namespace and remove it in the end."""
    name = f"phxbench-{uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        # Without any address of its own the kernel takes no address for that of one host.
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield Path("/run/netns") / name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def as_restore(wanted: Table) -> str:
    """Return the table in the words of ``ipvsadm --restore``."""
    lines = []
    for vip, service in wanted.items():
        lines.append(f"-A -t {vip.address}:{vip.port} -s {Scheduler.WLC}")
        lines += [
            f"-a -t {vip.address}:{vip.port} -r {each.address}:{each.port} -m -w {each.weight}"
            for each in service.backends
        ]
    return "\n".join(lines) + "\n"


def _drained(service: Service) -> Service:
    first, *others = service.backends
    return Service.of([Backend(first.address, first.port, 0), *others])
