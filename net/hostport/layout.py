"""The constant part of the tables ``phalanx_cni``: sets, maps, chains and rules.

A container is some elements; no rule is of one container alone, so a packet
meets as many rules with ten thousand containers as with one. It is all written
anew when a set is missing: rules of an older version go, sets and what they
hold stay, and so do the chains of ports with conditions, which are not here.
"""

TABLE = "phalanx_cni"  # listed in docs/reference/marks.md

# The target of a neighbour solicitation or advertisement, and the MAC in the one option that it has
# (RFC 4861, 4.3, 4.4, 4.6.1); of a router solicitation, which has no target (4.1). nft 1.0.6 knows
# no names for them.
TARGET, OPTION, OPTION_MAC = "@th,64,128", "@th,192,8", "@th,208,48"
ROUTERS_OPTION_MAC = "@th,80,48"
NONCE = 14  # the option of RFC 7527, 4

# The kernel lets no answer in for ::1, whatever it was translated from. Who asks localhost is
# refused there at once and goes on with 127.0.0.1, or meets who listens on ::1 himself.
SELF = "ip6 daddr ::1"

TEXT = f"""
table inet {TABLE} {{
  chain translate {{ }}
  chain prerouting {{ type nat hook prerouting priority dstnat; policy accept; }}
  chain output {{ type nat hook output priority -100; policy accept; }}
  chain postrouting {{ type nat hook postrouting priority srcnat; policy accept; }}
  chain forward {{ type filter hook forward priority filter; policy accept; }}
}}
flush chain inet {TABLE} translate
flush chain inet {TABLE} prerouting
flush chain inet {TABLE} output
flush chain inet {TABLE} postrouting
flush chain inet {TABLE} forward
table bridge {TABLE} {{ }}
flush table bridge {TABLE}
table inet {TABLE} {{
  map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
  map own4 {{ type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }}
  map own6 {{ type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }}
  set near4 {{ type ipv4_addr . ipv4_addr; flags interval; }}
  set near6 {{ type ipv6_addr . ipv6_addr; flags interval; }}
  set masked4 {{ type ipv4_addr; }}
  set masked6 {{ type ipv6_addr; }}
  set returned4 {{ type ipv4_addr; }}
  set returned6 {{ type ipv6_addr; }}
  set hidden4 {{ type ipv4_addr; }}
  set hidden6 {{ type ipv6_addr; }}
  set fenced {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  chain translate {{
    meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport map @own4
    meta nfproto ipv6 dnat ip6 to ip6 daddr . meta l4proto . th dport map @own6
    meta nfproto ipv4 dnat ip to meta l4proto . th dport map @any4
    meta nfproto ipv6 dnat ip6 to meta l4proto . th dport map @any6
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump translate
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    {SELF} return
    fib daddr type local jump translate
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat ip daddr @hidden4 masquerade
    ct status dnat ip6 daddr @hidden6 masquerade
    ct status dnat ip daddr @returned4 ip saddr 127.0.0.0/8 masquerade
    ct status dnat ip daddr @returned4 ip saddr . ip daddr @near4 masquerade
    ct status dnat ip6 daddr @returned6 ip6 saddr . ip6 daddr @near6 masquerade
    ip saddr @masked4 ip daddr != 224.0.0.0/4 ip saddr . ip daddr != @near4 masquerade
    ip6 saddr @masked6 ip6 daddr != ff00::/8 ip6 saddr . ip6 daddr != @near6 masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname . oifname @same accept
    iifname @fenced oifname @fenced counter drop comment "between fenced bridges"
  }}
}}
table bridge {TABLE} {{
  set isolated {{ type ifname; }}
  set guarded {{ type ifname; }}
  set tagged {{ type ifname; }}
  set mac {{ type ifname . ether_addr; }}
  set own4 {{ type ifname . ether_addr . ipv4_addr; }}
  set own6 {{ type ifname . ether_addr . ipv6_addr; }}
  set target {{ typeof iifname . {TARGET}; }}
  set linked {{ typeof iifname . {OPTION_MAC}; }}
  chain neighbour {{
    ip6 nexthdr != icmpv6 counter drop comment "neighbour discovery is never behind a header"
    icmpv6 type {{ nd-router-advert, nd-redirect }} counter drop comment "no router of ours"
    icmpv6 type nd-router-solicit ip6 length <= 8 return
    icmpv6 type nd-router-solicit ip6 length <= 16 iifname . {ROUTERS_OPTION_MAC} @linked return
    icmpv6 type nd-router-solicit counter drop comment "another's MAC told"
    icmpv6 type nd-neighbor-advert iifname . {TARGET} != @target counter drop \
comment "another's address told"
    ip6 saddr :: iifname . {TARGET} != @target counter drop comment "another's address asked for"
    ip6 length <= 24 return
    ip6 length <= 32 iifname . {OPTION_MAC} @linked return
    ip6 length <= 32 {OPTION} {NONCE} return
    counter drop comment "another's MAC told"
  }}
  chain guard {{
    iifname . ether saddr . ip saddr @own4 accept
    iifname . ether saddr . ip6 saddr @own6 accept
    ether type arp iifname . arp saddr ether . arp saddr ip @own4 iifname . ether saddr @mac accept
    ether type arp arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @own4 \
iifname . ether saddr @mac accept comment "asks whether its address is taken"
    counter drop comment "not the container's own address"
  }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname @tagged iifname . ether saddr != @mac counter drop comment "not the container's own MAC"
    iifname @guarded icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, \
nd-neighbor-advert, nd-redirect }} jump neighbour
    iifname @guarded udp dport {{ 68, 546 }} counter drop comment "no DHCP server of ours"
    iifname @guarded jump guard
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname @isolated oifname @isolated counter drop comment "between isolated containers"
  }}
}}
"""
