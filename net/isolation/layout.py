"""The constant part of the isolation table: its sets, maps, chains and rules.

A packet between two ends is looked up in four steps, whatever the number of
policies: its source has a class (`fine` for a container that labels select,
`wide` for a prefix), class and destination have a pair (`near` a container,
`far` a prefix), and the pair has decisions by protocol and port. Between the
steps the class, then the pair, rides in the packet's priority, which the
kernel sets from its type of service just before this hook, and so do we after.
Everything that is found by one key lies in a hash: it costs the same with ten
elements and with a hundred thousand, and an element that is put in the place
of another is never missing.
"""

from phalanx.net.nft.layout import Layout

NETWORKS = "networks"  # prefixes of all virtual networks
WALLED = "walled"  # prefixes of those that are isolated
SAME = "same"  # each prefix with itself
FINE, WIDE = "fine", "wide"  # address to class, prefix to class
NEAR, FAR = "near", "far"  # class and address to pair, class and prefix to pair
PORTS, RANGES = "ports", "ranges"  # pair, protocol and port, or range of ports, to decision
PROTOCOLS, OTHERS = "protocols", "others"  # pair and protocol to decision; pair to decision
RESOLVERS = "resolvers"  # addresses of the node's resolver
VIPS = "vips"  # where virtual addresses lie: a load balancer takes what comes for them
FENCED = "fenced"  # protocols of which containers reach on the node only what is declared
SERVICES = "services"  # protocol and ports of the node that containers may reach

# Decisions: both the source's wall and the destination's are open, one of them is shut, or only
# one of them was decided by policies, and the other's default is asked.
PASS, REFUSE, LEAVES, ENTERS = "goto pass", "goto refuse", "goto leaves", "goto enters"

# Set on a packet that a link brought for a local process, cleared in output. Only a packet that
# IPVS sends on comes there with them. Listed in docs/reference/marks.md.
RECEIVED_MARK = 0x02000000
HOMELESS_MARK = 0x04000000  # and its source is a container of a network that is gone
UNMARKED = 0xFFFFFFFF & ~(RECEIVED_MARK | HOMELESS_MARK)

_FAMILIES = {
    "4": (
        "ip",
        "ipv4_addr",
        "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    ),
    "6": (
        "ip6",
        "ipv6_addr",
        "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
    ),
}
_BRIDGE = 'iifname "phx-*" iifname != "phx-vxlan"'
_TO_BRIDGE = 'oifname "phx-*" oifname != "phx-vxlan"'
_ANSWER = "ct state established ct direction reply"
# The same two bits of the type of service as in `ip dscp & 0x06`, whatever the packet's family:
# where they are 0 nothing is left to do, and in IPv6 they are of no weight.
_TYPE_OF_SERVICE = "@nh,8,8 & 0x18"


def _sets() -> str:
    lines = []
    for version, (_, kind, _) in _FAMILIES.items():
        lines += [
            f"set {NETWORKS}{version} {{ type {kind}; flags interval; }}",
            f"set {WALLED}{version} {{ type {kind}; flags interval; }}",
            f"set {SAME}{version} {{ type {kind} . {kind}; flags interval; }}",
            f"map {FINE}{version} {{ type {kind} : classid; }}",
            f"map {WIDE}{version} {{ type {kind} : classid; flags interval; }}",
            f"map {NEAR}{version} {{ type classid . {kind} : classid; }}",
            f"map {FAR}{version} {{ type classid . {kind} : classid; flags interval; }}",
            f"set {RESOLVERS}{version} {{ type {kind}; }}",
            f"set {VIPS}{version} {{ type {kind}; flags interval; }}",
        ]
    lines += [
        f"map {PORTS} {{ type classid . inet_proto . inet_service : verdict; }}",
        f"map {RANGES} {{ type classid . inet_proto . inet_service : verdict; flags interval; }}",
        f"map {PROTOCOLS} {{ type classid . inet_proto : verdict; }}",
        f"map {OTHERS} {{ type classid : verdict; }}",
        f"set {FENCED} {{ type inet_proto; flags interval; }}",
        f"set {SERVICES} {{ type inet_proto . inet_service; flags interval; }}",
    ]
    return "".join(f"  {line}\n" for line in lines)


def _lookup(name: str, port: str) -> str:
    """Render the chain that looks a pair's decisions up, for questions or for answers."""
    return f"""\
  chain {name} {{
    meta priority . meta l4proto . th {port} vmap @{PORTS}
    meta priority . meta l4proto . th {port} vmap @{RANGES}
    meta priority . meta l4proto vmap @{PROTOCOLS}
    meta priority vmap @{OTHERS}
    goto default
  }}
"""


def _judge(version: str) -> str:
    """Render the chains that find the pair of a packet and of the question that it answers.

    What is judged of an answer is the question: taking a policy back also ends
    the flows that it had let in.
    """
    word, _, _ = _FAMILIES[version]
    return f"""\
  chain judge{version} {{
    meta priority set {word} saddr map @{WIDE}{version} goto ends{version}
    goto default
  }}
  chain ends{version} {{
    meta priority set meta priority . {word} daddr map @{NEAR}{version} goto asked
    meta priority set meta priority . {word} daddr map @{FAR}{version} goto asked
    goto default
  }}
  chain answer{version} {{
    meta priority set {word} daddr map @{WIDE}{version} goto swapped{version}
    goto default
  }}
  chain swapped{version} {{
    meta priority set meta priority . {word} saddr map @{NEAR}{version} goto answered
    meta priority set meta priority . {word} saddr map @{FAR}{version} goto answered
    goto default
  }}
"""


def _walls() -> str:
    """Render the rules that every packet meets first.

    A container that labels select is asked for before the networks: a hash costs less than a tree.
    """
    return "    ct direction reply goto answers\n" + _networks("saddr", "ends", "judge")


def _answers() -> str:
    """Render the same for packets that answer: what is judged of them is the question."""
    return _networks("daddr", "swapped", "answer")


def _networks(near: str, fine: str, other: str) -> str:
    rules = [
        f"meta priority set {word} {near} map @{FINE}{version} goto {fine}{version}"
        for version, (word, _, _) in _FAMILIES.items()
    ]
    rules += [
        f"{word} {end} @{NETWORKS}{version} goto {other}{version}"
        for version, (word, _, _) in _FAMILIES.items()
        for end in ("saddr", "daddr")
    ]
    return "".join(f"    {rule}\n" for rule in rules)


def _errors() -> str:
    """Render the rules that let errors about flows pass, whoever may say nothing else."""
    return "".join(f"    ct state related {each} goto pass\n" for _, _, each in _FAMILIES.values())


def _wall(near: str, far: str) -> str:
    """Render the rules that refuse when the wall around the network of *near* is shut."""
    return "".join(
        f"    {word} {near} @{WALLED}{version} {word} {far} @{NETWORKS}{version} goto refuse\n"
        for version, (word, _, _) in _FAMILIES.items()
    )


def _same() -> str:
    """Render the rules that let everything pass within one network.

    They are asked before anything is refused: what policies let pass passes sooner without.
    """
    return "".join(
        f"    {word} saddr . {word} daddr @{SAME}{version} goto pass\n"
        for version, (word, _, _) in _FAMILIES.items()
    )


def _strays(verdict: str) -> str:
    """Render the rules for the containers of networks that are gone: walled like any."""
    rules = [f"meta mark & {HOMELESS_MARK:#010x} != 0 {verdict}"]
    for version, (word, _, _) in _FAMILIES.items():
        rules += [
            f"{_BRIDGE} {word} saddr != @{NETWORKS}{version} {word} daddr @{NETWORKS}{version}"
            f" {verdict}",
            f"{_TO_BRIDGE} {word} saddr @{NETWORKS}{version} {word} daddr != @{NETWORKS}{version}"
            f" fib daddr type unicast {verdict}",
        ]
    return "".join(f"    {rule}\n" for rule in rules)


# A packet between networks passes when its own ends and port say so. At this hook destination
# addresses are translated already and sources not yet: what is judged are the two containers,
# whatever VIP stands between them.
#
# Judging addresses is worth something only if they are true: what comes from a bridge is first
# asked whether its source lies behind that bridge. The tunnel is no Ethernet link.
#
# What is in the direction of answers belongs to a flow, or is an error about one; errors pass
# in `refuse`, so that other packets need not be asked whether they are one.
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
{_sets()}\
  chain pass {{
    meta priority set none
    {_TYPE_OF_SERVICE} != 0 meta nfproto ipv4 meta priority set ip dscp & 0x06 map {{ \
0 : 0:0, 2 : 0:2, 4 : 0:6, 6 : 0:4 }}
  }}
  chain refuse {{
{_errors()}\
{_same()}\
    ct state new ct status dnat counter reject with icmpx admin-prohibited \
comment "between networks, by a VIP"
    meta l4proto tcp counter reject with tcp reset comment "between networks"
    counter reject with icmpx admin-prohibited comment "between networks"
  }}
  chain strays {{
{_strays("goto refuse")}\
  }}
  chain default {{
{_same()}\
    jump strays
{_wall("saddr", "daddr")}\
{_wall("daddr", "saddr")}\
    goto pass
  }}
  chain leaves {{
    jump strays
    {_ANSWER} goto leaves_answered
{_wall("daddr", "saddr")}\
    goto pass
  }}
  chain leaves_answered {{
{_wall("saddr", "daddr")}\
    goto pass
  }}
  chain enters {{
    jump strays
    {_ANSWER} goto enters_answered
{_wall("saddr", "daddr")}\
    goto pass
  }}
  chain enters_answered {{
{_wall("daddr", "saddr")}\
    goto pass
  }}
{_lookup("asked", "dport")}\
{_lookup("answered", "sport")}\
{_judge("4")}\
{_judge("6")}\
  chain answers {{
{_answers()}\
  }}
  chain walls {{
{_walls()}\
  }}
  chain borrowed {{
    iifname "phx-vxlan" return
    ip daddr {{ 224.0.0.0/4, 255.255.255.255 }} return
    ip6 daddr ff00::/8 return
    counter drop comment "an address of somebody else"
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iiftype ether iifname "phx-*" fib saddr . iif oif missing jump borrowed
{_walls()}\
  }}
  chain node {{
    ct state established,related accept
    ct status dnat accept comment "a VIP or a mapped port"
    meta l4proto {{ tcp, udp, sctp }} meta l4proto . th dport @{SERVICES} accept
    meta l4proto {{ tcp, udp }} th dport 53 ip daddr @{RESOLVERS}4 accept
    meta l4proto {{ tcp, udp }} th dport 53 ip6 daddr @{RESOLVERS}6 accept
    ip daddr @{VIPS}4 accept comment "the load balancer's"
    ip6 daddr @{VIPS}6 accept comment "the load balancer's"
    icmp type {{ echo-request, destination-unreachable, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ echo-request, destination-unreachable, packet-too-big, time-exceeded, \
parameter-problem, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, \
mld-listener-report, mld2-listener-report, mld-listener-done }} accept
    fib daddr type != local drop
    meta l4proto tcp counter reject with tcp reset comment "no service for containers"
    counter reject with icmpx admin-prohibited comment "no service for containers"
  }}
  chain no_vip {{
    ct state established,related accept
    meta l4proto tcp counter reject with tcp reset comment "a VIP's address, and no VIP"
    counter reject with icmpx port-unreachable comment "a VIP's address, and no VIP"
  }}
  chain fence {{
    type filter hook input priority filter; policy accept;
    iifname "phx-*" meta l4proto @{FENCED} jump node
  }}
  chain left_over {{
    type filter hook input priority 110; policy accept;
    iifname "phx-*" meta l4proto {{ tcp, udp, sctp }} ip daddr @{VIPS}4 jump no_vip
    iifname "phx-*" meta l4proto {{ tcp, udp, sctp }} ip6 daddr @{VIPS}6 jump no_vip
  }}
  chain input {{
    type filter hook input priority 90; policy accept;
    {_BRIDGE} jump arriving
    iif != lo meta mark set meta mark | {RECEIVED_MARK:#010x}
  }}
  chain arriving {{
    meta nfproto ipv4 fib saddr . iif oif missing counter drop \
comment "an address of somebody else"
    ip saddr != @{NETWORKS}4 meta mark set meta mark | {HOMELESS_MARK:#010x}
    ip6 saddr != fe80::/10 ip6 saddr != @{NETWORKS}6 meta mark set meta mark | {HOMELESS_MARK:#010x}
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    meta mark & {RECEIVED_MARK:#010x} != 0 jump walls
    meta mark & {RECEIVED_MARK | HOMELESS_MARK:#010x} != 0 \
meta mark set meta mark & {UNMARKED:#010x}
  }}
""",
)
