"""From policies to the elements of classes, pairs and decisions; pure.

What a lookup in the kernel finds is decided here. A **class** is the signature
of an address as a source: all selectors of policies' sources that select it. A
**pair** is a class and a signature of destinations. Both have numbers made from
what they are, so that an element stays as it is for as long as it means the
same; and what a change of the View costs goes by what it changes.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from phalanx.core.layered import with_changes
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.isolation.decide import decide
from phalanx.net.isolation.ends import (
    NOWHERE,
    Containers,
    Ends,
    Finder,
    Move,
    Signature,
    Span,
    follow_containers,
    follow_ends,
    moved_tasks,
)
from phalanx.net.isolation.evaluate import precedence
from phalanx.net.isolation.layout import FAR, FINE, NEAR, WIDE
from phalanx.net.isolation.number import Numbers
from phalanx.net.model.objects import Policy
from phalanx.net.model.selector import Selector, parse_selector
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element, render_address, render_addresses

VERSIONS = (4, 6)
Pair = tuple[Signature, Signature]
Change = Delta[Element, None]
Moved = tuple[Collection[int], Collection[int]]  # sources and destinations with other signatures


@dataclass(frozen=True, slots=True)
class Relations:
    """The policies that can be read, by their selectors."""

    selectors: Mapping[str, Selector] = field(default_factory=dict)
    policies: Mapping[str, Mapping[str, Sequence[Policy]]] = field(default_factory=dict)

    @property
    def sources(self) -> Mapping[str, Selector]:
        """Return the selectors of sources."""
        return {text: self.selectors[text] for text in self.policies}

    @property
    def destinations(self) -> Mapping[str, Selector]:
        """Return the selectors of destinations."""
        return {text: self.selectors[text] for row in self.policies.values() for text in row}

    def touched(self, other: "Relations") -> set[str]:
        """Return the selectors of sources from which policies differ."""
        texts = self.policies.keys() | other.policies.keys()
        return {each for each in texts if self.policies.get(each) != other.policies.get(each)}

    def reached(self, source: Signature) -> set[str]:
        """Return the selectors of destinations that a policy from *source* names."""
        return {each for text in source for each in self.policies.get(text, ())}

    def between(self, pair: Pair) -> Sequence[Policy]:
        """Return the policies of a pair."""
        source, destination = pair
        rows = [row for text in source if (row := self.policies.get(text))]
        found = [each for row in rows for text in destination for each in row.get(text, ())]
        return sorted(found, key=precedence)


@dataclass(frozen=True, slots=True)
class Family:
    """The ends of one IP version."""

    version: int
    containers: Containers = field(default_factory=dict)
    sources: Ends = NOWHERE
    destinations: Ends = NOWHERE


@dataclass(frozen=True, slots=True)
class Compiled:
    """The elements that decide as the policies of one View do, whatever the networks' walls.

    A policy whose selectors nobody can read, or that name what is not there, says nothing.
    """

    view: View = field(default_factory=View)
    relations: Relations = field(default_factory=Relations)
    families: tuple[Family, ...] = tuple(map(Family, VERSIONS))
    classes: Numbers[Signature] = field(default_factory=Numbers)
    pairs: Numbers[Pair] = field(default_factory=Numbers)
    elements: Mapping[Element, bool] = field(default_factory=dict)  # True: None is one that went


EMPTY = Compiled()


def follow_policies(before: Compiled, view: View) -> tuple[Compiled, Change]:
    """Return what *view* compiles to, and what that changes in the elements.

    The first is that of ``follow_policies(EMPTY, view)``, whatever came before.
    """
    old = before.view
    if all(getattr(old, each) is getattr(view, each) for each in ("networks", "policies", "tasks")):
        return before, Delta({}, frozenset())
    relations = before.relations if old.policies is view.policies else _relations(view)
    moves = moved_tasks(old, view)
    families, moved = zip(
        *(_follow_family(family, moves, old, view, before.relations, relations)
          for family in before.families),
        strict=True,
    )  # fmt: skip
    classes = before.classes.follow({c for each in families for c in each.sources.signatures})
    pairs = before.pairs
    if relations is not before.relations or any(
        (one.sources.signatures, one.destinations.signatures)
        != (other.sources.signatures, other.destinations.signatures)
        for one, other in zip(before.families, families, strict=True)
    ):
        pairs = pairs.follow(_pairs(families, relations))
    after = replace(EMPTY, view=view, relations=relations, families=families, classes=classes,
                    pairs=pairs)  # fmt: skip
    if all(each.is_plain for each in (before.classes, before.pairs, classes, pairs)):
        change = _changed(before, after, moved)
    else:
        whole = _changed(EMPTY, after, _everywhere(after)).upserts
        change = delta(whole, dict.fromkeys(before.elements))
    return replace(after, elements=_with(before.elements, change)), change


def _with(elements: Mapping[Element, bool], change: Change) -> Mapping[Element, bool]:
    fresh = dict.fromkeys(change.upserts, True)
    if not elements:
        return fresh
    return with_changes(elements, {**fresh, **dict.fromkeys(change.removals)})


def _follow_family(
    before: Family,
    moves: Sequence[Move],
    old: View,
    new: View,
    was: Relations,
    now: Relations,
) -> tuple[Family, Moved]:
    version = before.version
    containers, touched = follow_containers(before.containers, moves, old, new, version)
    found: list[Ends] = []
    moved: list[Collection[int]] = []
    for ends, selectors, earlier in (
        (before.sources, now.sources, was.sources),
        (before.destinations, now.destinations, was.destinations),
    ):
        fresh = {text: {**earlier, **selectors}[text] for text in selectors.keys() ^ earlier.keys()}
        chosen = Finder(fresh, new, version)
        more: Iterable[int] = ()
        if chosen.fine:
            more = chosen.selected(containers)
        followed, others = follow_ends(
            ends, Finder(selectors, new, version), containers, touched.union(more)
        )
        found.append(followed)
        moved.append(others)
    return Family(version, containers, *found), (moved[0], moved[1])


def _pairs(families: Iterable[Family], relations: Relations) -> set[Pair]:
    return {
        (source, destination)
        for family in families
        for source in family.sources.signatures
        for row in [_Row(family.destinations, source, relations)]
        for destination in row.used
    }


class _Row:
    """What one class reaches of the destinations of one IP version."""

    def __init__(self, destinations: Ends, source: Signature, relations: Relations) -> None:
        self._ends = destinations
        self._all = relations.reached(source)
        self._fine = self._all & destinations.fine
        self._known: dict[Signature, Signature] = {}
        self._singles = {span[0]: each for span, each in self._reached() if span[0] == span[1]}

    @property
    def used(self) -> set[Signature]:
        """Return the signatures with which the class makes a pair."""
        hosts = (each for each in self._ends.counts if not self._fine.isdisjoint(each))
        return {self._meant(each) for each in hosts}.union(each for _, each in self._reached())

    @property
    def near(self) -> Iterable[int]:
        """Return the single addresses that may be reached."""
        hosts = self._ends.hosts if self._fine else ()
        return {*hosts, *self._singles}

    @property
    def far(self) -> Iterator[tuple[Span, Signature]]:
        """Yield the ranges that are reached; single addresses lie in the hash.

        nft 1.0.6 can't delete an element of ranges none of which is more than one value.
        """
        return ((span, each) for span, each in self._reached() if span[0] != span[1])

    def at(self, address: int) -> Signature | None:
        """Return the signature of a single address if it is reached."""
        signature = self._ends.hosts.get(address)
        if signature is None or self._fine.isdisjoint(signature):
            return self._singles.get(address)
        return self._meant(signature)

    def _reached(self) -> Iterator[tuple[Span, Signature]]:
        for span, signature in self._ends.pieces:
            if not self._all.isdisjoint(signature):
                yield span, self._meant(signature)

    def _meant(self, signature: Signature) -> Signature:
        """Return of a signature what policies from the class name: it alone tells pairs apart."""
        if signature not in self._known:
            self._known[signature] = tuple(each for each in signature if each in self._all)
        return self._known[signature]


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the elements of two compiled Views may differ, in one IP version."""

    sources: Collection[int]  # addresses
    is_wide: bool  # the prefixes of sources
    rows: Mapping[Signature, Collection[int] | None]  # of classes: addresses, None for all


def _changed(before: Compiled, after: Compiled, moved: Sequence[Moved]) -> Change:
    """Return what *after* has otherwise; *moved* are the addresses with other signatures."""
    parts = [_part(before, after, place, each) for place, each in enumerate(moved)]
    common = before.pairs.of.keys() & after.pairs.of.keys()
    pairs = before.pairs.of.keys() ^ after.pairs.of.keys()
    if before.relations is not after.relations:
        texts = before.relations.touched(after.relations)
        pairs |= {pair for pair in common if not texts.isdisjoint(pair[0])}
    lost, gained = (set(_elements(each, parts, pairs)) for each in (before, after))
    return Delta(dict.fromkeys(gained - lost), frozenset(lost - gained))


def _everywhere(compiled: Compiled) -> Sequence[Moved]:
    return [(each.sources.hosts, each.destinations.hosts) for each in compiled.families]


def _part(before: Compiled, after: Compiled, place: int, moved: Moved) -> _Part:
    old, new = before.families[place], after.families[place]
    sources, destinations = moved
    common = old.sources.signatures & new.sources.signatures
    rows: dict[Signature, Collection[int] | None] = dict.fromkeys(
        old.sources.signatures ^ new.sources.signatures
    )
    if old.destinations.pieces != new.destinations.pieces:
        rows |= dict.fromkeys(common)
    else:
        if destinations:
            rows |= dict.fromkeys(common, destinations)
        if before.relations is not after.relations:
            is_same = {
                text: before.relations.policies.get(text, {}).keys()
                == after.relations.policies.get(text, {}).keys()
                for text in {each for source in common for each in source}
            }
            rows |= dict.fromkeys(c for c in common if not all(is_same[text] for text in c))
    return _Part(sources, old.sources.pieces != new.sources.pieces, rows)


def _elements(
    compiled: Compiled, parts: Sequence[_Part], pairs: Iterable[Pair]
) -> Iterator[Element]:
    """Yield the elements of some parts and pairs, of those that there are."""
    for family, part in zip(compiled.families, parts, strict=True):
        yield from _of_sources(compiled, family, part)
        for source, addresses in part.rows.items():
            if source in family.sources.signatures:
                yield from _of_row(compiled, family, source, addresses)
    decisions: dict[tuple[str, ...], list[tuple[str, tuple[str, ...], str]]] = {}
    for pair in pairs:
        number = compiled.pairs.of.get(pair)
        if number is None:
            continue
        policies = compiled.relations.between(pair)
        names = tuple(policy.name for policy in policies)
        if names not in decisions:
            decisions[names] = list(decide(policies))
        for set_name, fields, verdict in decisions[names]:
            yield Element(set_name, (number, *fields), verdict)


def _of_sources(compiled: Compiled, family: Family, part: _Part) -> Iterator[Element]:
    """Yield where addresses have their class."""
    for number in part.sources:
        signature = family.sources.hosts.get(number)
        if signature is not None:
            address = render_address(number, version=family.version)
            yield Element(f"{FINE}{family.version}", (address,), compiled.classes.of[signature])
    if part.is_wide:
        for span, signature in family.sources.pieces:
            key = render_addresses(*span, version=family.version)
            yield Element(f"{WIDE}{family.version}", (key,), compiled.classes.of[signature])


def _of_row(
    compiled: Compiled, family: Family, source: Signature, addresses: Collection[int] | None
) -> Iterator[Element]:
    """Yield where a class and destinations have their pair; of all when *addresses* is None."""
    version, number = family.version, compiled.classes.of[source]
    row = _Row(family.destinations, source, compiled.relations)
    for each in row.near if addresses is None else addresses:
        signature = row.at(each)
        if signature is not None:
            fields = number, render_address(each, version=version)
            yield Element(f"{NEAR}{version}", fields, compiled.pairs.of[source, signature])
    for span, signature in row.far if addresses is None else ():
        fields = number, render_addresses(*span, version=version)
        yield Element(f"{FAR}{version}", fields, compiled.pairs.of[source, signature])


def _relations(view: View) -> Relations:
    selectors: dict[str, Selector] = {}
    found: dict[str, dict[str, list[Policy]]] = {}
    for policy in view.policies.values():
        try:
            for text in (policy.source, policy.destination):
                if text not in selectors:
                    selectors[text] = parse_selector(text)
        except ValueError:
            continue  # written by another version: it selects nothing
        found.setdefault(policy.source, {}).setdefault(policy.destination, []).append(policy)
    return Relations(selectors, found)
