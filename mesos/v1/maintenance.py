"""Maintenance schedules and their state (reference mesos §4.9, appendix A)."""

from typing import Annotated

from phalanx.mesos.v1.allocator import InverseOfferStatus
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import MachineID, Unavailability
from phalanx.mesos.v1.wire import n


class Window(Message, frozen=True, kw_only=True):
    """``mesos.v1.maintenance.Window``."""

    machine_ids: Annotated[tuple[MachineID, ...], n(1)] = ()
    unavailability: Annotated[Unavailability, n(2)]


class Schedule(Message, frozen=True, kw_only=True):
    """``mesos.v1.maintenance.Schedule``."""

    windows: Annotated[tuple[Window, ...], n(1)] = ()


class DrainingMachine(Message, frozen=True, kw_only=True):
    """``mesos.v1.maintenance.ClusterStatus.DrainingMachine``."""

    id: Annotated[MachineID, n(1)]
    statuses: Annotated[tuple[InverseOfferStatus, ...], n(2)] = ()


class ClusterStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.maintenance.ClusterStatus``."""

    draining_machines: Annotated[tuple[DrainingMachine, ...], n(1)] = ()
    down_machines: Annotated[tuple[MachineID, ...], n(2)] = ()
