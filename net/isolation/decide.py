"""What policies that speak of two ends decide about protocols and ports; pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from phalanx.net.isolation.layout import (
    ENTERS,
    LEAVES,
    OTHERS,
    PASS,
    PORTS,
    PROTOCOLS,
    RANGES,
    REFUSE,
)
from phalanx.net.model.objects import ALL_PORTS, Action, Direction, Policy, Traffic
from phalanx.net.nft.element import render_ports

Span = tuple[int, int]  # first and last, both included


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
