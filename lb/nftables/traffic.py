"""Count the connections that went to each backend, in a table of its own.

The packet path writes the elements: the first packet of each connection whose
destination was translated adds to the counter of its VIP and backend, so a
counter costs nothing when services change, and it outlives the plane. The
table is apart from that of the services: it need not be listed to know those.

Only connections are counted. Bytes would take a rule for every packet of every
connection; IPVS counts them in passing.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.nftables.listing import endpoint_of, vip_bytes, vip_of
from phalanx.lb.nftables.ruleset import FAMILIES, Family
from phalanx.lb.service import Endpoint, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.dump import dump_counts
from phalanx.net.nft.library import Nft
from phalanx.net.nft.structure import read_structure

NAME = "phalanx_lb_traffic"
TABLE = f"inet {NAME}"
CONNECTIONS = "connections"
# A backend that nobody has connected to for this long is forgotten.
KEPT = "1d"
SIZE = 262_144
RULES, OTHER_RULES = "rules", "other rules"

Pair = tuple[Vip, Endpoint]


def render_traffic() -> str:
    """Return the commands that make the table, whatever is there; counters are kept."""
    sets = "\n".join(
        f"  set {family.named(CONNECTIONS)} {{ type {family.vip_type} . {family.kind}"
        f" . inet_service; size {SIZE}; flags dynamic,timeout; timeout {KEPT}; counter; }}"
        for family in FAMILIES
    )
    rules = "\n".join(_rule(family, protocol) for family in FAMILIES for protocol in Protocol)
    # Before source addresses are translated: after that no chain sees the packet. Chains of
    # type nat see the first packet of a connection only.
    return f"""\
add table {TABLE}
flush table {TABLE}
table {TABLE} {{
{sets}
  chain postrouting {{
    type nat hook postrouting priority 90; policy accept;
{rules}
  }}
  chain input {{
    type nat hook input priority 90; policy accept;
{rules}
  }}
}}
"""


class NftablesTraffic:
    """A Dataplane of one element: the counting table, with rules as we make them.

    Only where it is not wanted are other rules something to remove: else they
    give way to ours in one transaction, and what was counted stays.
    """

    name = NAME

    def __init__(self, nft: Nft, *, is_wanted: bool = True) -> None:
        self._nft = nft
        self._is_wanted = is_wanted
        self._structure: int | None = None  # as the kernel printed what we made
        self._pairs: dict[bytes, Pair] = {}  # what keys that were read last mean

    async def read(self) -> Mapping[str, None]:
        """Return RULES if the table is as we make it, OTHER_RULES for one that is not wanted."""
        structure = await self._read_structure()
        if structure is not None and structure == self._structure:
            return {RULES: None}
        return {} if structure is None or self._is_wanted else {OTHER_RULES: None}

    async def apply(self, change: Delta[str, None]) -> None:
        """Make the table right, or remove it; a set of another form is made anew."""
        if RULES not in change.upserts:
            await self._nft.run(f"add table {TABLE}\ndelete table {TABLE}\n", table=self.name)
            return
        listing = await self._list()
        script = render_traffic()
        if listing and not _has_our_sets(listing):
            script = f"delete table {TABLE}\n{script}"
        await self._nft.run(script, table=self.name)
        self._structure = await self._read_structure()

    async def connections(self) -> Mapping[Pair, int]:
        """Return how many connections went from each VIP to each backend.

        Foreign translations (a container engine's, say) are among them. Raises
        DataplaneError when the kernel refuses to tell.
        """
        sets = [family.named(CONNECTIONS) for family in FAMILIES]
        try:
            raw = await self._nft.open(lambda: dump_counts(NAME, sets))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        found: dict[Pair, int] = {}
        known: dict[bytes, Pair] = {}
        for family in FAMILIES:
            for key, connections in (raw or {}).get(family.named(CONNECTIONS), ()):
                pair = self._pairs.get(key) or _pair(key, family)
                if pair is not None:
                    known[key] = pair
                    found[pair] = connections
        self._pairs = known  # most are there again at the next scrape
        return found

    async def _read_structure(self) -> int | None:
        try:
            return await self._nft.open(lambda: read_structure(NAME))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    async def _list(self) -> Sequence[dict[str, Any]]:
        return await self._nft.read(f"list table {TABLE}", table=self.name, with_elements=False)


def _pair(key: bytes, family: Family) -> Pair | None:
    """Return what a key names, None for what the rules did not write."""
    size = vip_bytes(family)
    try:
        return vip_of(key[:size], family), endpoint_of(key[size:])
    except (ValueError, struct.error):
        return None


def _rule(family: Family, protocol: Protocol) -> str:
    # Without the protocol before it nft does not know what kind of number a port is.
    word = family.word
    key = f"ct original {word} daddr . meta l4proto . ct original proto-dst . {word} daddr"
    return (
        f"    meta l4proto {protocol} ct status dnat"
        f" update @{family.named(CONNECTIONS)} {{ {key} . th dport }}"
    )


def _has_our_sets(listing: Sequence[Mapping[str, Any]]) -> bool:
    wanted = {
        family.named(CONNECTIONS): [
            family.kind,
            "inet_proto",
            "inet_service",
            family.kind,
            "inet_service",
        ]
        for family in FAMILIES
    }
    there = {item["set"]["name"]: item["set"].get("type") for item in listing if "set" in item}
    return all(there[name] == wanted.get(name) for name in there)
