"""A load balancer's table for benchmarks, and how long passes over it take."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
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


def changed(services: Services, wanted: Table, *, changes: int = CHANGES) -> tuple[float, float]:
    """Drain one backend after another; return the median seconds of a change, and of a pass."""
    applied, passed = [], []
    vips = list(wanted)
    for number in range(changes):
        vip = vips[number * 37 % len(vips)]
        before = wanted[vip]
        wanted = wanted | {vip: _drained(before)}
        asyncio.run(services.read())
        began = time.perf_counter()
        asyncio.run(services.apply(Delta({vip: wanted[vip]}, frozenset())))
        applied.append(time.perf_counter() - began)
        wanted = wanted | {vip: before}
        passed.append(reconciled(services, wanted))
    return median(applied), median(passed)


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
