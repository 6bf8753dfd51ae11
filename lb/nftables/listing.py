"""Read the table's JSON listing back into entries; pure."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Any

import msgspec

from phalanx.lb.nftables.entry import Entry
from phalanx.lb.nftables.ruleset import set_of
from phalanx.lb.service import Endpoint, Vip
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
        self.is_refused = False


PROTOCOLS = {protocol.number: protocol for protocol in Protocol}


def parse_listing(listing: Sequence[Mapping[str, Any]]) -> Listing:
    """Return the entries and the fingerprint of a ``list table`` answer."""
    drafts: dict[Vip, _Draft] = {}
    for length in LENGTHS:
        for words, _ in _elements(listing, set_of(length)):
            _draft(drafts, words).lengths.add(length)
    for words, endpoint in _elements(listing, "slots"):
        address, port = endpoint["concat"]
        _draft(drafts, words).slots[words[3]] = Endpoint(_address(address), port)
    for words, weight in _elements(listing, "weights"):
        _draft(drafts, words).weights[Endpoint(_address(words[3]), words[4])] = weight
    for words, _ in _elements(listing, "refused"):
        _draft(drafts, words).is_refused = True
    return Listing(
        {
            vip: Entry(frozenset(draft.lengths), draft.slots, draft.weights, draft.is_refused)
            for vip, draft in drafts.items()
        },
        {key: value for item in _raw(listing, "fingerprint") for key, value in [item]},
    )


def _draft(drafts: dict[Vip, _Draft], words: Sequence[Any]) -> _Draft:
    vip = Vip(_address(words[0]), words[2], PROTOCOLS[words[1]])
    draft = drafts.get(vip)
    if draft is None:
        draft = drafts[vip] = _Draft()
    return draft


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
def _address(text: str) -> IPv4Address:
    return IPv4Address(text)
