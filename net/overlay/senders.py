"""The constant part of the table that says who may send into the tunnel, and who from it."""

from phalanx.net.nft.layout import Layout
from phalanx.net.overlay.mark import PEER_PORT, TUNNEL, UNDERLAY_MARK, VXLAN_MARK, VXLAN_PORT

NODES = "nodes"  # underlay addresses of the other nodes
_OF_A_PROCESS = "meta skuid != 4294967295"  # holds of no packet without a socket that is open
_MARK = f"meta mark set meta mark | {UNDERLAY_MARK:#010x}"
_UNMARKED = 0xFFFFFFFF & ~UNDERLAY_MARK

# A packet to the port of the tunnel is taken from another node's address only, and never out of
# the tunnel or from a bridge of ours, whatever address it claims.
#
# A process on a node has the node's address, but may not speak for its tunnel: what processes
# send into the tunnel has come through its link and has our mark, which nobody without
# CAP_NET_RAW or CAP_NET_ADMIN can set. What the tunnel sends for containers has no socket, and no
# mark either: the kernel finds the way of a marked packet anew, of others it remembers it.
#
# What is forwarded to a node's tunnel or plane is of a node, too: masquerade would give what comes
# from a container, of whoever's network, this node's address. The tunnel itself sends by output.
# So does IPVS what it leads to another node, tracked and with the client's address still; what it
# leads to this node has its real destination behind IPVS only, whose last priority in input is 99.
#
# What another node asks of a mapped port comes by the underlay, as anybody else's question does,
# and so must go the answer. Both have a mark between `mapped` and `forward`: the rule that leads
# containers' packets for nodes into the tunnel passes over it, also for the reverse path filter,
# which looks for the way of the answer when the question comes.
#
# No connection is tracked around the tunnel: each one inside would cost two more entries. Each
# chain at a hook costs every packet that comes by, so there are few.


def senders_layout(peer_port: int) -> Layout:
    """Return the table where planes ask one another on *peer_port* of nodes, 0 for nowhere."""
    to_plane = f"tcp dport {peer_port} ip daddr @{NODES}"
    to_planes = f"{to_plane} jump forwarded" if peer_port else ""
    is_led = 'fib saddr type != local counter drop comment "by a VIP"'
    led_to_planes = f"{to_plane} {is_led}" if peer_port else ""
    return Layout(
        table="phalanx_overlay",
        body=f"""
  set {NODES} {{ type ipv4_addr; }}
  chain received {{
    type filter hook prerouting priority raw; policy accept;
    udp dport {VXLAN_PORT} ip saddr @{NODES} iifname != "phx*" notrack
  }}
  chain of_nodes {{
    iifname != "phx*" ct direction original ip saddr @{NODES} {_MARK}
    iifname "phx-*" iifname != "{TUNNEL}" ct direction reply ip daddr @{NODES} {_MARK}
  }}
  chain mapped {{
    type filter hook prerouting priority dstnat + 10; policy accept;
    ct status dnat jump of_nodes
  }}
  chain refuse {{
    meta nfproto ipv6 counter drop comment "the tunnel speaks IPv4"
    iifname "phx*" counter drop comment "from a container"
    counter drop comment "from a stranger"
  }}
  chain input {{
    type filter hook input priority 100; policy accept;
    udp dport {VXLAN_PORT} ip saddr @{NODES} iifname != "phx*" accept
    udp dport {VXLAN_PORT} goto refuse
  }}
  chain forwarded {{
    ip saddr @{NODES} iifname != "phx*" accept
    meta l4proto tcp counter reject with tcp reset comment "from no node"
    counter drop comment "from no node"
  }}
  chain forward {{
    type filter hook forward priority filter - 20; policy accept;
    meta mark & {UNDERLAY_MARK:#010x} != 0 meta mark set meta mark & {_UNMARKED:#010x}
    udp dport {VXLAN_PORT} ip daddr @{NODES} jump forwarded
    {to_planes}
  }}
  chain sent {{
    type filter hook output priority raw; policy accept;
    {_OF_A_PROCESS} return
    udp dport {VXLAN_PORT} ct state new,established,related ip daddr @{NODES} counter drop \
comment "by a VIP"
    udp dport {VXLAN_PORT} notrack
    {led_to_planes}
  }}
  chain process {{
    oifname "{TUNNEL}" meta mark set meta mark | {VXLAN_MARK:#010x} return
    udp dport {VXLAN_PORT} meta mark & {VXLAN_MARK:#010x} == 0 counter drop \
comment "not by the tunnel"
  }}
  chain leaving {{
    type filter hook postrouting priority mangle - 10; policy accept;
    {_OF_A_PROCESS} jump process
  }}
""",
    )


SENDERS = senders_layout(PEER_PORT)
