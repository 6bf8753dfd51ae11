"""100,000 tasks: their names from nothing, and after one change."""

import gc
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
from claim import Bound, Figure

from phalanx.dns.publish import ZoneTable
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase, TaskPort
from phalanx.net.model.view import View

TASKS, APPS, NODES, CHANGES = 100_000, 1000, 1000, 101
UNDERLAY, OVERLAY = IPv4Address("198.18.0.1"), IPv4Address("9.0.0.0")


def measure() -> Sequence[Figure]:
    """Publish, then change one task at a time, and ask for it."""
    tasks = [_task(number) for number in range(TASKS)]
    nodes = [Node(UNDERLAY + n, f"a{n}", agent_id=f"x-S{n}", port=5051) for n in range(NODES)]
    view = View().changed([Framework("f", "marathon"), *nodes, *tasks])
    gc.collect()
    table = ZoneTable(node=UNDERLAY, servers=[])
    before, began = _memory(), time.process_time()
    table.publish(view)
    built, memory = time.process_time() - began, _memory() - before
    taken = []
    for number in range(CHANGES):
        changed = msgspec.structs.replace(tasks[number * 97], addresses=(OVERLAY + TASKS + number,))
        view = view.changed([changed])
        began = time.process_time()
        table.publish(view, touched=[(Task.kind, changed.key)])
        table.answers.reply(_question(f"{changed.name}.marathon.mesos"))
        taken.append((time.process_time() - began) * 1000)
    taken.sort()
    most = Bound.OURS_AT_MOST
    return [
        Figure("from nothing, CPU", "s", built, most, 3.0),
        Figure("memory of the names", "MiB", memory, most, 400.0),
        Figure("one task changed and asked for, CPU, median", "ms", taken[CHANGES // 2], most, 5.0),
        Figure("the same, 90 %", "ms", taken[CHANGES * 9 // 10], most, 5.0),
    ]


def _task(number: int) -> Task:
    app = f"app-{number % APPS}"
    port = 31000 + number % 100
    return Task(
        framework_id="f",
        id=f"{app}.{number}",
        name=app,
        agent_id=f"x-S{number % NODES}",
        node=UNDERLAY + number % NODES,
        phase=TaskPhase.RUNNING,
        addresses=(OVERLAY + number,),
        networks=("dcos",),
        discovery_name=app,
        ports=(TaskPort(80, "http"),),
        port_resources=((port, port),),
    )


def _question(name: str) -> bytes:
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"\0\7\1\0\0\1\0\0\0\0\0\0" + wire + b"\0\0\1\0\1"


def _memory() -> float:
    """Return the resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
