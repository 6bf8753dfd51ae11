"""In which order a change is made, so that a packet amid its look-ups meets no half of it; pure.

A packet is looked up by several rules, and a transaction may come between two
of them. So what a class or pair that is new leads to is there before anything
leads to the class, and what led on from one that is gone goes after it.
"""

from collections.abc import Iterable, Mapping

from phalanx.core.reconcile.delta import Delta
from phalanx.net.isolation.compile import VERSIONS, Change, Compiled
from phalanx.net.isolation.layout import FAR, NEAR, OTHERS, PORTS, PROTOCOLS, RANGES
from phalanx.net.nft.element import Element
from phalanx.net.nft.staged import Staged

DECISIONS = (PORTS, RANGES, PROTOCOLS, OTHERS)

Numbered = Mapping[str, set[str]]  # by set, the classes or pairs that begin its keys


def staged(before: Compiled, after: Compiled, change: Change) -> Staged:
    """Return *change*, of these two with or without more, in stages; none of them is empty."""
    fresh, gone = _lacking(before, after), _lacking(after, before)
    early = dict.fromkeys(_of(fresh, change.upserts))
    late = frozenset(_of(gone, change.removals))
    at_once = Delta(
        {each: None for each in change.upserts if each not in early}, change.removals - late
    )
    stages: tuple[Change, ...] = (Delta(early, frozenset()), at_once, Delta({}, late))
    return Staged(change.upserts, change.removals, tuple(each for each in stages if each))


def _lacking(one: Compiled, other: Compiled) -> Numbered:
    """Return the classes and pairs of *other* that *one* does not use, by the sets they are in."""
    found: dict[str, set[str]] = {}
    if one.pairs is not other.pairs:
        pairs = set(other.pairs.of.values()) - set(one.pairs.of.values())
        found = dict.fromkeys(DECISIONS, pairs)
    for place, version in enumerate(VERSIONS):
        used, needed = (
            {each.classes.of[c] for c in each.families[place].sources.signatures}
            for each in (one, other)
        )
        found[f"{NEAR}{version}"] = found[f"{FAR}{version}"] = needed - used
    return found


def _of(numbers: Numbered, elements: Iterable[Element]) -> list[Element]:
    return [
        each
        for each in elements
        if each.fields and each.fields[0] in numbers.get(each.set_name, ())
    ]
