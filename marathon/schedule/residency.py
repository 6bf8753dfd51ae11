"""Instances with persistent volumes: reserve, create, use again, free (reference marathon §3.5).

Resources are reserved for one instance, with labels that say so, and its volumes made of them.
The offer that shows them launches the task; whatever shows up for nobody is freed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance, LocalVolume, Reservation
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.model.volume import PersistentVolume
from phalanx.marathon.schedule.demand import demand_of, host_ports, kept_volumes
from phalanx.marathon.schedule.stock import FRAMEWORK_LABEL, TASK_LABEL, Stock
from phalanx.mesos.amount import Amount
from phalanx.mesos.kind import Kind
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1 import mesos

Disk = tuple[Kind, int]  # thousandths of a MiB to take of it


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What matching looks at beside offers.

    The time, the region of the master, our own framework id, a source of names that are new, and
    the top-level groups that give services their name as their role.
    """

    now: float = 0.0
    region: str | None = None
    framework_id: str = ""
    identity: Callable[[], str] = str
    enforcing: frozenset[str] = frozenset()


def disks_for(spec: Spec, stock: Stock, roles: Sequence[str]) -> Mapping[str, Disk] | None:
    """Return which disk of an offer each volume of an instance goes to, and how much of it.

    A volume of the type ``mount`` takes a disk as a whole, one of the type ``path`` its size.
    Those with the least choice choose first, the smallest disk that will do. None when an
    offer has too few. Volumes of the type ``root`` need no disk of their own.
    """
    wanted = {path: kept for path, kept in kept_volumes(spec).items() if kept.type != "root"}
    left = stock.disks(roles)
    found: dict[str, Disk] = {}
    choice = {
        path: sum(_does(k, a, kept) for k, a in left.items()) for path, kept in wanted.items()
    }
    for path, kept in sorted(wanted.items(), key=lambda item: (choice[item[0]], -item[1].size)):
        fitting = [(amount, kind) for kind, amount in left.items() if _does(kind, amount, kept)]
        if not fitting:
            return None
        amount, kind = min(fitting, key=lambda pair: pair[0])
        part = amount if kept.type == "mount" else kept.size * 1000
        found[path] = kind, part
        left[kind] -= part
    return found


def _does(kind: Kind, amount: int, kept: PersistentVolume) -> bool:
    """Tell whether a disk of which *amount* is left does for a volume."""
    source = kind.source
    if source is None or source.type != kept.type.upper() or source.profile != kept.profile_name:
        return False
    if amount < kept.size * 1000:
        return False
    if kept.max_size is not None and amount > kept.max_size * 1000:
        return False
    place = source.mount or source.path
    root = (place.root if place is not None else None) or ""
    return all(
        (re.fullmatch(pattern, root) is not None) == (operator == "LIKE")
        for _, operator, pattern in kept.constraints
    )


def kept_for(
    spec: Spec, instance: Instance, stock: Stock, around: Circumstances
) -> tuple[tuple[mesos.Operation, ...], Reservation]:
    """Return what reserves and creates what *instance* is to keep, taken from *stock*.

    The offer must have what ``demand_of`` and ``disks_for`` ask for.
    """
    chosen = disks_for(spec, stock, ("*",)) or {}
    labels = {FRAMEWORK_LABEL: around.framework_id, TASK_LABEL: instance.id}
    step = mesos.ReservationInfo(
        type="DYNAMIC",
        role=spec.role,
        labels=mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items())),
    )
    taken = stock.take(demand_of(spec).scalars, (), ("*",))
    disks: dict[Kind, Amount] = {}
    volumes = []
    for path, kept in kept_volumes(spec).items():
        kind, amount = chosen.get(path, (Kind("disk"), kept.size * 1000))
        if kind.source is not None:
            taken += stock.take_disk(kind, amount)
        volume_id = f"{instance.id}#{path}#{around.identity()}"
        volumes.append(
            LocalVolume(container_path=path, persistence_id=volume_id, size=amount // 1000)
        )
        info = mesos.DiskInfo(
            persistence=mesos.Persistence(id=volume_id),
            volume=mesos.Volume(mode="RW", container_path=path),
            source=kind.source,
        )
        steps = (*kind.reservations, step)
        disks[replace(kind, reservations=steps, volume=volume_id, disk=info)] = amount
    reserve = mesos.Reserve(resources=taken.pushed(step).messages(role=stock.role))
    create = mesos.Create(volumes=Resources(disks).messages(role=stock.role))
    operations = (
        mesos.Operation(type="RESERVE", reserve=reserve),
        mesos.Operation(type="CREATE", create=create),
    )
    agent_id = stock.offer.agent_id.value
    return operations, Reservation(
        agent_id=agent_id, role=spec.role, since=around.now, volumes=tuple(volumes)
    )


def divided(kept: Resources, scalars: Mapping[str, int]) -> tuple[Resources, Resources]:
    """Return so many thousandths of *kept*, volumes left aside, and what is left then."""
    part: dict[Kind, Amount] = {}
    for kind, amount in kept.items():
        missing = scalars.get(kind.name, 0) - sum(
            found for k, found in part.items() if k.name == kind.name and isinstance(found, int)
        )
        if isinstance(amount, int) and kind.volume is None and missing > 0:
            part[kind] = min(amount, missing)
    taken = Resources(part)
    return taken, kept - taken


def reserved_of(spec: Spec) -> tuple[object, ...]:
    """Return all that instances with volumes have reserved: it must stay as it is."""
    demand = demand_of(spec)
    fixed = host_ports(spec)
    if isinstance(spec, App) and spec.is_on_host_network and not spec.require_ports:
        fixed = ()
    return (dict(demand.scalars), kept_volumes(spec), spec.role, fixed)


def holds(kept: Resources, reservation: Reservation, amounts: Mapping[str, int]) -> bool:
    """Tell whether *kept* has every volume of *reservation*, and *amounts* beside them.

    What a pod's tasks had comes back before what its executor had, and may be offered alone.
    """
    there = {kind.volume for kind in kept}
    plain = kept.where(lambda kind: kind.volume is None).scalars
    has_volumes = all(volume.persistence_id in there for volume in reservation.volumes)
    return has_volumes and all(plain.get(name, 0) >= part for name, part in amounts.items())


def is_part(kept: Resources, reservation: Reservation, agent_id: str) -> bool:
    """Tell whether *kept*, on an agent, may be a part of *reservation*: no volume is another's."""
    own = {volume.persistence_id for volume in reservation.volumes}
    return (
        reservation.agent_id == agent_id
        and {kind.volume for kind, _ in kept.volumes.items()} <= own
    )


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
        disk = None if kind.source is None else mesos.DiskInfo(source=kind.source)
        plain += Resources({replace(kind, volume=None, disk=disk): amount})
    unreserve = mesos.Unreserve(resources=plain.messages(role=role))
    freed = mesos.Operation(type="UNRESERVE", unreserve=unreserve)
    if not volumes:
        return (freed,)
    destroy = mesos.Destroy(volumes=volumes.messages(role=role))
    return mesos.Operation(type="DESTROY", destroy=destroy), freed
