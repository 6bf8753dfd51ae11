"""Kinds of resources, and v1 resources as amounts of a kind (reference mesos §5.1)."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.amount import Amount, merged
from phalanx.mesos.role import DEFAULT
from phalanx.mesos.v1.mesos import (
    AllocationInfo,
    DiskInfo,
    DiskSource,
    Range,
    Ranges,
    ReservationInfo,
    Resource,
    ResourceProviderID,
    RevocableInfo,
    Scalar,
    Set,
    SharedInfo,
    ValueType,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """What two amounts must agree in to be added up.

    *volume* is the persistent volume's id; *disk* holds how it is used beside,
    which makes no other resource of it. *size* is set for shared volumes
    alone: their amount is how often they are held.
    """

    name: str
    reservations: tuple[ReservationInfo, ...] = ()
    source: DiskSource | None = None
    volume: str | None = None
    is_revocable: bool = False
    is_shared: bool = False
    provider: str | None = None
    size: int = 0
    disk: DiskInfo | None = field(default=None, compare=False)

    def __hash__(self) -> int:
        return hash((self.name, self.volume, self.reservations))  # what tells most kinds apart

    @property
    def is_loose(self) -> bool:
        """Tell whether anybody may have it, for himself and for good."""
        return not (self.reservations or self.is_revocable or self.is_shared)

    @property
    def role(self) -> str:
        """Return the role that the resource is reserved to, ``*`` for none."""
        return (self.reservations[-1].role or DEFAULT) if self.reservations else DEFAULT

    @property
    def is_whole(self) -> bool:
        """Tell whether the resource can only be had as a whole: a volume, a mount, a block."""
        if self.volume is not None:
            return True
        return self.source is not None and self.source.type in ("MOUNT", "BLOCK", "RAW")


def read(message: Resource) -> tuple[Kind, Amount]:
    """Return what a v1 resource is and how much of it; raise InvalidError."""
    amount = _read_amount(message)
    if _is_plain(message):
        return plain(message.name), amount
    disk = message.disk
    volume = disk.persistence.id if disk is not None and disk.persistence is not None else None
    kind = Kind(
        message.name,
        reservations_of(message),
        source=disk.source if disk is not None else None,
        volume=volume,
        is_revocable=message.revocable is not None,
        is_shared=message.shared is not None,
        provider=message.provider_id.value if message.provider_id is not None else None,
        disk=disk,
    )
    if kind.is_shared and isinstance(amount, int) and amount:
        return replace(kind, size=amount), 1
    return kind, amount


def _is_plain(message: Resource) -> bool:
    return (
        message.disk is None
        and not message.reservations
        and message.reservation is None
        and message.role in (None, DEFAULT)
        and message.revocable is None
        and message.shared is None
        and message.provider_id is None
    )


@lru_cache(maxsize=1024)
def plain(name: str) -> Kind:
    """Return the kind of unreserved resources; one object, so that most look-ups end at once."""
    return Kind(name)


def _read_amount(message: Resource) -> Amount:
    if message.type == ValueType.SCALAR and message.scalar is not None:
        thousandths = message.scalar.value * 1000
        if not math.isfinite(thousandths):
            raise InvalidError(f"resource {message.name!r}: {message.scalar.value} is no amount")
        return max(0, round(thousandths))
    if message.type == ValueType.RANGES and message.ranges is not None:
        for part in message.ranges.range:
            if part.end < part.begin:
                raise InvalidError(
                    f"resource {message.name!r}: {part.begin}-{part.end} ends before it begins"
                )
        return merged((part.begin, part.end) for part in message.ranges.range)
    if message.type == ValueType.SET and message.set is not None:
        return frozenset(message.set.item)
    raise InvalidError(f"resource {message.name!r}: {message.type} without its value")


def reservations_of(message: Resource) -> tuple[ReservationInfo, ...]:
    """Return the stack of a resource's reservations, whichever format it is written in."""
    if message.reservations:
        return message.reservations
    if message.reservation is not None:
        step = msgspec.structs.replace(
            message.reservation, type="DYNAMIC", role=message.role or message.reservation.role
        )
        return (step,)
    return static(message.role or DEFAULT)


def static(role: str) -> tuple[ReservationInfo, ...]:
    """Return the reservations of what an agent sets aside for a role; ``*`` is none."""
    return () if role == DEFAULT else (ReservationInfo(type="STATIC", role=role),)


def write(
    kind: Kind, amount: Amount, allocation: AllocationInfo | None, *, is_refined: bool
) -> tuple[Resource, ...]:
    """Return v1 resources of a kind, as `Resources.messages` says; a shared one for each holder."""
    if isinstance(amount, int) and kind.is_loose and kind.disk is None and kind.provider is None:
        plain = Resource(  # nearly all that is ever offered
            name=kind.name,
            type=ValueType.SCALAR,
            scalar=Scalar(value=amount / 1000),
            role=None if is_refined else DEFAULT,
            allocation_info=allocation,
        )
        return (plain,)
    form: dict[str, Any] = {"name": kind.name, "allocation_info": allocation}
    if is_refined or len(kind.reservations) > 1:
        form["reservations"] = kind.reservations
    else:
        form["role"] = kind.role
        if kind.reservations and kind.reservations[0].type == "DYNAMIC":
            step = kind.reservations[0]
            form["reservation"] = ReservationInfo(principal=step.principal, labels=step.labels)
    form["disk"] = kind.disk
    form["revocable"] = RevocableInfo() if kind.is_revocable else None
    form["shared"] = SharedInfo() if kind.is_shared else None
    if kind.provider is not None:
        form["provider_id"] = ResourceProviderID(value=kind.provider)
    if isinstance(amount, int):
        value = Scalar(value=(kind.size if kind.is_shared else amount) / 1000)
        message = Resource(type=ValueType.SCALAR, scalar=value, **form)
        return (message,) * (amount if kind.is_shared else 1)
    if isinstance(amount, tuple):
        ranges = Ranges(range=tuple(Range(begin=b, end=e) for b, e in amount))
        return (Resource(type=ValueType.RANGES, ranges=ranges, **form),)
    return (Resource(type=ValueType.SET, set=Set(item=tuple(sorted(amount))), **form),)
