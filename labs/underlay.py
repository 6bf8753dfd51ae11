"""The wires of a lab as scripts for iproute2 and nft: pure text, nothing done here.

Everything lies inside the lab's own namespaces. The router's namespace holds one bridge a
segment and, as the bridge's port, one end of each node's veth; the other end is the node's
``eth0``. So labs side by side can use the same addresses, and the host sees none of them.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from phalanx.labs.place import Place
from phalanx.labs.topology import ROUTER, UNDERLAY, Node, Role, Topology

# A port in this state passes nothing in either direction, and nobody is told.
PORT_DISABLED = 0
PORT_FORWARDING = 3

ROUTER_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.default.disable_ipv6": "1",
}
# What a Debian host has whose operator set up containers; a namespace would
# otherwise inherit whatever this machine happens to have.
NODE_SYSCTLS: Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv6.conf.default.accept_dad": "0",
}
CLIENT_SYSCTLS: Mapping[str, str] = {"net.ipv4.ip_forward": "0"}


def bridge_of(segment: str) -> str:
    """Return the name of a segment's bridge in the router's namespace."""
    return f"br-{segment}"


def link_address(address: IPv4Address) -> str:
    """Return the link address that goes with an underlay address: machines keep theirs for ever.

    One that changed with each power cycle would leave the neighbours, for the better
    part of a minute, with one that nobody answers to.
    """
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x00, *address.packed))


def sysctls_of(role: Role) -> Mapping[str, str]:
    """Return the sysctls of a node."""
    return CLIENT_SYSCTLS if role is Role.CLIENT else NODE_SYSCTLS


def router_script(topology: Topology) -> Sequence[str]:
    """Return the lines for ``ip -batch`` in the router's namespace: lo and the bridges."""
    lines = ["link set lo up"]
    for segment in topology.segments:
        bridge = bridge_of(segment.name)
        lines += [
            f"link add {bridge} address {link_address(segment.gateway)} "
            "type bridge stp_state 0 mcast_snooping 0",
            f"address add {segment.gateway}/{segment.subnet.prefixlen} dev {bridge}",
            f"link set {bridge} up",
        ]
    return lines


def port_script(place: Place, node: Node) -> Sequence[str]:
    """Return the lines for ``ip -batch`` in the router's namespace that plug a node in."""
    return [
        f"link add {node.name} type veth "
        f"peer name eth0 address {link_address(node.address)} netns {place.netns(node.name)}",
        f"link set {node.name} master {bridge_of(node.segment)}",
        f"link set {node.name} up",
    ]


def node_script(topology: Topology, node: Node) -> Sequence[str]:
    """Return the lines for ``ip -batch`` in the node's namespace.

    A client knows the way to the underlay only, so that it can reach a container
    or a VIP no other way than through a node.
    """
    segment = topology.segment(node.segment)
    destination = str(UNDERLAY) if node.role is Role.CLIENT else "default"
    return [
        "link set lo up",
        f"address add {node.address}/{segment.subnet.prefixlen} dev eth0",
        "link set eth0 up",
        f"route add {destination} via {segment.gateway}",
    ]


def readdress_script(topology: Topology, before: Node, after: Node) -> Sequence[str]:
    """Return the lines for ``ip -batch`` that give a node, not a client, another address."""
    segment = topology.segment(after.segment)
    length = segment.subnet.prefixlen
    return [
        f"address delete {before.address}/{length} dev eth0",
        f"address add {after.address}/{length} dev eth0",
        f"route replace default via {segment.gateway}",
    ]


def router_rules() -> str:
    """Return the nft script that makes the router as strict as a real network's.

    What does not come from an underlay address is dropped: a container's packet
    that leaves its node without encapsulation or masquerade gets nowhere.
    """
    return f"""\
table inet phxlab {{
    chain strict {{
        type filter hook prerouting priority raw; policy accept;
        ip saddr != {UNDERLAY} counter drop
    }}
}}
"""


def resolv_conf(node: Node, nameservers: Sequence[str]) -> str:
    """Return a node's resolv.conf; a client, outside the cluster, has no nameserver of it."""
    if node.role is Role.CLIENT:
        return "# a client outside the cluster: no nameserver here\n"
    return "".join(f"nameserver {address}\n" for address in nameservers) + (
        "options timeout:1 attempts:3\n"
    )


def hosts(topology: Topology) -> str:
    """Return the hosts file of every node."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    lines += [f"{segment.gateway} {ROUTER}-{segment.name}" for segment in topology.segments]
    lines += [f"{node.address} {node.name}" for node in topology.nodes]
    return "\n".join(lines) + "\n"
