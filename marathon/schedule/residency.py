"""Instances with persistent volumes: reserve, create, use again, free (reference marathon §3.5).

Resources are reserved for one instance, with labels that say so, and its volumes made of them.
The offer that shows them launches the task; whatever shows up for nobody is freed.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance, LocalVolume, Reservation
from phalanx.marathon.schedule.demand import demand_of
from phalanx.marathon.schedule.stock import FRAMEWORK_LABEL, TASK_LABEL, Stock
from phalanx.mesos.resources import Amount, Kind, Resources
from phalanx.mesos.v1 import mesos


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What matching looks at beside offers.

    The time, the region of the master, our own framework id, and a source of names that are new.
    """

    now: float = 0.0
    region: str | None = None
    framework_id: str = ""
    identity: Callable[[], str] = str


def kept_for(
    app: App, instance: Instance, stock: Stock, around: Circumstances
) -> tuple[tuple[mesos.Operation, ...], Reservation]:
    """Return what reserves and creates what *instance* is to keep, taken from *stock*."""
    volumes = tuple(
        LocalVolume(
            container_path=volume.container_path,
            persistence_id=f"{instance.id}#{volume.container_path}#{around.identity()}",
            size=volume.persistent.size,
        )
        for volume in app.persistent_volumes
        if volume.persistent is not None
    )
    labels = {FRAMEWORK_LABEL: around.framework_id, TASK_LABEL: instance.id}
    step = mesos.ReservationInfo(
        type="DYNAMIC",
        role=app.role,
        labels=mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items())),
    )
    taken = stock.take(demand_of(app).scalars, (), ("*",)).pushed(step)
    disks: dict[Kind, Amount] = {}
    for volume in volumes:
        info = mesos.DiskInfo(
            persistence=mesos.Persistence(id=volume.persistence_id),
            volume=mesos.Volume(mode="RW", container_path=volume.container_path),
        )
        kind = Kind("disk", (step,), volume=volume.persistence_id, disk=info)
        disks[kind] = volume.size * 1000
    reserve = mesos.Reserve(resources=taken.messages(role=stock.role))
    create = mesos.Create(volumes=Resources(disks).messages(role=stock.role))
    operations = (
        mesos.Operation(type="RESERVE", reserve=reserve),
        mesos.Operation(type="CREATE", create=create),
    )
    agent_id = stock.offer.agent_id.value
    return operations, Reservation(
        agent_id=agent_id, role=app.role, since=around.now, volumes=volumes
    )


def holds(kept: Resources, reservation: Reservation) -> bool:
    """Tell whether *kept* has every volume of *reservation*."""
    there = {kind.volume for kind in kept}
    return all(volume.persistence_id in there for volume in reservation.volumes)


def is_ours(kept: Resources, framework_id: str) -> bool:
    """Tell whether our framework reserved *kept*."""
    return all(
        any(
            label.key == FRAMEWORK_LABEL and label.value == framework_id
            for reservation in kind.reservations
            for label in (() if reservation.labels is None else reservation.labels.labels)
        )
        for kind in kept
    )


def freeing(kept: Resources, role: str) -> tuple[mesos.Operation, ...]:
    """Return what destroys the volumes in *kept* and gives all of it back."""
    volumes = kept.volumes
    plain = Resources({kind: amount for kind, amount in kept.items() if kind.volume is None})
    for kind, amount in volumes.items():
        plain += Resources({replace(kind, volume=None, disk=None): amount})
    unreserve = mesos.Unreserve(resources=plain.messages(role=role))
    freed = mesos.Operation(type="UNRESERVE", unreserve=unreserve)
    if not volumes:
        return (freed,)
    destroy = mesos.Destroy(volumes=volumes.messages(role=role))
    return mesos.Operation(type="DESTROY", destroy=destroy), freed
