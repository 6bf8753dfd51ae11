"""Make and unmake the namespaces of a lab and the wires between them."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress

from phalanx.core.error import DataplaneError
from phalanx.labs.exec import ip_batch, nft, read_ports, set_port
from phalanx.labs.namespace import write_sysctls
from phalanx.labs.place import NETNS, NETNS_ETC, Place
from phalanx.labs.topology import ROUTER, Node, Topology
from phalanx.labs.underlay import (
    PORT_DISABLED,
    PORT_FORWARDING,
    ROUTER_SYSCTLS,
    hosts,
    node_script,
    port_script,
    readdress_script,
    resolv_conf,
    router_rules,
    router_script,
    sysctls_of,
)
from phalanx.net.hostport.orphan import remove_kept


def add_router(place: Place, topology: Topology) -> None:
    """Make the router with a bridge for each segment."""
    netns = place.netns(ROUTER)
    ip_batch([f"netns add {netns}"])
    write_sysctls(place.netns_path(ROUTER), ROUTER_SYSCTLS)
    nft(router_rules(), netns=netns)
    ip_batch(router_script(topology), netns=netns)
    _dress(place, topology, ROUTER, "# the router: no nameserver here\n")


def add_node(place: Place, topology: Topology, node: Node, *, nameservers: Sequence[str]) -> None:
    """Make a node's namespace and plug it into its segment."""
    netns = place.netns(node.name)
    ip_batch([f"netns add {netns}"])
    write_sysctls(place.netns_path(node.name), sysctls_of(node.role))
    ip_batch(port_script(place, node), netns=place.netns(ROUTER))
    ip_batch(node_script(topology, node), netns=netns)
    _dress(place, topology, node.name, resolv_conf(node, nameservers))


def _dress(place: Place, topology: Topology, name: str, resolvers: str) -> None:
    etc = place.netns_etc(name)
    etc.mkdir(parents=True, exist_ok=True)
    (etc / "resolv.conf").write_text(resolvers)
    (etc / "hosts").write_text(hosts(topology))


def cut_power(place: Place, node: str) -> None:
    """Take a node's link down, at the router: nothing of it is heard from then on."""
    ip_batch([f"link set {node} down"], netns=place.netns(ROUTER))


def change_address(place: Place, topology: Topology, before: Node, after: Node) -> None:
    """Give a node its other address; every node's hosts file tells of it."""
    ip_batch(readdress_script(topology, before, after), netns=place.netns(after.name))
    for name in (ROUTER, *(node.name for node in topology.nodes)):
        (place.netns_etc(name) / "hosts").write_text(hosts(topology))


def unplug(place: Place, node: str) -> None:
    """Remove a node's link and its namespace, as far as they are there."""
    with suppress(DataplaneError):
        # With its end in the router; a namespace's own removal would take its time over it.
        ip_batch([f"link delete {node}"], netns=place.netns(ROUTER))
    with suppress(DataplaneError):
        remove_namespace(place.netns(node))


def cut_off(place: Place, node: str) -> None:
    """Let nothing pass to or from a node, silently: its link stays up."""
    set_port(place.netns(ROUTER), node, PORT_DISABLED)


def join(place: Place, node: str) -> None:
    """Let traffic pass to and from a node again."""
    set_port(place.netns(ROUTER), node, PORT_FORWARDING)


def cut_off_nodes(place: Place) -> frozenset[str]:
    """Return the nodes to and from which nothing passes, as the kernel says."""
    try:
        ports = read_ports(place.netns(ROUTER))
    except DataplaneError:
        return frozenset()
    return frozenset(name for name, state in ports.items() if state == "disabled")


def found_namespaces(place: Place) -> Sequence[str]:
    """Return the names of the lab's namespaces that exist."""
    with suppress(FileNotFoundError):
        return sorted(n for n in os.listdir(NETNS) if n.startswith(place.netns_prefix))
    return []


def remove_namespace(name: str) -> None:
    """Remove a namespace with all that is in it, and what CNI plugins keep of it."""
    with suppress(OSError):
        remove_kept(NETNS / name)
    ip_batch([f"netns delete {name}"])


def found_etc(place: Place) -> Sequence[str]:
    """Return the names of the lab's directories in /etc/netns."""
    with suppress(FileNotFoundError):
        return sorted(n for n in os.listdir(NETNS_ETC) if n.startswith(place.netns_prefix))
    return []


def remove_etc(name: str) -> None:
    """Remove a namespace's directory in /etc/netns, and that when it was the last."""
    shutil.rmtree(NETNS_ETC / name)
    with suppress(OSError):
        NETNS_ETC.rmdir()
