"""From policies to the elements of classes, pairs and decisions; pure.

What a lookup in the kernel finds is decided here. A **class** is a set of
source selectors, that all of an address' policies name; a **pair** is a class
and such a set of destination selectors. Both have numbers made from what they
are, so that an element stays as it is for as long as it means the same.
"""

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from phalanx.net.isolation.evaluate import precedence
from phalanx.net.isolation.layout import (
    ENTERS,
    FAR,
    FINE,
    LEAVES,
    NEAR,
    OTHERS,
    PASS,
    PORTS,
    PROTOCOLS,
    RANGES,
    REFUSE,
    WIDE,
)
from phalanx.net.model.objects import (
    ALL_PORTS,
    Action,
    Direction,
    IPAddress,
    Policy,
    Traffic,
)
from phalanx.net.model.selector import (
    App,
    Label,
    Selector,
    container_addresses,
    parse_selector,
    prefixes_of,
)
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element, render_addresses, render_ports

Signature = tuple[str, ...]  # the selectors that select an address, sorted
Span = tuple[int, int]  # first and last, both included
Pair = tuple[Signature, Signature]
VERSIONS = (4, 6)


def compile_policies(view: View) -> list[Element]:
    """Return the elements that decide as the policies of *view* do, whatever the networks' walls.

    A policy whose selectors nobody can read, or that name what is not there, says nothing.
    """
    known = {text: selector for text, selector in _selectors(view.policies.values())}
    related: dict[str, dict[str, list[Policy]]] = defaultdict(lambda: defaultdict(list))
    for policy in sorted(view.policies.values(), key=precedence):
        if policy.source in known and policy.destination in known:
            related[policy.source][policy.destination].append(policy)
    sources = _ends(view, {text: known[text] for text in related})
    reached = {text for row in related.values() for text in row}
    destinations = _ends(view, {text: known[text] for text in reached})
    return list(_Compiler(related, sources, destinations).elements())


@dataclass(frozen=True, slots=True)
class _Ends:
    """The addresses that some selectors select, each with the signature of its selectors."""

    hosts: Mapping[IPAddress, Signature]  # those that tasks' selectors select
    pieces: Mapping[int, Sequence[tuple[Span, Signature]]]  # the rest, by IP version
    fine: frozenset[str]  # the selectors of tasks

    def signatures(self, version: int) -> set[Signature]:
        """Return the signatures of one IP version's addresses."""
        found = {each for address, each in self.hosts.items() if address.version == version}
        return found | {each for _, each in self.pieces[version]}


class _Compiler:
    """The policies by source and destination selector, and the ends they speak of."""

    def __init__(
        self,
        related: Mapping[str, Mapping[str, Sequence[Policy]]],
        sources: _Ends,
        destinations: _Ends,
    ) -> None:
        self._related = related
        self._sources = sources
        self._destinations = destinations
        self._pairs: dict[Pair, str] = {}
        self._ids: dict[str, str] = {}

    def elements(self) -> Iterator[Element]:
        """Yield every element; a pair comes before its decisions."""
        for version in VERSIONS:
            classes = {each: self._id("class", each) for each in self._classes(version)}
            yield from self._class_elements(version, classes)
            yield from self._pair_elements(version, classes)
        decisions: dict[tuple[str, ...], list[tuple[str, tuple[str, ...], str]]] = {}
        for pair, number in self._pairs.items():
            policies = self._policies(*pair)
            names = tuple(policy.name for policy in policies)
            if names not in decisions:
                decisions[names] = list(decide(policies))
            for set_name, fields, verdict in decisions[names]:
                yield Element(set_name, (number, *fields), verdict)

    def _classes(self, version: int) -> list[Signature]:
        return sorted(self._sources.signatures(version))

    def _class_elements(self, version: int, classes: Mapping[Signature, str]) -> Iterator[Element]:
        for address, signature in self._sources.hosts.items():
            if address.version == version:
                yield Element(f"{FINE}{version}", (str(address),), classes[signature])
        for span, signature in self._sources.pieces[version]:
            key = render_addresses(*span, version=version)
            yield Element(f"{WIDE}{version}", (key,), classes[signature])

    def _pair_elements(self, version: int, classes: Mapping[Signature, str]) -> Iterator[Element]:
        """Yield where classes and destinations have pairs; single addresses lie in the hash.

        nft 1.0.6 can't delete an element of ranges none of which is more than one value.
        """
        hosts: dict[Signature, list[str]] = defaultdict(list)
        for address, signature in self._destinations.hosts.items():
            if address.version == version:
                hosts[signature].append(str(address))
        pieces = [
            (render_addresses(*span, version=version), signature, span[0] == span[1])
            for span, signature in self._destinations.pieces[version]
        ]
        for source, number in classes.items():
            reached = {each for text in source for each in self._related[text]}
            near: dict[str, str] = {}
            for key, destination, is_single in pieces:
                if not reached.isdisjoint(destination):
                    pair = self._pair(source, destination)
                    if is_single:
                        near[key] = pair
                    else:
                        yield Element(f"{FAR}{version}", (number, key), pair)
            for destination, addresses in hosts.items():
                if any(
                    each in self._destinations.fine for each in reached.intersection(destination)
                ):
                    near |= dict.fromkeys(addresses, self._pair(source, destination))
            for key, pair in near.items():
                yield Element(f"{NEAR}{version}", (number, key), pair)

    def _policies(self, source: Signature, destination: Signature) -> list[Policy]:
        found = [
            policy
            for one in source
            for other in destination
            for policy in self._related[one].get(other, ())
        ]
        return sorted(found, key=precedence)

    def _pair(self, source: Signature, destination: Signature) -> str:
        pair = source, destination
        if pair not in self._pairs:
            self._pairs[pair] = self._id("pair", source, destination)
        return self._pairs[pair]

    def _id(self, *what: str | Signature) -> str:
        """Return a number for *what*, as nft writes a class id; never one for two things.

        Who comes first has it: the order is that of sorted signatures.
        """
        text = repr(what)
        attempt = 0
        while True:
            digest = hashlib.blake2b(f"{attempt} {text}".encode(), digest_size=8).digest()
            major = 1 + int.from_bytes(digest[:4], "big") % 0xFFFE
            minor = 1 + int.from_bytes(digest[4:], "big") % 0xFFFE
            number = f"{major:x}:{minor:x}"
            if self._ids.setdefault(number, text) == text:
                return number
            attempt += 1


def decide(policies: Sequence[Policy]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Yield map, fields behind the pair, and decision of policies in the order of asking."""
    named = [each for each in Traffic if any(p.protocol is each for p in policies)]
    for traffic in named:
        if traffic is Traffic.ANY:
            continue
        number = str(traffic.number)
        relevant = [p for p in policies if p.protocol in (traffic, Traffic.ANY)]
        for span, verdict in _port_decisions(relevant, traffic):
            if span == ALL_PORTS:
                yield PROTOCOLS, (number,), verdict
            else:
                name = PORTS if span[0] == span[1] else RANGES
                yield name, (number, render_ports(*span)), verdict
    verdict_of_rest = _decision([p for p in policies if p.protocol is Traffic.ANY])
    if verdict_of_rest is not None:
        yield OTHERS, (), verdict_of_rest


def _port_decisions(policies: Sequence[Policy], traffic: Traffic) -> list[tuple[Span, str]]:
    """Return disjoint ranges of ports with the decision of each; neighbours differ."""
    if not traffic.has_ports:
        verdict = _decision(policies)
        return [] if verdict is None else [(ALL_PORTS, verdict)]
    ranges = [(p, p.port_ranges if p.protocol.has_ports else (ALL_PORTS,)) for p in policies]
    cuts = {0, ALL_PORTS[1] + 1}
    cuts.update(cut for _, spans in ranges for first, last in spans for cut in (first, last + 1))
    found: list[tuple[Span, str]] = []
    for first, after in pairwise(sorted(cuts)):
        verdict = _decision(
            [p for p, spans in ranges if any(low <= first <= high for low, high in spans)]
        )
        if verdict is None:
            continue
        if found and found[-1][1] == verdict and found[-1][0][1] == first - 1:
            found[-1] = (found[-1][0][0], after - 1), verdict
        else:
            found.append(((first, after - 1), verdict))
    return found


def _decision(policies: Iterable[Policy]) -> str | None:
    """Return the decision of policies in the order of asking, None if they leave it all open."""
    actions: dict[Direction, Action] = {}
    for policy in policies:
        for direction in (Direction.EGRESS, Direction.INGRESS):
            if policy.direction.covers(direction):
                actions.setdefault(direction, policy.action)
    if Action.DENY in actions.values():
        return REFUSE
    match actions.get(Direction.EGRESS), actions.get(Direction.INGRESS):
        case None, None:
            return None
        case _, None:
            return LEAVES
        case None, _:
            return ENTERS
    return PASS


def _selectors(policies: Iterable[Policy]) -> Iterator[tuple[str, Selector]]:
    for text in {text for policy in policies for text in (policy.source, policy.destination)}:
        try:
            yield text, parse_selector(text)
        except ValueError:
            continue  # written by another version: it selects nothing


def _ends(view: View, selectors: Mapping[str, Selector]) -> _Ends:
    spans: dict[int, list[tuple[Span, str]]] = {version: [] for version in VERSIONS}
    fine: dict[str, Label | App] = {}
    for text, selector in selectors.items():
        if isinstance(selector, Label | App):
            fine[text] = selector
        for prefix in prefixes_of(selector, view):
            span = int(prefix.network_address), int(prefix.broadcast_address)
            spans[prefix.version].append((span, text))
    pieces = {version: _pieces(spans[version]) for version in VERSIONS}
    firsts = {version: [span[0] for span, _ in pieces[version]] for version in VERSIONS}
    hosts: dict[IPAddress, Signature] = {}
    for address, texts in _selected(view, fine).items():
        place = bisect_right(firsts[address.version], int(address)) - 1
        around: Signature = ()
        if place >= 0 and int(address) <= pieces[address.version][place][0][1]:
            around = pieces[address.version][place][1]
        hosts[address] = tuple(sorted(texts.union(around)))
    return _Ends(hosts, pieces, frozenset(fine))


def _selected(view: View, selectors: Mapping[str, Label | App]) -> Mapping[IPAddress, set[str]]:
    """Return the addresses of containers that are selected, with the selectors."""
    found: dict[IPAddress, set[str]] = defaultdict(set)
    if not selectors:
        return found
    labels = {
        (each.label, each.value): text
        for text, each in selectors.items()
        if isinstance(each, Label)
    }
    apps = [(text, each) for text, each in selectors.items() if isinstance(each, App)]
    for task in view.tasks.values():
        texts = {labels[label] for label in task.labels if label in labels}
        texts.update(text for text, app in apps if app.matches(task))
        if texts:
            for address in container_addresses(task, view):
                found[address] |= texts
    return found


def _pieces(spans: Collection[tuple[Span, str]]) -> list[tuple[Span, Signature]]:
    """Return the parts of a line that some spans cover, with the names of those of each."""
    starts: dict[int, set[str]] = defaultdict(set)
    ends: dict[int, set[str]] = defaultdict(set)
    for (first, last), text in spans:
        starts[first].add(text)
        ends[last + 1].add(text)
    found: list[tuple[Span, Signature]] = []
    active: set[str] = set()
    for first, after in pairwise(sorted(starts.keys() | ends.keys())):
        active -= ends.get(first, set())
        active |= starts.get(first, set())
        if active:
            found.append(((first, after - 1), tuple(sorted(active))))
    return found
