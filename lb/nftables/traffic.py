"""Count the connections that went to each backend, in a table of its own.

The packet path writes the elements: the first packet of each connection whose
destination was translated adds to the counter of its VIP and backend, so a
counter costs nothing when services change, and it outlives the plane. The
table is apart from that of the services: it need not be listed to know those.

Bytes take a rule for every packet of every connection, half a microsecond each, so
they are counted only where that is asked for; IPVS counts them in passing.
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
BYTES_IN, BYTES_OUT = "bytes_in", "bytes_out"  # to a backend, from it
# A backend that nobody has connected to for this long is forgotten.
KEPT = "1d"
SIZE = 262_144
RULES, OTHER_RULES = "rules", "other rules"

Pair = tuple[Vip, Endpoint]


def render_traffic(*, has_bytes: bool = False) -> str:
    """Return the commands that make the table, whatever is there; counters are kept."""
    sets = "\n".join(
        f"  set {family.named(kind)} {{ type {family.vip_type} . {family.kind}"
        f" . inet_service; size {SIZE}; flags dynamic,timeout; timeout {KEPT}; counter; }}"
        for family in FAMILIES
        for kind in _kinds(has_bytes=has_bytes)
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
{_byte_chains() if has_bytes else ""}
}}
"""


def _kinds(*, has_bytes: bool) -> Sequence[str]:
    return (CONNECTIONS, BYTES_IN, BYTES_OUT) if has_bytes else (CONNECTIONS,)


def _byte_chains() -> str:
    """Render chains that see each packet once, wherever client and backend are."""
    rules = "\n".join(
        f"    meta nfproto ipv{family.version} meta l4proto {protocol} ct direction {direction}"
        f" update @{family.named(kind)} {{ {_tuple_of(family)} }}"
        for family in FAMILIES
        for protocol in Protocol
        for direction, kind in (("original", BYTES_IN), ("reply", BYTES_OUT))
    )
    hooks = "\n".join(
        f"  chain {name}_bytes {{\n    type filter hook {name} priority 10; policy accept;\n"
        f"    {match}ct status dnat jump bytes\n  }}"
        # What a node says to itself was counted on its way out.
        for name, match in (("forward", ""), ("input", 'iifname != "lo" '), ("output", ""))
    )
    return f"  chain bytes {{\n{rules}\n  }}\n{hooks}"


def _tuple_of(family: Family) -> str:
    """Return VIP and backend as the connection names them, whichever way the packet goes."""
    there, back = f"ct original {family.word} daddr", f"ct reply {family.word} saddr"
    return f"{there} . meta l4proto . ct original proto-dst . {back} . ct reply proto-src"


class NftablesTraffic:
    """A Dataplane of one element: the counting table, with rules as we make them.

    Only where it is not wanted are other rules something to remove: else they
    give way to ours in one transaction, and what was counted stays.
    """

    name = NAME

    def __init__(self, nft: Nft, *, is_wanted: bool = True, has_bytes: bool = False) -> None:
        self._nft = nft
        self._is_wanted = is_wanted
        self.has_bytes = has_bytes
        self._structure: int | None = None  # as the kernel printed what we made
        # What the keys that were read last mean, by kind.
        self._pairs: dict[str, dict[bytes, Pair]] = {}

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
        script = render_traffic(has_bytes=self.has_bytes)
        if listing and not _has_our_sets(listing, has_bytes=self.has_bytes):
            script = f"delete table {TABLE}\n{script}"
        await self._nft.run(script, table=self.name)
        self._structure = await self._read_structure()

    async def connections(self) -> Mapping[Pair, int]:
        """Return how many connections went from each VIP to each backend.

        Foreign translations (a container engine's, say) are among them. Raises
        DataplaneError when the kernel refuses to tell.
        """
        return {pair: packets for pair, (packets, _) in (await self._counted(CONNECTIONS)).items()}

    async def volumes(self) -> tuple[Mapping[Pair, int], Mapping[Pair, int]]:
        """Return the bytes that went to each backend and came from it; as connections else."""
        there, back = await self._counted(BYTES_IN), await self._counted(BYTES_OUT)
        return (
            {pair: size for pair, (_, size) in there.items()},
            {pair: size for pair, (_, size) in back.items()},
        )

    async def _counted(self, kind: str) -> Mapping[Pair, tuple[int, int]]:
        """Return packets and bytes of each element of the sets of a kind."""
        sets = [family.named(kind) for family in FAMILIES]
        try:
            raw = await self._nft.open(lambda: dump_counts(NAME, sets))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        found: dict[Pair, tuple[int, int]] = {}
        known: dict[bytes, Pair] = {}
        before = self._pairs.get(kind, {})
        for family in FAMILIES:
            for key, packets, size in (raw or {}).get(family.named(kind), ()):
                pair = before.get(key) or _pair(key, family)
                if pair is not None:
                    known[key] = pair
                    found[pair] = packets, size
        self._pairs[kind] = known  # most are there again at the next scrape
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


def _has_our_sets(listing: Sequence[Mapping[str, Any]], *, has_bytes: bool) -> bool:
    wanted = {
        family.named(kind): [
            family.kind,
            "inet_proto",
            "inet_service",
            family.kind,
            "inet_service",
        ]
        for family in FAMILIES
        for kind in _kinds(has_bytes=has_bytes)
    }
    there = {item["set"]["name"]: item["set"].get("type") for item in listing if "set" in item}
    return all(there[name] == wanted.get(name) for name in there)
