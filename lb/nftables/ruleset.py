"""The constant part of the table: chains, rules and empty maps; pure.

The number of rules does not grow with the cluster. A packet's VIP is looked up
in one set for each slot table length and leads to the chain of that length,
where drawn numbers, or a hash of the source, lead through ``slots`` to a
backend. Sets, because each new element of a verdict map makes the kernel walk
the whole map again: 2 ms for each new service when there are 10,000, and a
set's 0.4 ms stay.
"""

import zlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import msgspec

from phalanx.lb.slots import LENGTHS
from phalanx.net.model.objects import Protocol, node6

NAME = "phalanx_lb"
TABLE = f"inet {NAME}"
# Set on a packet between forward and postrouting when its reply would not come back through
# us; cleared there. Listed in docs/reference/marks.md.
HAIRPIN_MARK = 0x01000000
# Draws before a connection is given the first slot. More than half of a table is filled, so
# fewer than one in 65,536 come to that.
DRAWS = 16

# Before anybody's mapped ports (-100): a VIP is an address of the node, and of theirs, too.
FIRST = -110

# What came by another link than the one that has the address it is for.
IS_ELSEWHERE = 'iif != "lo" fib daddr . iif type != local'

# Every node hashes alike, so a client finds its backend again behind another node.
SEED = 0x7A


class Family(msgspec.Struct, frozen=True):
    """How the sets and rules of one version of IP are spelled."""

    version: int
    suffix: str
    word: str
    kind: str

    @property
    def vip_key(self) -> str:
        """Return what of a packet names its VIP."""
        return f"{self.word} daddr . meta l4proto . th dport"

    @property
    def vip_type(self) -> str:
        """Return the type of a set of VIPs."""
        return f"{self.kind} . inet_proto . inet_service"

    def set_of(self, length: int) -> str:
        """Return the name of the set of services whose slot table is this long."""
        return f"services{self.suffix}_{length}"

    def named(self, name: str) -> str:
        """Return the name of this version's set of that kind."""
        return f"{name}{self.suffix}"


FAMILIES = (Family(4, "", "ip", "ipv4_addr"), Family(6, "6", "ip6", "ipv6_addr"))
FAMILY_OF: Mapping[int, Family] = {family.version: family for family in FAMILIES}


def render_ruleset(pool: IPv4Network, pool6: IPv6Network, node: IPv4Address | None = None) -> str:
    """Return the commands that put the empty table in place of whatever it was.

    With *node* this node lends its address to clients from outside of the
    cluster whose backend is on another node, whether a container behind the tunnel or
    on that node's own network: that one would answer past us. So it does for datagrams to its
    own processes that come to an address of another link: a socket of all addresses would answer
    with the nearest one.
    """
    ipv4, ipv6 = FAMILIES
    set_mark = f"meta mark set meta mark | {HAIRPIN_MARK:#010x}"
    clear_mark = f"meta mark set meta mark & {~HAIRPIN_MARK & 0xFFFFFFFF:#010x}"
    refused = "\n".join(
        f"    {each.vip_key} @{each.named('refused')} goto refuse" for each in FAMILIES
    )
    lend = "" if node is None else _lend(node)
    lenders = "" if node is None else _lend_chains(node)
    return f"""\
add table {TABLE}
delete table {TABLE}
table {TABLE} {{
  map fingerprint {{ type mark : mark; }}
{"".join(map(_sets, FAMILIES))}\
{_chains(ipv4, pool)}\
{_chains(ipv6, pool6)}\
  chain prerouting {{
    type nat hook prerouting priority {FIRST}; policy accept;
    meta l4proto {{ tcp, udp }} meta nfproto ipv4 jump balance
    meta l4proto {{ tcp, udp }} meta nfproto ipv6 jump balance6
  }}
  chain output {{
    type nat hook output priority {FIRST}; policy accept;
    meta l4proto {{ tcp, udp }} meta nfproto ipv4 jump balance
    meta l4proto {{ tcp, udp }} meta nfproto ipv6 jump balance6
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmpx port-unreachable
  }}
  chain refuse_input {{
    type filter hook input priority 0; policy accept;
    ct state established accept
    ip daddr {pool} goto refuse
    ip6 daddr {pool6} goto refuse
{refused}
  }}
  chain refuse_output {{
    type filter hook output priority 0; policy accept;
    ct state established accept
    meta l4proto tcp {ipv4.vip_key} @refused reject with tcp reset
    meta l4proto tcp {ipv6.vip_key} @refused6 reject with tcp reset
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    ct state established accept
    ct state new ct status dnat goto begins
{refused}
  }}
  chain begins {{
    iifname "phx-*" goto hairpin
    ct original ip daddr {pool} goto hairpin
    ct original ip6 daddr {pool6} goto hairpin
  }}
  chain hairpin {{
    fib daddr . iif oif exists {set_mark}
  }}
{lenders}\
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    meta mark & {HAIRPIN_MARK:#010x} != 0 {clear_mark} masquerade
{lend}
  }}
}}
"""


def _lend(node: IPv4Address) -> str:
    is_outside = 'iifname != "phx-*" ct status dnat fib saddr type != local'
    tunnel = 'oifname "phx-vxlan"'  # nothing but our VIPs leads the outside there
    return (
        f"    meta nfproto ipv4 {tunnel} {is_outside} snat ip to {node}\n"
        f"    meta nfproto ipv6 {tunnel} {is_outside} snat ip6 to {node6(node)}\n"
        f'    meta nfproto ipv4 oifname != "phx-*" {is_outside} jump lend'
    )


def _lend_chains(node: IPv4Address) -> str:
    """Render chains for what others may have translated, too; a node is reached by IPv4 only."""
    ipv4, _ = FAMILIES
    key = "ct original ip daddr . meta l4proto . ct original proto-dst"
    # Without the protocol before it nft does not know what kind of number a port is.
    rules = "\n".join(
        f"    meta l4proto {protocol} {key} @{ipv4.set_of(length)} snat ip to {node}"
        for protocol in Protocol
        for length in LENGTHS
    )
    return f"""\
  chain lend {{
{rules}
  }}
  chain input {{
    type nat hook input priority 100; policy accept;
    meta nfproto ipv4 meta l4proto udp ct status dnat {IS_ELSEWHERE} jump lend
  }}
"""


def _sets(family: Family) -> str:
    lengths = "\n".join(
        f"  set {family.set_of(length)} {{ type {family.vip_type}; }}" for length in LENGTHS
    )
    value = f"{family.word} daddr . th dport"
    return f"""\
  map {family.named("slots")} {{ typeof {family.vip_key} . numgen random mod 2 : {value}; }}
  map {family.named("weights")} {{ type {family.vip_type} . {family.kind} . inet_service : mark; }}
  map {family.named("options")} {{ type {family.vip_type} : mark; }}
  set {family.named("hashed")} {{ type {family.vip_type}; }}
  set {family.named("refused")} {{ type {family.vip_type}; }}
{lengths}
"""


def _chains(family: Family, pool: IPv4Network | IPv6Network) -> str:
    """Render the chains that translate; what nobody serves is led to itself, lest others lead it.

    For whatever has been translated once, by whomever, nobody else is asked.
    """
    draws = "\n".join(_draw_chain(family, length) for length in LENGTHS)
    balance = "\n".join(
        f"    {family.vip_key} @{family.set_of(length)} goto {family.named('draw')}_{length}"
        for length in LENGTHS
    )
    stay = to_itself(family.word)
    return f"""\
{draws}
  chain {family.named("balance")} {{
{balance}
    {family.vip_key} @{family.named("refused")} {stay}
    {family.word} daddr {pool} {stay}
  }}
"""


def to_itself(word: str) -> str:
    """Return the statement that leaves a destination of that version as it is, for good."""
    return f"dnat {word} to {word} daddr"


def text_fingerprint(ruleset: str) -> int:
    """Return a number that tells this ruleset from another version's."""
    return zlib.crc32(ruleset.encode())


def _draw_chain(family: Family, length: int) -> str:
    """Render the chains that choose a slot by the source, or draw until one is filled.

    The first slot is for whoever finds none.
    """
    hash_chain = f"{family.named('hash')}_{length}"
    hashes = (f"jhash {family.word} saddr mod {length} seed {SEED:#x}", "numgen random mod 1")
    draws = (f"numgen random mod {bound}" for bound in (*[length] * DRAWS, 1))
    return f"""\
  chain {hash_chain} {{
{_to_slots(family, hashes)}
  }}
  chain {family.named("draw")}_{length} {{
    {family.vip_key} @{family.named("hashed")} goto {hash_chain}
{_to_slots(family, draws)}
  }}"""


def _to_slots(family: Family, numbers: Iterable[str]) -> str:
    target = f"    dnat {family.word} to {family.vip_key}"
    return "\n".join(f"{target} . {number} map @{family.named('slots')}" for number in numbers)
