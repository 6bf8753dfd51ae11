"""The numbers by which the kernel objects of the overlay are known as ours."""

PROTOCOL = 122  # of every route and rule that we make; listed in docs/reference/marks.md
TUNNEL = "phx-vxlan"  # the one VXLAN link

TABLE_MAIN = 254
TABLE_LOCAL = 255
TABLE_NODES = 122  # the way to other nodes' own addresses, for containers only
RULE_PRIORITY = 12200  # after the local table (0), before main (32766)
METRICS = 65521  # routes into the tunnel have metrics of 1 to this; a prime spreads nodes well
UNREACHABLE_METRIC = 1 << 31  # any other route to the same prefix comes first

VXLAN_PORT = 64000
NODE_VNI = 1  # between containers and nodes; the networks' own start at 1024
