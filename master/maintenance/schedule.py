"""Maintenance schedules and the modes of machines; pure (reference mesos §4.9)."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.maintenance import Schedule, Window
from phalanx.mesos.v1.mesos import MachineID, MachineInfo, Unavailability

DRAINING = "DRAINING"
DOWN = "DOWN"

Machines = Mapping[MachineID, MachineInfo]  # by the normal form of their ids


def normal(machine: MachineID) -> MachineID:
    """Return the form of a machine's id that is compared: its host's name in lower case."""
    hostname = (machine.hostname or "").lower() or None
    return MachineID(hostname=hostname, ip=machine.ip or None)


def is_machine(machine: MachineID, hostname: str, address: IPv4Address) -> bool:
    """Tell whether an agent stands on a machine: whatever the id gives must agree."""
    wanted = normal(machine)
    if wanted.hostname is not None and wanted.hostname != hostname.lower():
        return False
    return wanted.ip is None or wanted.ip == str(address)


def machines_of(schedule: Schedule, machines: Machines) -> dict[MachineID, MachineInfo]:
    """Return every machine that *schedule* names, those that are down staying so."""
    return {
        normal(id): MachineInfo(
            id=id,
            mode=DOWN if is_down(machines, id) else DRAINING,
            unavailability=window.unavailability,
        )
        for window in schedule.windows
        for id in window.machine_ids
    }


def is_down(machines: Machines, id: MachineID) -> bool:
    """Tell whether a machine is down."""
    machine = machines.get(normal(id))
    return machine is not None and machine.mode == DOWN


def unavailability_of(
    machines: Machines, hostname: str, address: IPv4Address
) -> Unavailability | None:
    """Return when an agent's machine is unavailable, None when nothing is planned for it."""
    for id in (
        MachineID(hostname=hostname.lower() or None, ip=str(address)),
        MachineID(hostname=hostname.lower() or None),
        MachineID(ip=str(address)),
    ):
        machine = machines.get(id)
        if machine is not None:
            return machine.unavailability
    return None


def check_schedule(schedule: Schedule, machines: Machines) -> None:
    """Raise InvalidError when *schedule* must not replace the one that made *machines*."""
    named: set[MachineID] = set()
    for window in schedule.windows:
        if not window.machine_ids:
            raise InvalidError("List of machines in the maintenance window is empty")
        _check_unavailability(window.unavailability)
        check_machines(window.machine_ids, seen=named)
    for id, machine in machines.items():
        if machine.mode == DOWN and id not in named:
            raise InvalidError(
                f"Machine '{shown(machine.id)}' is deactivated and cannot be removed from the"
                " schedule"
            )


def _check_unavailability(unavailability: Unavailability) -> None:
    duration = unavailability.duration
    if duration is not None and duration.nanoseconds < 0:
        raise InvalidError("Unavailability 'duration' is negative")


def check_machines(ids: Sequence[MachineID], *, seen: set[MachineID] | None = None) -> None:
    """Raise InvalidError when one of *ids* is no machine, or comes twice; none is an error too."""
    seen = set() if seen is None else seen
    if not ids:
        raise InvalidError("List of machines is empty")
    for id in ids:
        if not id.hostname and not id.ip:
            raise InvalidError("Both 'hostname' and 'ip' for a machine are empty")
        if id.ip:
            try:
                IPv4Address(id.ip)
            except AddressValueError as error:
                raise InvalidError(f"Failed to parse IPv4: {id.ip}") from error
        if normal(id) in seen:
            raise InvalidError(f"Machine '{shown(id)}' appears more than once in the schedule")
        seen.add(normal(id))


def started(ids: Sequence[MachineID], machines: Machines) -> dict[MachineID, MachineInfo]:
    """Return the machines after START_MAINTENANCE of *ids*; raise InvalidError."""
    return _moved(ids, machines, DRAINING, DOWN, "cannot be brought down")


def stopped(ids: Sequence[MachineID], machines: Machines) -> dict[MachineID, MachineInfo]:
    """Return the machines after STOP_MAINTENANCE: *ids* are no longer among them."""
    after = _moved(ids, machines, DOWN, DOWN, "cannot be brought up")
    for id in ids:
        del after[normal(id)]
    return after


def _moved(
    ids: Sequence[MachineID], machines: Machines, source: str, target: str, refusal: str
) -> dict[MachineID, MachineInfo]:
    check_machines(ids)
    after = dict(machines)
    for id in ids:
        machine = after.get(normal(id))
        if machine is None:
            raise InvalidError(f"Machine '{shown(id)}' is not part of a maintenance schedule")
        if machine.mode != source:
            raise InvalidError(f"Machine '{shown(id)}' is not in {source} mode and {refusal}")
        after[normal(id)] = msgspec.structs.replace(machine, mode=target)
    return after


def without(schedule: Schedule, ids: Iterable[MachineID]) -> Schedule:
    """Return *schedule* less some machines, and less the windows that have none left."""
    gone = {normal(id) for id in ids}
    windows = []
    for window in schedule.windows:
        left = tuple(id for id in window.machine_ids if normal(id) not in gone)
        if left:
            windows.append(Window(machine_ids=left, unavailability=window.unavailability))
    return Schedule(windows=tuple(windows))


def shown(id: MachineID) -> str:
    """Return a machine's id as messages quote it."""
    return encode(id).decode()
