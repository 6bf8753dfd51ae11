"""What IPVS leaves to nftables: the constant rules of a table and the elements of its sets; pure.

IPVS takes packets to a VIP at the hooks ``input`` (priority 98) and ``output``
(-99). Before it, nobody else translates what goes to a VIP, and VIPs whose
backends are all drained are refused for new connections; behind it, whatever
is left of the VIP range. The table also remembers which services outside of
the VIP range are ours: IPVS has no room for a mark.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address

from phalanx.core.reconcile.delta import Delta
from phalanx.lb.nftables.ruleset import FIRST, IS_ELSEWHERE, to_itself
from phalanx.lb.service import IPAddress, Service, Vip
from phalanx.net.model.objects import Protocol, node6
from phalanx.net.nft.element import Element
from phalanx.net.nft.layout import Layout

NAME = "phalanx_ipvs"
CLAIMED, REFUSED = "claimed", "refused"
OUTSIDE = "outside"  # the addresses of what is claimed
SAME_LINK = "same_link"  # each incoming link with itself; the packet path writes it

_KEYS = {"4": ("ipv4_addr", "ip"), "6": ("ipv6_addr", "ip6")}

Pools = tuple[IPv4Network, IPv6Network]  # the ranges that are all ours


def layout_of(pools: Pools, node: IPv4Address | None = None) -> Layout:
    """Return the table for VIPs of *pools* and of elsewhere.

    A connection that would leave by the link it came in on is masqueraded, for
    its replies would not come back through us. Rules can't compare two links,
    so each link that brings a connection goes, paired with itself, into a set.
    With *node* this node lends its address to clients from outside of the
    cluster whose backend is on another node: that one would answer past us. So it does for
    datagrams to its own processes that come to an address of another link: a socket of all
    addresses would answer with the nearest one.
    """
    sets = "\n".join(
        f"  set {name}{version} {{ type {kind} . inet_proto . inet_service; }}"
        for name in (CLAIMED, REFUSED)
        for version, (kind, _) in _KEYS.items()
    )
    addresses = "\n".join(
        f"  set {OUTSIDE}{version} {{ type {kind}; }}" for version, (kind, _) in _KEYS.items()
    )
    refused = "\n".join(
        f"    ct state new {word} daddr . meta l4proto . th dport @{REFUSED}{version} goto refuse"
        for version, (_, word) in _KEYS.items()
    )
    ranges: dict[str, IPv4Network | IPv6Network] = {"4": pools[0], "6": pools[1]}
    rest = "\n".join(
        f"    {word} daddr {ranges[version]} goto refuse" for version, (_, word) in _KEYS.items()
    )
    # Translated once, to itself, a connection is nobody else's to translate.
    stays = "\n".join(
        f"    {word} daddr {vips} {to_itself(word)}"
        for version, (_, word) in _KEYS.items()
        for vips in (ranges[version], f". meta l4proto . th dport @{CLAIMED}{version}")
    )
    hairpins = "\n".join(
        f"    ct original {word} daddr {vips} masquerade"
        for version, (_, word) in _KEYS.items()
        for vips in (ranges[version], f"@{OUTSIDE}{version}")
    )
    return Layout(
        NAME,
        f"""
{sets}
{addresses}
  set {SAME_LINK} {{ type iface_index . iface_index; size 4096; flags dynamic; }}
  chain refuse {{
    meta l4proto tcp reject with tcp reset
    meta l4proto udp reject with icmpx port-unreachable
  }}
  chain prerouting {{
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto {{ tcp, udp }} ct state new fib daddr type local \
update @{SAME_LINK} {{ iif . iif }}
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
{refused}
  }}
  chain rest {{
    type filter hook input priority 110; policy accept;
{rest}
  }}
  chain output {{
    type filter hook output priority -110; policy accept;
{refused}
  }}
  chain stay {{
{stays}
  }}
  chain stay_prerouting {{
    type nat hook prerouting priority {FIRST}; policy accept;
    meta l4proto {{ tcp, udp }} jump stay
  }}
  chain stay_output {{
    type nat hook output priority {FIRST}; policy accept;
    meta l4proto {{ tcp, udp }} jump stay
  }}
  chain hairpin {{
{hairpins}
  }}
  chain lend {{
{_lend(ranges, node)}
  }}
{_lend_input(node)}\
  chain abroad {{
    oifname "phx-vxlan" goto lend
    oifname != "phx-*" goto lend
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    iif . oif @{SAME_LINK} ct direction original goto hairpin
    iifname != "phx-*" ct direction original fib saddr type != local jump abroad
  }}
""",
    )


def _lend(ranges: Mapping[str, IPv4Network | IPv6Network], node: IPv4Address | None) -> str:
    if node is None:
        return ""
    own = {"4": node, "6": node6(node)}
    return "\n".join(
        f"    ct original {word} daddr {vips} snat {word} to {own[version]}"
        for version, (_, word) in _KEYS.items()
        for vips in (ranges[version], f"@{OUTSIDE}{version}")
    )


def _lend_input(node: IPv4Address | None) -> str:
    """Render a chain behind IPVS; a process of a node is reached by IPv4 only."""
    if node is None:
        return ""
    return f"""\
  chain lend_input {{
    type nat hook input priority 100; policy accept;
    meta nfproto ipv4 meta l4proto udp {IS_ELSEWHERE} jump lend
  }}
"""


def elements(services: Mapping[Vip, Service], pools: Pools) -> set[Element]:
    """Return the elements that go with *services*."""
    found: set[Element] = set()
    for vip, service in services.items():
        if not is_in(vip, pools):
            found.add(element(CLAIMED, vip))
            found.add(outside(vip.address))
        if service.is_refused:
            found.add(element(REFUSED, vip))
    return found


def elements_after(
    present: Iterable[Element], change: Delta[Vip, Service], pools: Pools
) -> set[Element]:
    """Return the elements of *present* as they are after *change*."""
    known = frozenset(present)
    touched = change.removals | change.upserts.keys()
    claimed = {
        vip
        for vip in (vips_of(known, CLAIMED) - touched) | change.upserts.keys()
        if not is_in(vip, pools)
    }
    refused = (vips_of(known, REFUSED) - touched) | {
        vip for vip, service in change.upserts.items() if service.is_refused
    }
    return {
        *(element(CLAIMED, vip) for vip in claimed),
        *(outside(vip.address) for vip in claimed),
        *(element(REFUSED, vip) for vip in refused),
    }


def element(name: str, vip: Vip) -> Element:
    """Return the element that a VIP has in the set *name* of its address family."""
    fields = (str(vip.address), str(vip.protocol.number), str(vip.port))
    return Element(f"{name}{vip.address.version}", fields)


def outside(address: IPAddress) -> Element:
    """Return the element of an address that is in none of the ranges."""
    return Element(f"{OUTSIDE}{address.version}", (str(address),))


def vips_of(present: Iterable[Element], name: str) -> set[Vip]:
    """Return the VIPs in the sets *name*; what is not of our form is left out."""
    protocols = {str(protocol.number): protocol for protocol in Protocol}
    return {
        Vip(_address(item.fields[0]), int(item.fields[2]), protocols[item.fields[1]])
        for item in present
        if item.set_name in (f"{name}4", f"{name}6") and item.fields[1] in protocols
    }


def is_in(vip: Vip, pools: Pools) -> bool:
    """Tell whether a VIP is of a range that is all ours."""
    address = vip.address
    return address in pools[0] if address.version == 4 else address in pools[1]


def _address(text: str) -> IPAddress:
    return ip_address(text)
