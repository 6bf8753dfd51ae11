"""The constant part of the table: chains, rules and empty maps; pure.

The number of rules does not grow with the cluster. A packet's VIP is looked up
in one set for each slot table length and leads to the chain of that length,
where drawn numbers lead through ``slots`` to a backend. Sets, because each new
element of a verdict map makes the kernel walk the whole map again: 2 ms for
each new service when there are 10,000, and a set's 0.4 ms stay.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any

from phalanx.lb.slots import LENGTHS

NAME = "phalanx_lb"
TABLE = f"inet {NAME}"
# Set on a packet between forward and postrouting when its reply would not come back through
# us; cleared there. Listed in docs/reference/marks.md.
HAIRPIN_MARK = 0x01000000
# Draws before a connection is given the first slot. More than half of a table is filled, so
# fewer than one in 65,536 come to that.
DRAWS = 16

VIP_KEY = "ip daddr . meta l4proto . th dport"
VIP_TYPE = "ipv4_addr . inet_proto . inet_service"
SERVICES = "services_"


def render_ruleset(pool: IPv4Network) -> str:
    """Return the commands that put the empty table in place of whatever it was."""
    sets = "\n".join(f"  set {set_of(length)} {{ type {VIP_TYPE}; }}" for length in LENGTHS)
    draws = "\n".join(_draw_chain(length) for length in LENGTHS)
    balance = "\n".join(f"    {VIP_KEY} @{set_of(length)} goto draw_{length}" for length in LENGTHS)
    is_hairpin = "ct state new ct status dnat fib daddr . iif oif exists"
    set_mark = f"meta mark set meta mark | {HAIRPIN_MARK:#010x}"
    clear_mark = f"meta mark set meta mark & {~HAIRPIN_MARK & 0xFFFFFFFF:#010x}"
    return f"""\
add table {TABLE}
delete table {TABLE}
table {TABLE} {{
  map fingerprint {{ type mark : mark; }}
  map slots {{ typeof {VIP_KEY} . numgen random mod 2 : ip daddr . th dport; }}
  map weights {{ type {VIP_TYPE} . ipv4_addr . inet_service : mark; }}
  set refused {{ type {VIP_TYPE}; }}
{sets}
{draws}
  chain balance {{
{balance}
  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
    meta l4proto {{ tcp, udp }} jump balance
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    meta l4proto {{ tcp, udp }} jump balance
  }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmp port-unreachable
  }}
  chain refuse_input {{
    type filter hook input priority 0; policy accept;
    ip daddr {pool} goto refuse
    {VIP_KEY} @refused goto refuse
  }}
  chain refuse_output {{
    type filter hook output priority 0; policy accept;
    {VIP_KEY} @refused goto refuse
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    {VIP_KEY} @refused goto refuse
    iifname "phx-*" {is_hairpin} {set_mark}
    ct original ip daddr {pool} {is_hairpin} {set_mark}
  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    meta mark & {HAIRPIN_MARK:#010x} != 0 {clear_mark} masquerade
  }}
}}
"""


def set_of(length: int) -> str:
    """Return the name of the set of services whose slot table is this long."""
    return f"{SERVICES}{length}"


def text_fingerprint(ruleset: str) -> int:
    """Return a number that tells this ruleset from another version's."""
    return zlib.crc32(ruleset.encode())


def structure_fingerprint(listing: Iterable[Mapping[str, Any]]) -> int:
    """Return a number that tells what a listing holds apart from elements and handles."""
    structure = [
        {
            kind: {key: value for key, value in item.items() if key not in ("handle", "elem")}
            for kind, item in entry.items()
        }
        for entry in listing
    ]
    return zlib.crc32(json.dumps(structure, sort_keys=True).encode())


def _draw_chain(length: int) -> str:
    """Render the chain that draws slots until one is filled, then takes the first."""
    rules = "\n".join(
        f"    dnat ip to {VIP_KEY} . numgen random mod {bound} map @slots"
        for bound in (*[length] * DRAWS, 1)
    )
    return f"  chain draw_{length} {{\n{rules}\n  }}"
