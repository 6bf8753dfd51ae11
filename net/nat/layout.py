"""The constant part of the NAT table: its sets, chain and rules."""

from phalanx.net.nft.layout import Layout

LOCAL = "local"  # prefixes that this node leases; of IPv6 with 6 at the end, like
INSIDE = "inside"  # what containers reach with their own address

NAT = Layout(
    table="phalanx_nat",
    body=f"""
  set {LOCAL} {{ type ipv4_addr; flags interval; }}
  set {INSIDE} {{ type ipv4_addr; flags interval; }}
  set {LOCAL}6 {{ type ipv6_addr; flags interval; }}
  set {INSIDE}6 {{ type ipv6_addr; flags interval; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @{LOCAL} ip daddr != @{INSIDE} counter masquerade comment "out of the cluster"
    ip6 saddr @{LOCAL}6 ip6 daddr != @{INSIDE}6 counter masquerade comment "out of the cluster"
  }}
""",
)
