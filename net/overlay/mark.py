"""The numbers by which the kernel objects of the overlay are known as ours."""

PROTOCOL = 122  # of every route and rule that we make; listed in docs/reference/marks.md
TUNNEL = "phx-vxlan"  # the one VXLAN link

TABLE_MAIN = 254
TABLE_LOCAL = 255
TABLE_NODES = 122  # the way to other nodes' own addresses, for containers only
RULE_PRIORITY = 12200  # after the local table (0), before main (32766)
METRICS = 65521  # routes into the tunnel have metrics of 1 to this; a prime spreads nodes well
UNREACHABLE_METRIC = 1 << 31  # any other route to the same prefix comes first

METRIC6 = 1024  # of IPv6 routes where there is no need of another; the kernel's own default

VXLAN_PORT = 64000
PEER_PORT = 62082  # where planes ask one another, unless set otherwise
VXLAN_MARK = 0x08000000  # on a packet that the tunnel sends; listed in docs/reference/marks.md
UNDERLAY_MARK = 0x10000000  # on a packet that the rule passes over; listed there, too
OVERHEAD = 36  # bytes that VXLAN-GPE over IPv4 adds to a packet: IPv4 20, UDP 8, VXLAN 8
LEAST_MTU = 1280  # of the tunnel: IPv6 needs it (RFC 8200 §5)
NODE_VNI = 1  # between containers and nodes; the networks' own start at 1024
