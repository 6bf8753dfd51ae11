"""An offer and what is left of it while instances are placed."""

from collections.abc import Iterable, Mapping, Sequence

from phalanx.marathon.schedule.constraint import attributes_of
from phalanx.mesos.amount import Amount, Span
from phalanx.mesos.kind import Kind
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Offer, ReservationInfo, ValueType

FRAMEWORK_LABEL, TASK_LABEL = "marathon_framework_id", "marathon_task_id"

Reservations = tuple[ReservationInfo, ...]


class _Pool:
    """Resources that are reserved alike: scalars in thousandths, and free ports."""

    def __init__(self, reservations: Reservations) -> None:
        self.reservations = reservations
        self.role = (reservations[-1].role or "*") if reservations else "*"
        self.scalars: dict[str, int] = {}
        self.ports: list[Span] = []


class Stock:
    """An offer; ``take`` makes it smaller.

    ``kept`` has the resources that are reserved for an instance with volumes, by the instance's
    id; they are nobody else's. Disks with a source of their own are for volumes alone.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        allocation = offer.allocation_info
        self.role = "*" if allocation is None or allocation.role is None else allocation.role
        self.attributes = attributes_of(offer.hostname, offer.attributes, offer.domain)
        self.kept: dict[str, Resources] = {}
        self.has_gpus = False
        self._disks: dict[Kind, int] = {}
        self._pools: dict[Reservations, _Pool] = {}
        plain = (r for r in offer.resources if r.type in (ValueType.SCALAR, ValueType.RANGES))
        for kind, amount in Resources.of(plain).items():
            self._add(kind, amount)

    def _add(self, kind: Kind, amount: Amount) -> None:
        owner = owner_of(kind)
        if owner is not None:
            self.kept[owner] = self.kept.get(owner, Resources()) + Resources({kind: amount})
            return
        if kind.is_revocable or kind.is_shared or kind.volume:
            return
        if kind.source is not None:
            if isinstance(amount, int):
                self._disks[kind] = self._disks.get(kind, 0) + amount
            return
        pool = self._pools.setdefault(kind.reservations, _Pool(kind.reservations))
        if isinstance(amount, int):
            pool.scalars[kind.name] = pool.scalars.get(kind.name, 0) + amount
            self.has_gpus |= kind.name == "gpus"
        elif kind.name == "ports" and isinstance(amount, tuple):
            pool.ports += amount

    def has(self, name: str, amount: int, roles: Sequence[str]) -> bool:
        """Tell whether so many thousandths of a scalar are left for *roles*."""
        return sum(pool.scalars.get(name, 0) for pool in self._open(roles)) >= amount

    def ports(self, roles: Sequence[str]) -> list[Span]:
        """Return the ports that are left for *roles*."""
        return [span for pool in self._open(roles) for span in pool.ports]

    def disks(self, roles: Sequence[str]) -> dict[Kind, int]:
        """Return the thousandths that are left of each disk of its own for *roles*."""
        return {kind: amount for kind, amount in self._disks.items() if kind.role in roles}

    def take_disk(self, kind: Kind, amount: int) -> Resources:
        """Take so much of a disk away, and return it as what it is."""
        self._disks[kind] -= amount
        return Resources({kind: amount})

    def left(self, name: str) -> int:
        """Return the thousandths of a scalar that are left."""
        return sum(pool.scalars.get(name, 0) for pool in self._pools.values())

    def take(
        self, scalars: Mapping[str, int], ports: Iterable[int], roles: Sequence[str]
    ) -> Resources:
        """Take so much away, reserved resources first, and return it as what it is."""
        taken: dict[Kind, Amount] = {}
        for name, amount in scalars.items():
            for pool in self._open(roles):
                part = min(amount, pool.scalars.get(name, 0))
                if part > 0:
                    pool.scalars[name] -= part
                    taken[Kind(name, pool.reservations)] = part
                    amount -= part
        for pool in self._open(roles):
            own = sorted(port for port in ports if _holds(pool.ports, port))
            if own:
                pool.ports = _without(pool.ports, own)
                taken[Kind("ports", pool.reservations)] = _spans(own)
        return Resources(taken)

    def _open(self, roles: Sequence[str]) -> list[_Pool]:
        """Return the pools for *roles*, reserved ones first."""
        pools = self._pools.values()
        if len(pools) == 1:
            return [pool for pool in pools if pool.role in roles]
        return sorted((p for p in pools if p.role in roles), key=lambda p: not p.reservations)


def owner_of(kind: Kind) -> str | None:
    """Return the instance that a resource is reserved for; None if it is no Marathon's."""
    for reservation in kind.reservations:
        for label in () if reservation.labels is None else reservation.labels.labels:
            if label.key == TASK_LABEL:
                return label.value
    return None


def _holds(spans: Iterable[Span], port: int) -> bool:
    return any(begin <= port <= end for begin, end in spans)


def _without(spans: Iterable[Span], ports: Sequence[int]) -> list[Span]:
    """Return *spans* without the ascending *ports*."""
    left: list[Span] = []
    for begin, end in spans:
        for port in ports:
            if begin <= port <= end:
                if begin < port:
                    left.append((begin, port - 1))
                begin = port + 1
        if begin <= end:
            left.append((begin, end))
    return left


def _spans(ports: Sequence[int]) -> tuple[Span, ...]:
    """Return ascending ports as spans."""
    spans: list[Span] = []
    for port in ports:
        if spans and spans[-1][1] == port - 1:
            spans[-1] = (spans[-1][0], port)
        else:
            spans.append((port, port))
    return tuple(spans)
