"""The constant part of the table that says who may send into the tunnel, and who from it."""

from phalanx.net.nft.layout import Layout
from phalanx.net.overlay.mark import TUNNEL, VXLAN_MARK, VXLAN_PORT

NODES = "nodes"  # underlay addresses of the other nodes

# A packet to the port of the tunnel is taken from another node's address only, and never out of
# the tunnel or from a bridge of ours, whatever address it claims. The tunnel speaks IPv4 alone.
#
# A process on a node has the node's address, but may not speak for its tunnel: what the tunnel
# sends has come through its link and has our mark, which nobody without CAP_NET_ADMIN can set.
SENDERS = Layout(
    table="phalanx_overlay",
    body=f"""
  set {NODES} {{ type ipv4_addr; }}
  chain sender {{
    meta nfproto ipv6 counter drop comment "the tunnel speaks IPv4"
    iifname "phx*" counter drop comment "from a container"
    ip saddr @{NODES} accept
    counter drop comment "from a stranger"
  }}
  chain input {{
    type filter hook input priority filter - 20; policy accept;
    udp dport {VXLAN_PORT} jump sender
  }}
  chain into {{
    type filter hook postrouting priority mangle - 10; policy accept;
    oifname "{TUNNEL}" meta mark set meta mark | {VXLAN_MARK:#010x}
  }}
  chain output {{
    type filter hook output priority filter + 310; policy accept;
    udp dport {VXLAN_PORT} meta mark & {VXLAN_MARK:#010x} == 0 counter drop \
comment "not by the tunnel"
  }}
""",
)
