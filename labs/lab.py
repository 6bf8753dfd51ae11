"""A lab: a whole cluster on this machine, each node a network namespace.

This is what the ``phalanx lab`` command, the demo and the end-to-end tests use. Every method
blocks until done; every one that changes the lab holds its lock.
"""

import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import product
from pathlib import Path

from phalanx.core.error import ConfigError, ConflictError, NotFoundError, UnavailableError
from phalanx.labs import exec as tools
from phalanx.labs.bringup import await_conditions, bring_up, build_node, start_process
from phalanx.labs.condition import read_relay_ports
from phalanx.labs.daemons import Daemons
from phalanx.labs.outfit import Outfit
from phalanx.labs.place import Place, place_of
from phalanx.labs.process import is_alive, kill_all, send_signal
from phalanx.labs.progress import Progress, Silent
from phalanx.labs.record import (
    ProcessRecord,
    Record,
    locked,
    read_record,
    write_record,
)
from phalanx.labs.status import LabStatus, lab_status, url
from phalanx.labs.teardown import node_pids, remains, take_down
from phalanx.labs.topology import ROUTER, Role, Topology, check, spread
from phalanx.labs.wait import wait_until
from phalanx.labs.wiring import (
    change_address,
    cut_off,
    cut_off_nodes,
    cut_power,
    join,
    unplug,
)

MakeOutfit = Callable[[Place, Topology], Outfit]
LOCK_SECONDS = 10.0
UP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class LabNode:
    """One node of a lab: commands can be run on it."""

    name: str
    address: str
    netns: str
    directory: Path
    etc: Path

    def command(self, command: Sequence[str]) -> Sequence[str]:
        """Return *command* wrapped so that it runs in the node's network, with its resolv.conf."""
        return tools.node_command(self.netns, self.etc, command)

    def run(
        self, command: Sequence[str], *, timeout: float | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run *command* on the node; return its exit status and what it wrote."""
        return tools.run(self.command(command), timeout=timeout, stdin=stdin)


class Lab:
    """A lab that is up."""

    def __init__(self, place: Place, make_outfit: MakeOutfit) -> None:
        self._place = place
        self._make_outfit = make_outfit

    @classmethod
    def up(
        cls,
        topology: Topology | None = None,
        *,
        name: str = "lab",
        outfit: MakeOutfit = Daemons,
        progress: Progress | None = None,
        seconds: float = UP_SECONDS,
        keep_on_failure: bool = False,
    ) -> "Lab":
        """Make a lab and return it when every agent is registered and every plane in sync.

        When that fails, or is interrupted, everything is removed again. Raises
        ConflictError when there is one of that name, UnavailableError when a
        process ends early or *seconds* are over.
        """
        place = place_of(name)
        topology = topology or spread()
        if remains(place):
            _refuse_second(place)
        with locked(place):
            # Whoever held the lock a moment ago may have made it.
            if place.record.exists():
                _refuse_second(place)
            equipment = outfit(place, topology)
            try:
                record = Record(topology)
                write_record(place, record)
                bring_up(place, record, equipment, progress=progress or Silent(), seconds=seconds)
            except BaseException:
                if not keep_on_failure:
                    take_down(place, read_record(place), equipment)
                raise
        return cls(place, outfit)

    @classmethod
    def attach(cls, name: str = "lab", *, outfit: MakeOutfit = Daemons) -> "Lab":
        """Return the lab called *name*; raise NotFoundError when there is none."""
        place = place_of(name)
        lab = cls(place, outfit)
        lab._record()
        return lab

    @classmethod
    def remove(cls, name: str = "lab", *, outfit: MakeOutfit = Daemons) -> None:
        """Remove the lab called *name*, whole or in pieces; raise NotFoundError if none exists."""
        place = place_of(name)
        if not remains(place):
            raise NotFoundError(f"no lab named {name}")
        with locked(place, seconds=LOCK_SECONDS):
            record = read_record(place)
            take_down(place, record, outfit(place, record.topology) if record else None)

    @property
    def name(self) -> str:
        """Return the lab's name."""
        return self._place.lab

    @property
    def directory(self) -> Path:
        """Return the directory with all files of the lab."""
        return self._place.directory

    @property
    def topology(self) -> Topology:
        """Return the lab's topology."""
        return self._record().topology

    @property
    def master_url(self) -> str:
        """Return the URL, on this machine, of whichever master leads."""
        return url(self._ports()[0])

    @property
    def marathon_url(self) -> str:
        """Return the URL, on this machine, of whichever Marathon leads."""
        return url(self._ports()[1])

    def down(self) -> None:
        """Remove the lab."""
        Lab.remove(self.name, outfit=self._make_outfit)

    def node(self, name: str) -> LabNode:
        """Return a node, or the router, by name; raise ConfigError if there is none."""
        topology = self._record().topology
        if name == ROUTER:
            address = str(topology.segments[0].gateway)
        else:
            address = str(topology.node(name).address)
        place = self._place
        return LabNode(name, address, place.netns(name), place.node(name), place.netns_etc(name))

    def status(self) -> LabStatus:
        """Return what runs, as the kernel says."""
        return lab_status(
            self._place,
            self._record(),
            is_alive=is_alive,
            partitioned=cut_off_nodes(self._place),
            ports=read_relay_ports(self._place),
        )

    def wait(self, *, seconds: float = UP_SECONDS, progress: Progress | None = None) -> None:
        """Wait until all holds that held when the lab came up; raise UnavailableError if not."""
        record = self._record()
        outfit = self._make_outfit(self._place, record.topology)
        conditions = [condition for wave in outfit.waves() for condition in wave.conditions]
        await_conditions(
            self._place, record, conditions, progress=progress or Silent(), seconds=seconds
        )

    def kill(
        self,
        node: str,
        process: str | None = None,
        *,
        number: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Send a signal to a process of a node, or take the power from the whole node.

        After SIGKILL the process is gone when this returns. Without power a node's
        link goes down first, so nobody says goodbye; then all its processes and
        containers are gone. Raises ConflictError when the process does not run.
        """
        with locked(self._place, seconds=LOCK_SECONDS):
            record = self._record()
            record.topology.node(node)
            if process is None:
                self._power_off(record, node)
                return
            birth = _process(record, node, process).birth
            if birth is None or not send_signal(birth, number):
                raise ConflictError(f"{node}: {process}: does not run")
            if number is signal.SIGKILL and not wait_until(
                lambda: not is_alive(birth), seconds=LOCK_SECONDS
            ):
                raise UnavailableError(f"{node}: {process}: does not end")

    def start(self, node: str, process: str | None = None) -> Sequence[str]:
        """Start a process of a node, or all that do not run; return the names of those started.

        A node that has lost its power comes back as after a boot: an empty
        namespace, its link plugged in, its files as they were. Raises
        ConflictError when there is nothing to start.
        """
        with locked(self._place, seconds=LOCK_SECONDS):
            record = self._record()
            record.topology.node(node)
            was_off = node in record.powered_off
            if was_off:
                if process is not None:
                    raise ConflictError(f"{node}: is without power: start the whole node")
                record = self._power_on(record, node)
            wanted = [_process(record, node, process)] if process else record.of_node(node)
            wanted = [p for p in wanted if p.birth is None or not is_alive(p.birth)]
            if not wanted and not was_off:
                what = f"{node}: {process}" if process else node
                raise ConflictError(f"{what}: runs already")
            for item in wanted:
                record = start_process(self._place, record, item)
            return [item.name for item in wanted]

    def partition(self, node: str) -> None:
        """Let no packet pass to or from a node; its link stays up, nobody is told."""
        with locked(self._place, seconds=LOCK_SECONDS):
            self._powered(node)
            cut_off(self._place, node)

    def heal(self, node: str) -> None:
        """Undo a partition; a node that is in none stays as it is."""
        with locked(self._place, seconds=LOCK_SECONDS):
            self._powered(node)
            join(self._place, node)

    def readdress(self, node: str, address: IPv4Address) -> None:
        """Give an agent's node another address of its segment, as DHCP may.

        Its processes go on with the old one until they are killed and started.
        Raises ConfigError for an address that can't be, and for a master or client.
        """
        with locked(self._place, seconds=LOCK_SECONDS):
            self._powered(node)
            record = self._record()
            before = record.topology.node(node)
            if before.role is not Role.AGENT:
                raise ConfigError(f"{node}: everybody knows it by its address")
            after = replace(before, address=address)
            nodes = (after if each is before else each for each in record.topology.nodes)
            topology = check(replace(record.topology, nodes=tuple(nodes)))
            record = replace(record, topology=topology)
            waves = self._make_outfit(self._place, topology).waves()
            specs = [spec for wave in waves for spec in wave.processes.get(node, ())]
            for process, spec in product(record.of_node(node), specs):
                if process.name == spec.name:
                    record = record.with_process(replace(process, command=spec.command))
            # Written first: a command killed half way leaves a node that `start` rebuilds.
            write_record(self._place, record)
            change_address(self._place, topology, before, after)

    def _record(self) -> Record:
        record = read_record(self._place)
        if record is not None:
            return record
        if remains(self._place):
            raise NotFoundError(
                f"lab {self.name}: only remains of it exist: phalanx lab down --name {self.name}"
            )
        raise NotFoundError(f"no lab named {self.name}: phalanx lab up --name {self.name}")

    def _ports(self) -> tuple[int, int]:
        ports = read_relay_ports(self._place)
        if ports is None:
            self._record()
            raise UnavailableError(f"lab {self.name}: the relay has not started")
        return ports

    def _powered(self, node: str) -> None:
        record = self._record()
        record.topology.node(node)
        if node in record.powered_off:
            raise ConflictError(f"{node}: is without power")

    def _power_off(self, record: Record, node: str) -> None:
        if node in record.powered_off:
            raise ConflictError(f"{node}: is without power already")
        # Written first: a command killed half way leaves a node that `start` rebuilds.
        write_record(self._place, replace(record, powered_off=record.powered_off | {node}))
        cut_power(self._place, node)
        kill_all(lambda: node_pids(self._place, node))
        outfit = self._make_outfit(self._place, record.topology)
        outfit.power_off(record.topology.node(node))

    def _power_on(self, record: Record, node: str) -> Record:
        kill_all(lambda: node_pids(self._place, node))
        unplug(self._place, node)
        outfit = self._make_outfit(self._place, record.topology)
        build_node(self._place, record, record.topology.node(node), outfit)
        record = replace(record, powered_off=record.powered_off - {node})
        write_record(self._place, record)
        return record


def _process(record: Record, node: str, name: str) -> ProcessRecord:
    processes = record.of_node(node)
    for process in processes:
        if process.name == name:
            return process
    known = ", ".join(process.name for process in processes) or "none: it runs nothing"
    raise ConfigError(f"{node}: process: {name!r}: is none of {known}")


def _refuse_second(place: Place) -> None:
    record = read_record(place)
    if record is not None and record.complete:
        raise ConflictError(
            f"lab {place.lab} is up already: phalanx lab status --name {place.lab} shows it, "
            f"phalanx lab down --name {place.lab} removes it"
        )
    raise ConflictError(
        f"lab {place.lab} is being made, or was left half made: "
        f"phalanx lab down --name {place.lab} removes it"
    )
