"""Make a lab: namespaces, wires, processes, and wait until it stands."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from phalanx.core.error import UnavailableError
from phalanx.labs.exec import spawn
from phalanx.labs.outfit import Condition, Outfit, ProcessSpec, Wave
from phalanx.labs.place import LAB_VARIABLE, NODE_VARIABLE, Place
from phalanx.labs.process import birth_of, is_alive
from phalanx.labs.progress import Progress
from phalanx.labs.record import HOST, ProcessRecord, Record, write_record
from phalanx.labs.topology import Node
from phalanx.labs.wait import wait_until
from phalanx.labs.wiring import add_node, add_router

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
TAIL_LINES = 15


def bring_up(
    place: Place, record: Record, outfit: Outfit, *, progress: Progress, seconds: float
) -> Record:
    """Make everything of *record*, whose topology is already written down; return it complete.

    Raises UnavailableError when a process ends early, or when the conditions do
    not hold within *seconds*.
    """
    began = time.monotonic()
    progress.say("network")
    add_router(place, record.topology)
    for node in record.topology.nodes:
        build_node(place, record, node, outfit)
    for wave in outfit.waves():
        record = start_wave(place, record, wave, progress=progress, seconds=seconds, began=began)
    record = replace(record, complete=True)
    write_record(place, record)
    return record


def build_node(place: Place, record: Record, node: Node, outfit: Outfit) -> None:
    """Make one node: namespace, wires, files."""
    add_node(place, record.topology, node, nameservers=outfit.nameservers())
    (place.node(node.name) / "log").mkdir(parents=True, exist_ok=True)
    outfit.prepare(node)


def start_wave(
    place: Place, record: Record, wave: Wave, *, progress: Progress, seconds: float, began: float
) -> Record:
    """Start the processes of a wave and wait for its conditions; return the longer record."""
    specs = [(node, spec) for node, specs in wave.processes.items() for spec in specs]
    planned = [ProcessRecord(node, spec.name, spec.command) for node, spec in specs]
    record = replace(record, processes=(*record.processes, *planned))
    write_record(place, record)
    if planned:
        progress.say(f"processes: {_listing(wave)}")
    for process in planned:
        record = start_process(place, record, process)
    await_conditions(
        place, record, wave.conditions, progress=progress, seconds=seconds, began=began
    )
    return record


def _listing(wave: Wave) -> str:
    def names(specs: Sequence[ProcessSpec]) -> str:
        return " ".join(spec.name for spec in specs)

    return ", ".join(f"{node} {names(specs)}" for node, specs in wave.processes.items() if specs)


def start_process(place: Place, record: Record, process: ProcessRecord) -> Record:
    """Start one process, and write down who it is."""
    log = place.log(process.node, process.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    environ = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environ |= {LAB_VARIABLE: place.lab, NODE_VARIABLE: process.node}
    netns = None if process.node == HOST else place.netns(process.node)
    pid = spawn(process.command, netns=netns, log=log, environ=environ)
    birth = birth_of(pid)
    if birth is None:
        raise UnavailableError(ended_early(place, process))
    record = record.with_process(replace(process, birth=birth))
    write_record(place, record)
    return record


def await_conditions(
    place: Place,
    record: Record,
    conditions: Sequence[Condition],
    *,
    progress: Progress,
    seconds: float,
    began: float | None = None,
) -> None:
    """Wait until every condition holds at the same time; raise UnavailableError otherwise.

    The *seconds* count from *began* on the monotonic clock, or from now.
    A process that has ended ends the wait at once, with its last words.
    """
    said = set[str]()
    reasons: dict[str, str] = {}

    def all_hold() -> bool:
        for process in record.processes:
            if process.birth is not None and not is_alive(process.birth):
                raise UnavailableError(ended_early(place, process))
        reasons.clear()
        for condition in conditions:
            if (reason := condition.missing()) is not None:
                reasons[condition.name] = reason
            elif condition.name not in said:
                said.add(condition.name)
                progress.say(f"{condition.name}: ready")
        progress.waiting(reasons)
        return not reasons

    spent = 0.0 if began is None else time.monotonic() - began
    if not wait_until(all_hold, seconds=seconds - spent, interval=0.05):
        left = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"lab {place.lab}: not up after {seconds:g} s: {left}")


def ended_early(place: Place, process: ProcessRecord) -> str:
    """Say that a process ended, with the last lines it wrote."""
    try:
        lines = place.log(process.node, process.name).read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    tail = "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (nothing)"
    return f"{process.node}: {process.name} ended early; the last it wrote:\n{tail}"
