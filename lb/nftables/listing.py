"""Read the table's JSON listing back into entries; pure."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from phalanx.lb.nftables.entry import Entry
from phalanx.lb.nftables.ruleset import FAMILIES, Family
from phalanx.lb.service import Endpoint, IPAddress, Vip
from phalanx.lb.slots import LENGTHS
from phalanx.net.model.objects import Protocol

TEXT, STRUCTURE = 1, 2  # keys of the fingerprint map


class Listing(msgspec.Struct, frozen=True):
    """What the table holds."""

    entries: Mapping[Vip, Entry]
    fingerprint: Mapping[int, int]  # as it was written when the table was made


class _Draft:
    """An entry in the making."""

    def __init__(self) -> None:
        self.lengths: set[int] = set()
        self.slots: dict[int, Endpoint] = {}
        self.weights: dict[Endpoint, int] = {}
        self.options = 0
        self.is_hashed = False
        self.is_refused = False


PROTOCOLS = {protocol.number: protocol for protocol in Protocol}


def parse_listing(listing: Sequence[Mapping[str, Any]]) -> Listing:
    """Return the entries and the fingerprint of a ``list table`` answer."""
    drafts: dict[Vip, _Draft] = {}
    for family in FAMILIES:
        _gather(drafts, listing, family)
    return Listing(
        {
            vip: Entry(
                frozenset(draft.lengths),
                draft.slots,
                draft.weights,
                draft.options,
                draft.is_hashed,
                draft.is_refused,
            )
            for vip, draft in drafts.items()
        },
        {key: value for item in _raw(listing, "fingerprint") for key, value in [item]},
    )


def _gather(
    drafts: dict[Vip, _Draft], listing: Sequence[Mapping[str, Any]], family: Family
) -> None:
    address = _address if family.version == 4 else _address6

    def elements(name: str) -> Iterable[tuple[list[Any], Any, _Draft]]:
        for words, value in _elements(listing, name):
            vip = Vip(address(words[0]), words[2], PROTOCOLS[words[1]])
            draft = drafts.get(vip)
            if draft is None:
                draft = drafts[vip] = _Draft()
            yield words, value, draft

    for length in LENGTHS:
        for _, _, draft in elements(family.set_of(length)):
            draft.lengths.add(length)
    for words, endpoint, draft in elements(family.named("slots")):
        text, port = endpoint["concat"]
        draft.slots[words[3]] = Endpoint(address(text), port)
    for words, weight, draft in elements(family.named("weights")):
        draft.weights[Endpoint(address(words[3]), words[4])] = weight
    for _, options, draft in elements(family.named("options")):
        draft.options = options
    for _, _, draft in elements(family.named("hashed")):
        draft.is_hashed = True
    for _, _, draft in elements(family.named("refused")):
        draft.is_refused = True


def _elements(listing: Sequence[Mapping[str, Any]], name: str) -> Iterable[tuple[list[Any], Any]]:
    """Yield key words and value of each element; the value of a set's is None."""
    for item in _raw(listing, name):
        key, value = item if isinstance(item, list) else (item, None)
        yield key["concat"], value


def _raw(listing: Sequence[Mapping[str, Any]], name: str) -> Sequence[Any]:
    for entry in listing:
        held = entry.get("map") or entry.get("set")
        if held is not None and held["name"] == name:
            found: Sequence[Any] = held.get("elem", ())
            return found
    return ()


@lru_cache(maxsize=65536)
def _address(text: str) -> IPAddress:
    return IPv4Address(text)


@lru_cache(maxsize=65536)
def _address6(text: str) -> IPAddress:
    return IPv6Address(text)
