"""Resource arithmetic (reference mesos §5.1): amounts of resources, each of its kind.

Scalars count in thousandths, ranges as disjoint ascending spans, sets as sets,
shared volumes by how often they are held. Which role a resource is *allocated*
to is no part of the arithmetic: whoever holds it knows.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, reduce
from typing import Any

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.role import DEFAULT, ancestors
from phalanx.mesos.v1.codec import from_json
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

Span = tuple[int, int]  # both ends belong to it
Spans = tuple[Span, ...]
Amount = int | Spans | frozenset[str]

_FLAG = re.compile(r"^\s*([\w.-]+)\s*(?:\(\s*([^)]+?)\s*\))?\s*:\s*(.+?)\s*$")


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


class Resources:
    """Amounts by kind; a kind with nothing left is left out, so equal amounts compare equal.

    Immutable. ``a + b`` adds, ``a - b`` takes away what is there to take,
    ``b in a`` tells whether *b* fits into *a*.
    """

    __slots__ = ("_amounts", "_is_loose", "_loose", "_ranges", "_scalars")

    def __init__(self, amounts: Mapping[Kind, Amount] | None = None) -> None:
        self._amounts: Mapping[Kind, Amount] = amounts or {}
        self._scalars: Mapping[str, int] | None = None
        self._loose: Mapping[str, int] | None = None
        self._is_loose: bool | None = None  # None until somebody asks
        self._ranges: Mapping[str, Spans] | None = None

    # Making and showing

    @classmethod
    def make(
        cls, scalars: Mapping[str, int], ranges: Mapping[str, Iterable[Span]] | None = None
    ) -> "Resources":
        """Return unreserved resources: thousandths of scalars, spans of ranges."""
        amounts: dict[Kind, Amount] = {_plain(n): a for n, a in scalars.items() if a > 0}
        for name, spans in (ranges or {}).items():
            if merged := _merged(spans):
                amounts[_plain(name)] = merged
        return cls(amounts)

    @classmethod
    def of(cls, messages: Iterable[Resource]) -> "Resources":
        """Add up v1 resources, in either format of reservations; raise InvalidError."""
        amounts: dict[Kind, Amount] = {}
        for message in messages:
            kind, amount = _read(message)
            if amount:
                _add(amounts, kind, amount)
        return cls(amounts)

    @classmethod
    def parse(cls, text: str, *, default_role: str = DEFAULT) -> "Resources":
        """Parse Mesos' flag forms; raise InvalidError.

        ``cpus:8;mem(role):1024;ports:[31000-32000];bugs:{a,b}``, or a JSON
        array of v1 resources.
        """
        if text.lstrip().startswith("["):
            return cls.of(_from_json_array(text, default_role))
        amounts: dict[Kind, Amount] = {}
        for part in filter(str.strip, text.split(";")):
            match = _FLAG.match(part)
            if match is None:
                raise InvalidError(f"resource {part!r} is not name:value")
            name, role, value = match.groups()
            try:
                amount = _parse_amount(value)
            except ValueError as error:
                raise InvalidError(f"resource {part!r}: {error}") from error
            if amount:
                reservations = _static(role or default_role)
                _add(amounts, Kind(name, reservations) if reservations else _plain(name), amount)
        return cls(amounts)

    def messages(
        self, *, role: str | None = None, is_refined: bool = False
    ) -> tuple[Resource, ...]:
        """Return v1 resources, each allocated to *role* if one is given.

        *is_refined* writes ``reservations``, as a framework with
        RESERVATION_REFINEMENT sees them; else ``role`` and ``reservation``,
        which can't say a refined reservation: such ones are written refined.
        """
        allocation = None if role is None else AllocationInfo(role=role)
        messages: list[Resource] = []
        for kind, amount in self._amounts.items():
            messages += _write(kind, amount, allocation, is_refined=is_refined)
        return tuple(messages)

    def items(self) -> Iterable[tuple[Kind, Amount]]:
        """Return every kind with its amount."""
        return self._amounts.items()

    @property
    def scalars(self) -> Mapping[str, int]:
        """Return the thousandths of each scalar, all its kinds together."""
        if self._scalars is None:
            sums: defaultdict[str, int] = defaultdict(int)
            for kind, amount in self._amounts.items():
                if isinstance(amount, int):
                    sums[kind.name] += kind.size if kind.is_shared else amount
            self._scalars = dict(sums)
        return self._scalars

    @property
    def loose_scalars(self) -> Mapping[str, int]:
        """Return the thousandths of what is neither reserved nor revocable nor shared."""
        if self._loose is None:
            if self.is_loose:
                self._loose = self.scalars
            else:
                self._loose = self.where(lambda kind: kind.is_loose).scalars
        return self._loose

    @property
    def is_loose(self) -> bool:
        """Tell whether nothing is reserved, revocable or shared."""
        if self._is_loose is None:
            self._is_loose = all(kind.is_loose for kind in self._amounts)
        return self._is_loose

    @property
    def ranges(self) -> Mapping[str, Spans]:
        """Return the spans of each range, all its kinds together."""
        if self._ranges is None:
            spans: defaultdict[str, list[Span]] = defaultdict(list)
            for kind, amount in self._amounts.items():
                if isinstance(amount, tuple):
                    spans[kind.name] += amount
            self._ranges = {name: _merged(found) for name, found in spans.items()}
        return self._ranges

    @property
    def sets(self) -> Mapping[str, frozenset[str]]:
        """Return the items of each set, all its kinds together."""
        found: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
        for kind, amount in self._amounts.items():
            if isinstance(amount, frozenset):
                found[kind.name] |= amount
        return dict(found)

    def scalar(self, name: str) -> float:
        """Return the amount of one scalar; 0.0 when there is none."""
        return self.scalars.get(name, 0) / 1000

    # Parts

    def where(self, is_wanted: Callable[[Kind], bool]) -> "Resources":
        """Return the resources whose kind is wanted."""
        return Resources({k: a for k, a in self._amounts.items() if is_wanted(k)})

    @property
    def unreserved(self) -> "Resources":
        """Return what is reserved to nobody."""
        return self.where(lambda kind: not kind.reservations)

    @property
    def reserved(self) -> "Resources":
        """Return what is reserved."""
        return self.where(lambda kind: bool(kind.reservations))

    def by_role(self) -> Mapping[str, "Resources"]:
        """Return what is reserved, by the role that it is reserved to."""
        found: defaultdict[str, dict[Kind, Amount]] = defaultdict(dict)
        for kind, amount in self._amounts.items():
            if kind.reservations:
                found[kind.role][kind] = amount
        return {role: Resources(amounts) for role, amounts in found.items()}

    def for_role(self, role: str) -> "Resources":
        """Return what may be allocated to *role*: unreserved, its own, and its ancestors'."""
        allowed = {DEFAULT, role, *ancestors(role)}
        return self.where(lambda kind: kind.role in allowed)

    @property
    def revocable(self) -> "Resources":
        """Return what may be taken back at any time."""
        return self.where(lambda kind: kind.is_revocable)

    @property
    def shared(self) -> "Resources":
        """Return the shared volumes."""
        return self.where(lambda kind: kind.is_shared)

    @property
    def volumes(self) -> "Resources":
        """Return the persistent volumes."""
        return self.where(lambda kind: kind.volume is not None)

    @property
    def plain(self) -> "Resources":
        """Return the same amounts as unreserved ones, for a comparison of quantities."""
        return Resources.make(self.scalars, self.ranges)

    # Reservations

    def pushed(self, reservation: ReservationInfo) -> "Resources":
        """Return the same resources with one more reservation on top."""
        return self._rekeyed(lambda k: replace(k, reservations=(*k.reservations, reservation)))

    def popped(self) -> "Resources":
        """Return the same resources without their topmost reservation."""
        return self._rekeyed(lambda k: replace(k, reservations=k.reservations[:-1]))

    def _rekeyed(self, change: Callable[[Kind], Kind]) -> "Resources":
        amounts: dict[Kind, Amount] = {}
        for kind, amount in self._amounts.items():
            _add(amounts, change(kind), amount)
        return Resources(amounts)

    # Arithmetic

    def __add__(self, other: "Resources") -> "Resources":
        if not other._amounts:
            return self
        if not self._amounts:
            return other
        amounts = dict(self._amounts)
        for kind, amount in other._amounts.items():
            _add(amounts, kind, amount)
        return Resources(amounts)

    def __sub__(self, other: "Resources") -> "Resources":
        """Take *other* away; what is not there to take is ignored."""
        if not other._amounts:
            return self
        amounts = dict(self._amounts)
        for kind, amount in other._amounts.items():
            mine = amounts.get(kind)
            if mine is None:
                continue
            left = _taken(mine, amount)
            if left:
                amounts[kind] = left
            else:
                del amounts[kind]
        found = Resources(amounts)
        found._is_loose = self._is_loose or None  # a part of what is loose is loose
        return found

    def __contains__(self, other: "Resources") -> bool:
        """Tell whether *other* fits into these; one holding of a shared volume is enough."""
        for kind, amount in other._amounts.items():
            mine = self._amounts.get(kind)
            if mine is None:
                return False
            if kind.is_shared:
                continue
            if kind.is_whole and mine != amount:
                return False
            if isinstance(amount, int):
                if not isinstance(mine, int) or mine < amount:
                    return False
            elif _taken(amount, mine):
                return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Resources) and self._amounts == other._amounts

    def __hash__(self) -> int:
        return hash(frozenset(self._amounts.items()))

    def __bool__(self) -> bool:
        return bool(self._amounts)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._amounts)

    def __repr__(self) -> str:
        return f"Resources({render(self)!r})"


def render(resources: Resources) -> str:
    """Return resources as Mesos writes them into messages."""
    parts = []
    for kind, amount in resources.items():
        head = kind.name
        for step in kind.reservations:
            principal = f",{step.principal}" if step.principal else ""
            head += f"(reservations: [({step.type},{step.role}{principal})])"
        if kind.volume is not None:
            head += f"[{kind.volume}]"
        if isinstance(amount, int):
            value = f"{(kind.size if kind.is_shared else amount) / 1000:g}"
        elif isinstance(amount, tuple):
            value = f"[{', '.join(f'{begin}-{end}' for begin, end in amount)}]"
        else:
            value = f"{{{', '.join(sorted(amount))}}}"
        revocable = "{REV}" if kind.is_revocable else ""
        parts.append(f"{head}{revocable}:{value}")
    return "; ".join(parts) or "{}"


def summed(parts: Iterable[Resources]) -> Resources:
    """Return the sum of all."""
    return reduce(Resources.__add__, parts, Resources())


# v1 messages


def _read(message: Resource) -> tuple[Kind, Amount]:
    amount = _read_amount(message)
    if _is_plain(message):
        return _plain(message.name), amount
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
def _plain(name: str) -> Kind:
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
        return _merged((part.begin, part.end) for part in message.ranges.range)
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
    return _static(message.role or DEFAULT)


def _static(role: str) -> tuple[ReservationInfo, ...]:
    return () if role == DEFAULT else (ReservationInfo(type="STATIC", role=role),)


def _write(
    kind: Kind, amount: Amount, allocation: AllocationInfo | None, *, is_refined: bool
) -> tuple[Resource, ...]:
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


def _from_json_array(text: str, default_role: str) -> Iterator[Resource]:
    try:
        values = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidError(f"resources: {error}") from error
    for value in values:
        message = from_json(Resource, value)
        if message.role is None and not message.reservations:
            message = msgspec.structs.replace(message, role=default_role)
        yield message


# Amounts


def _add(amounts: dict[Kind, Amount], kind: Kind, more: Amount) -> None:
    mine = amounts.get(kind)
    if mine is None:
        amounts[kind] = more
    elif isinstance(mine, int) and isinstance(more, int):
        amounts[kind] = mine + more
    elif isinstance(mine, tuple) and isinstance(more, tuple):
        amounts[kind] = _merged((*mine, *more))
    elif isinstance(mine, frozenset) and isinstance(more, frozenset):
        amounts[kind] = mine | more
    else:
        raise InvalidError(f"resource {kind.name!r} has values of different types")


def _taken(mine: Amount, other: Amount) -> Amount:
    """Return what is left of *mine*; all of it when the types differ."""
    if isinstance(mine, int) and isinstance(other, int):
        return max(0, mine - other)
    if isinstance(mine, tuple) and isinstance(other, tuple):
        return _without(mine, other)
    if isinstance(mine, frozenset) and isinstance(other, frozenset):
        return mine - other
    return mine


def _parse_amount(text: str) -> Amount:
    if text.startswith("["):
        return _merged(_parse_span(span) for span in text.strip("[]").split(","))
    if text.startswith("{"):
        return frozenset(item.strip() for item in text.strip("{}").split(",") if item.strip())
    number = float(text) * 1000
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text!r} is no amount")
    return round(number)


def _parse_span(text: str) -> Span:
    begin, _, end = text.strip().partition("-")
    span = int(begin), int(end or begin)
    if span[1] < span[0]:
        raise ValueError(f"{text!r} ends before it begins")
    return span


def _merged(spans: Iterable[Span]) -> Spans:
    """Sort spans and join those that touch."""
    merged: list[Span] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return tuple(merged)


def _without(spans: Iterable[Span], taken: Iterable[Span]) -> Spans:
    """Return what is left of *spans* when *taken* is cut out."""
    left = list(spans)
    for cut_begin, cut_end in taken:
        left = [
            part
            for begin, end in left
            for part in ((begin, min(end, cut_begin - 1)), (max(begin, cut_end + 1), end))
            if part[0] <= part[1]
        ]
    return _merged(left)
