"""The constant part of the NAT table: its sets, chain and rule."""

from phalanx.net.nft.layout import Layout

LOCAL = "local"  # prefixes that this node leases
INSIDE = "inside"  # what containers reach with their own address

NAT = Layout(
    table="phalanx_nat",
    body=f"""
  set {LOCAL} {{ type ipv4_addr; flags interval; }}
  set {INSIDE} {{ type ipv4_addr; flags interval; }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @{LOCAL} ip daddr != @{INSIDE} counter masquerade comment "out of the cluster"
  }}
""",
)
