"""The constant part of the isolation table: its sets, chains and rules."""

from phalanx.net.nft.layout import Layout

NETWORKS = "networks"  # prefixes of all virtual networks
OPEN = "open"  # prefixes of those that are not isolated
SAME = "same"  # each prefix with itself
ALLOWED = "allowed"  # what policies let through
# Set on a packet that a link brought for a local process, cleared in output. Only a packet that
# IPVS sends on comes there with them. Listed in docs/reference/marks.md.
RECEIVED_MARK = 0x02000000
HOMELESS_MARK = 0x04000000  # and its source is a container of a network that is gone
UNMARKED = 0xFFFFFFFF & ~(RECEIVED_MARK | HOMELESS_MARK)

# A packet between networks passes when its own sets of addresses and port say so. An answer
# passes when they would let the question pass, so taking a policy back also ends the flows it
# had let in. At this hook destination addresses are translated already and sources not yet:
# what is judged are the two containers, whatever VIP stands between them.
#
# Judging addresses is worth something only if they are true: what comes from a bridge is first
# asked whether its source lies behind that bridge.
#
# A refused TCP connection is reset. Where bridged packets go through these hooks too (the sysctl
# net.bridge.bridge-nf-call-iptables), the kernel sends resets past address translation, and a
# client of a VIP would not know it is meant: its first packet is answered by ICMP.
#
# Under IPVS a request to a VIP never comes to forward: it is taken from input, before a local
# process has it, and goes to output with its destination translated. So it is judged there. The
# marks tell it from what this node itself says, a reset in a container's name among it.
ISOLATION = Layout(
    table="phalanx_isolation",
    body=f"""
  set {NETWORKS} {{ type ipv4_addr; flags interval; }}
  set {OPEN} {{ type ipv4_addr; flags interval; }}
  set {SAME} {{ type ipv4_addr . ipv4_addr; flags interval; }}
  set {ALLOWED} {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval; }}
  chain between {{
    ip saddr . ip daddr @{SAME} accept comment "one network"
    ip saddr @{OPEN} ip daddr @{OPEN} accept comment "two open networks"
    ip saddr . ip daddr . meta l4proto . th dport @{ALLOWED} accept comment "a policy allows"
    ct state established ct direction reply ip daddr . ip saddr . meta l4proto . th sport \
@{ALLOWED} accept comment "an answer to what a policy allows"
    ct state related icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} \
accept comment "an error about a flow that passed"
    ct state new ct status dnat counter reject with icmpx admin-prohibited \
comment "between networks, by a VIP"
    meta l4proto tcp counter reject with tcp reset comment "between networks"
    counter reject with icmpx admin-prohibited comment "between networks"
  }}
  chain leaving {{
    fib saddr . iif oif missing counter drop comment "an address of somebody else"
    ip saddr != @{NETWORKS} jump between comment "of a network that is gone"
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "phx-*" iifname != "phx-vxlan" ip daddr @{NETWORKS} jump leaving
    oifname "phx-*" oifname != "phx-vxlan" ip saddr @{NETWORKS} ip daddr != @{NETWORKS} \
fib daddr type unicast jump between comment "to a network that is gone"
    ip saddr @{NETWORKS} ip daddr @{NETWORKS} jump between
  }}
  chain input {{
    type filter hook input priority 90; policy accept;
    iifname "phx-*" iifname != "phx-vxlan" jump arriving
    iif != lo meta mark set meta mark | {RECEIVED_MARK:#010x}
  }}
  chain arriving {{
    meta nfproto ipv4 fib saddr . iif oif missing counter drop \
comment "an address of somebody else"
    ip saddr != @{NETWORKS} meta mark set meta mark | {HOMELESS_MARK:#010x}
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    meta mark & {RECEIVED_MARK:#010x} != 0 jump sent_on
  }}
  chain sent_on {{
    meta mark & {HOMELESS_MARK:#010x} != 0 ip daddr @{NETWORKS} goto from_gone
    meta mark set meta mark & {UNMARKED:#010x}
    oifname "phx-*" oifname != "phx-vxlan" ip saddr @{NETWORKS} ip daddr != @{NETWORKS} \
jump between comment "to a network that is gone"
    ip saddr @{NETWORKS} ip daddr @{NETWORKS} jump between
  }}
  chain from_gone {{
    meta mark set meta mark & {UNMARKED:#010x}
    jump between
  }}
""",
)
