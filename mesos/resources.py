"""Resource arithmetic (reference mesos §5.1): amounts of resources, each of its kind.

Scalars count in thousandths, ranges as disjoint ascending spans, sets as sets,
shared volumes by how often they are held. Which role a resource is *allocated*
to is no part of the arithmetic: whoever holds it knows.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import reduce

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.amount import Amount, Span, Spans, merged, parse_amount, taken
from phalanx.mesos.kind import Kind, plain, read, static, write
from phalanx.mesos.role import DEFAULT, ancestors
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    AllocationInfo,
    ReservationInfo,
    Resource,
)

_FLAG = re.compile(r"^\s*([\w.-]+)\s*(?:\(\s*([^)]+?)\s*\))?\s*:\s*(.+?)\s*$")


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
        amounts: dict[Kind, Amount] = {plain(n): a for n, a in scalars.items() if a > 0}
        for name, spans in (ranges or {}).items():
            if joined := merged(spans):
                amounts[plain(name)] = joined
        return cls(amounts)

    @classmethod
    def of(cls, messages: Iterable[Resource]) -> "Resources":
        """Add up v1 resources, in either format of reservations; raise InvalidError."""
        amounts: dict[Kind, Amount] = {}
        for message in messages:
            kind, amount = read(message)
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
                amount = parse_amount(value)
            except ValueError as error:
                raise InvalidError(f"resource {part!r}: {error}") from error
            if amount:
                reservations = static(role or default_role)
                _add(amounts, Kind(name, reservations) if reservations else plain(name), amount)
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
            messages += write(kind, amount, allocation, is_refined=is_refined)
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
            self._ranges = {name: merged(found) for name, found in spans.items()}
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
            left = taken(mine, amount)
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
            elif taken(amount, mine):
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


def _add(amounts: dict[Kind, Amount], kind: Kind, more: Amount) -> None:
    mine = amounts.get(kind)
    if mine is None:
        amounts[kind] = more
    elif isinstance(mine, int) and isinstance(more, int):
        amounts[kind] = mine + more
    elif isinstance(mine, tuple) and isinstance(more, tuple):
        amounts[kind] = merged((*mine, *more))
    elif isinstance(mine, frozenset) and isinstance(more, frozenset):
        amounts[kind] = mine | more
    else:
        raise InvalidError(f"resource {kind.name!r} has values of different types")
