"""What a change of policies opens and closes, by name; pure.

Only flows that a policy of the change speaks of are asked about, each group of
ends that no policy tells apart by one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise

from phalanx.net.isolation.evaluate import Evaluator, Packet, Verdict
from phalanx.net.model.objects import ALL_PORTS, IPAddress, Policy, Traffic
from phalanx.net.model.selector import (
    App,
    Label,
    Selector,
    container_addresses,
    parse_selector,
    prefixes_of,
)
from phalanx.net.model.view import View

OTHER_PROTOCOL = 47  # stands for those that policies name by "any" alone
MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class Ends:
    """Addresses that no policy tells apart: their name, and one of them."""

    name: str
    address: IPAddress


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
    if not changed:
        return []
    every = [*before.policies.values(), *after.policies.values()]
    groups = list(_groups(after, every))
    old, new = Evaluator(before), Evaluator(after)
    effects: dict[Effect, None] = {}
    for source in groups:
        for destination in groups:
            if source.address.version != destination.address.version:
                continue
            speaking = [p for p in changed if _speaks(after, p, source, destination)]
            if speaking:
                for effect in _effects(old, new, source, destination, speaking, every):
                    effects[effect] = None
    return list(_joined(effects))


def _changed(before: Mapping[str, Policy], after: Mapping[str, Policy]) -> list[Policy]:
    found = [p for name, p in after.items() if before.get(name) != p]
    return found + [p for name, p in before.items() if after.get(name) != p]


def _groups(view: View, policies: Iterable[Policy]) -> Iterator[Ends]:
    """Yield groups of ends: containers by what selects them, then one stranger for each prefix."""
    texts = {text for policy in policies for text in (policy.source, policy.destination)}
    selectors = {text: each for text in texts if (each := _selector(text)) is not None}
    evaluator = Evaluator(view)
    tasks: dict[tuple[str, tuple[str, ...], int], list[tuple[str, IPAddress]]] = {}
    taken: set[IPAddress] = set()
    for task in view.tasks.values():
        for address in container_addresses(task, view):
            taken.add(address)
            network = evaluator.network_of(address)
            chosen = tuple(sorted(t for t, s in selectors.items() if selects(view, s, address)))
            key = (network.name if network else "", chosen, address.version)
            tasks.setdefault(key, []).append((task.discovery_name or task.name, address))
    for (network_name, _, _), members in tasks.items():
        names = list(dict.fromkeys(name for name, _ in members))
        more = ", …" if len(names) > MOST_NAMES else ""
        where = f" in {network_name}" if network_name else ""
        yield Ends(f"{', '.join(names[:MOST_NAMES])}{more}{where}", members[0][1])
    for name, address in _strangers(view, selectors, taken):
        yield Ends(name, address)


def _strangers(
    view: View, selectors: Mapping[str, Selector], taken: set[IPAddress]
) -> Iterator[tuple[str, IPAddress]]:
    """Yield an address that no task has of each network, each named prefix, and the outside."""
    networks = view.networks.values()
    named = [(f"others in {each.name}", prefix) for each in networks for prefix in each.subnets]
    for text, selector in sorted(selectors.items()):
        named += [
            (str(prefix), prefix)
            for prefix in prefixes_of(selector, view)
            if prefix.prefixlen and text not in view.networks
        ]
    seen: set[IPAddress] = set()
    for name, prefix in named:
        last = int(prefix.broadcast_address) - (prefix.version == 4 and prefix.prefixlen < 31)
        address = type(prefix.network_address)(last)
        while address in taken and int(address) > int(prefix.network_address):
            address = type(address)(int(address) - 1)
        if address not in taken and address not in seen:
            seen.add(address)
            yield name, address
    for text in ("192.0.2.1", "2001:db8::1"):  # documentation's (RFC 5737, 3849)
        yield "outside", ip_address(text)


def _speaks(view: View, policy: Policy, source: Ends, destination: Ends) -> bool:
    one, other = _selector(policy.source), _selector(policy.destination)
    return (
        one is not None
        and other is not None
        and selects(view, one, source.address)
        and selects(view, other, destination.address)
    )


def selects(view: View, selector: Selector, address: IPAddress) -> bool:
    """Tell whether *selector* selects *address* in *view*."""
    if isinstance(selector, Label | App):
        return any(
            address in container_addresses(task, view)
            for task in view.tasks.values()
            if selector.matches(task)
        )
    return any(
        address in prefix
        for prefix in prefixes_of(selector, view)
        if prefix.version == address.version
    )


def _effects(
    old: Evaluator,
    new: Evaluator,
    source: Ends,
    destination: Ends,
    speaking: Sequence[Policy],
    every: Sequence[Policy],
) -> Iterator[Effect]:
    for traffic in Traffic:
        if not any(p.protocol in (traffic, Traffic.ANY) for p in speaking):
            continue
        number = traffic.number or OTHER_PROTOCOL
        for span in _spans(every, traffic) if traffic.has_ports else [(0, 0)]:
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
