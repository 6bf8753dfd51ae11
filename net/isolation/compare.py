"""What a change of policies and networks opens and closes, by name; pure.

Only flows that a policy of the change speaks of, or that cross a wall that it
moves, are asked about, each group of ends that no policy tells apart by one of them.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import pairwise
from typing import TypeVar

from phalanx.net.isolation.ends import Finder
from phalanx.net.isolation.evaluate import Evaluator, Packet, Verdict
from phalanx.net.model.objects import ALL_PORTS, IPAddress, Network, Policy, Task, Traffic
from phalanx.net.model.selector import (
    Selector,
    container_addresses,
    parse_selector,
    prefixes_of,
)
from phalanx.net.model.view import View

T = TypeVar("T")

OUTSIDE = {4: "192.0.2.1", 6: "2001:db8::1"}  # documentation's (RFC 5737, 3849)
OTHER_PROTOCOL = 47  # stands for those that policies name by "any" alone
MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses that no policy tells apart: their name, one of them, what selects them.

    *is_moved*: a network that the change makes, alters or removes has them.
    """

    name: str
    address: IPAddress
    chosen: frozenset[str] = frozenset()
    is_moved: bool = False


@dataclass(frozen=True, slots=True)
class Effect:
    """Flows that fare otherwise after a change; *verdict* says how, and by which policy."""

    source: str
    destination: str
    protocol: str
    ports: tuple[int, int] | None  # first and last; None where there are none
    verdict: Verdict

    @property
    def word(self) -> str:
        """Return what becomes of the flows."""
        return "opens" if self.verdict.is_allowed else "closes"


def compare(before: View, after: View) -> list[Effect]:
    """Return what passes in one View and not in the other, over the tasks of *after*."""
    changed = _changed(before.policies, after.policies)
    walls = [n for each in _changed(before.networks, after.networks) for n in each.subnets]
    if not changed and not walls:
        return []
    every = [*before.policies.values(), *after.policies.values()]
    groups = [
        replace(each, is_moved=any(each.address in w for w in walls if w.version == version))
        for version in (4, 6)
        for each in _groups(before, after, every, version)
    ]
    old, new = Evaluator(before), Evaluator(after)
    effects: dict[Effect, None] = {}
    for (source, destination), speaking in _asked(groups, changed).items():
        ends = source.address, destination.address
        found = _effects(old.about(*ends), new.about(*ends), source, destination, speaking, every)
        effects |= dict.fromkeys(_shortened(list(found)))
    return list(_joined(effects))


def _changed(before: Mapping[str, T], after: Mapping[str, T]) -> list[T]:
    found = [each for name, each in after.items() if before.get(name) != each]
    return found + [each for name, each in before.items() if after.get(name) != each]


def _asked(
    groups: Sequence[Ends], changed: Iterable[Policy]
) -> Mapping[tuple[Ends, Ends], Sequence[Policy] | None]:
    """Return the pairs of ends that may fare otherwise, with the policies; None: whole walls."""
    found: dict[tuple[Ends, Ends], list[Policy] | None] = {}
    by_text: dict[str, list[Ends]] = {}
    for group in groups:
        for text in group.chosen:
            by_text.setdefault(text, []).append(group)
    for policy in changed:
        for source in by_text.get(policy.source, ()):
            for destination in by_text.get(policy.destination, ()):
                if source.address.version == destination.address.version:
                    speaking = found.setdefault((source, destination), [])
                    assert speaking is not None  # so far
                    speaking.append(policy)
    for one in groups:
        for other in groups if one.is_moved else ():
            if one.address.version == other.address.version:
                found[one, other] = found[other, one] = None
    return found


def _groups(before: View, after: View, policies: Iterable[Policy], version: int) -> Iterator[Ends]:
    """Yield groups of ends: containers by what selects them, then one stranger for each prefix."""
    texts = {text for policy in policies for text in (policy.source, policy.destination)}
    selectors = {text: each for text in texts if (each := _selector(text)) is not None}
    finders = [Finder(selectors, view, version) for view in (before, after)]
    evaluator = Evaluator(after)
    at: dict[IPAddress, list[Task]] = {}
    for task in after.tasks.values():
        for address in container_addresses(task, after):
            if address.version == version:
                at.setdefault(address, []).append(task)
    groups: dict[tuple[str, frozenset[str]], list[tuple[str, IPAddress]]] = {}
    for address, tasks in at.items():
        network = evaluator.network_of(address)
        chosen = _chosen(finders, address, tasks)
        key = network.name if network else "", chosen
        groups.setdefault(key, []).extend(
            (task.discovery_name or task.name, address) for task in tasks
        )
    for (network_name, chosen), members in groups.items():
        names = list(dict.fromkeys(name for name, _ in members))
        more = ", …" if len(names) > MOST_NAMES else ""
        where = f" in {network_name}" if network_name else ""
        yield Ends(f"{', '.join(names[:MOST_NAMES])}{more}{where}", members[0][1], chosen)
    networks = {**before.networks, **after.networks}
    for name, address in _strangers(after, networks, selectors, at.keys(), version):
        yield Ends(name, address, _chosen(finders, address, ()))


def _chosen(finders: Iterable[Finder], address: IPAddress, tasks: Sequence[Task]) -> frozenset[str]:
    """Return the selectors that select an address before the change or after it."""
    found: set[str] = set()
    for finder in finders:
        signature = finder.signature(int(address), tasks)
        found.update(finder.around(int(address)) if signature is None else signature)
    return frozenset(found)


def _strangers(
    view: View,
    networks: Mapping[str, Network],
    selectors: Mapping[str, Selector],
    taken: Collection[IPAddress],
    version: int,
) -> Iterator[tuple[str, IPAddress]]:
    """Yield an address that no task has of each network, each named prefix, and the outside."""
    named = [(f"others in {each.name}", p) for each in networks.values() for p in each.subnets]
    for text, selector in sorted(selectors.items()):
        named += [
            (str(prefix), prefix)
            for prefix in prefixes_of(selector, view)
            if prefix.prefixlen and text not in networks
        ]
    seen: set[IPAddress] = set()
    for name, prefix in named:
        if prefix.version != version:
            continue
        last = int(prefix.broadcast_address) - (prefix.version == 4 and prefix.prefixlen < 31)
        address = type(prefix.network_address)(last)
        while address in taken and int(address) > int(prefix.network_address):
            address = type(address)(int(address) - 1)
        if address not in taken and address not in seen:
            seen.add(address)
            yield name, address
    yield "outside", ip_address(OUTSIDE[version])


def _effects(
    old: Evaluator,
    new: Evaluator,
    source: Ends,
    destination: Ends,
    speaking: Sequence[Policy] | None,
    every: Sequence[Policy],
) -> Iterator[Effect]:
    of_both = [
        each
        for each in every
        if each.source in source.chosen and each.destination in destination.chosen
    ]
    for traffic in Traffic:
        if speaking is not None and not any(
            each.protocol in (traffic, Traffic.ANY) for each in speaking
        ):
            continue
        number = traffic.number or OTHER_PROTOCOL
        for span in _spans(of_both, traffic) if traffic.has_ports else [(0, 0)]:
            packet = Packet(source.address, destination.address, number, span[0])
            verdict = new.allowed(packet)
            if old.allowed(packet).is_allowed != verdict.is_allowed:
                word = traffic.value if traffic.number else "other protocols"
                ports = span if traffic.has_ports else None
                yield Effect(source.name, destination.name, word, ports, verdict)


def _spans(policies: Iterable[Policy], traffic: Traffic) -> list[tuple[int, int]]:
    cuts = {0, ALL_PORTS[1] + 1}
    for policy in policies:
        if policy.protocol is traffic:
            cuts.update(cut for first, last in policy.port_ranges for cut in (first, last + 1))
    return [(first, after - 1) for first, after in pairwise(sorted(cuts))]


def _shortened(effects: Sequence[Effect]) -> Sequence[Effect]:
    """Return the effects on a pair of ends as one where all traffic fares the same."""
    joined = list(_joined(effects))
    words = [each.protocol for each in joined]
    is_all = len(words) == len(Traffic) == len(set(words)) and all(
        each.ports in (None, ALL_PORTS) for each in joined
    )
    if is_all and len({each.verdict for each in joined}) == 1:
        return [replace(joined[0], protocol=Traffic.ANY.value, ports=None)]
    return joined


def _joined(effects: Iterable[Effect]) -> Iterator[Effect]:
    """Yield the effects, neighbouring ranges of ports of one verdict as one."""
    held: Effect | None = None
    for effect in effects:
        if held is not None and held.ports is not None and effect.ports is not None:
            same = (held.source, held.destination, held.protocol, held.verdict)
            if (
                same == (effect.source, effect.destination, effect.protocol, effect.verdict)
                and held.ports[1] + 1 == effect.ports[0]
            ):
                span = held.ports[0], effect.ports[1]
                held = Effect(*same[:3], span, held.verdict)
                continue
        if held is not None:
            yield held
        held = effect
    if held is not None:
        yield held


def _selector(text: str) -> Selector | None:
    try:
        return parse_selector(text)
    except ValueError:
        return None
