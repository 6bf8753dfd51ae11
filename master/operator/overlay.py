"""DC/OS' view of virtual networks, for who reads it (reference dcos-net §3.6); pure."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

from phalanx.net.model.objects import NODES6, IPNetwork, Network, SubnetLease, node6

TUNNEL = "phx-vxlan"
OK = {"status": "STATUS_OK"}


def overlay_state(
    networks: Mapping[str, Network],
    leases: Iterable[SubnetLease],
    agents: Iterable[IPv4Address],
) -> dict[str, Any]:
    """Return what ``/overlay-master/state`` shows: all networks, and what each agent has."""
    of_node: dict[IPv4Address, list[SubnetLease]] = {agent: [] for agent in agents}
    for lease in leases:
        if lease.node in of_node:
            of_node[lease.node].append(lease)
    return {
        "network": {
            "vtep_subnet6": str(NODES6),
            "overlays": [_info(each) for each in sorted(networks.values(), key=lambda n: n.vni)],
        },
        "agents": [agent_overlays(at, networks, of_node[at]) for at in sorted(of_node)],
    }


def agent_overlays(
    agent: IPv4Address, networks: Mapping[str, Network], leases: Sequence[SubnetLease]
) -> dict[str, Any]:
    """Return what an agent has of each network; *leases* are its own."""
    return {
        "ip": str(agent),
        "overlays": [
            _overlay(networks[lease.network], lease)
            for lease in sorted(leases, key=lambda lease: lease.network)
            if lease.network in networks
        ],
    }


def _overlay(network: Network, lease: SubnetLease) -> dict[str, Any]:
    # One bridge serves both containerizers: neither has a half of the lease to itself.
    bridge = {"name": f"phx-{network.vni}", **_subnets(lease.subnet, lease.subnet6, "ip", "ip6")}
    vtep: dict[str, Any] = {
        "vni": network.vni,
        "vtep_name": TUNNEL,
        "vtep_ip": f"{lease.node}/32",
        "vtep_ip6": f"{node6(lease.node)}/128",
        "vtep_mtu": network.mtu,
    }
    return {
        "info": _info(network),
        **_subnets(lease.subnet, lease.subnet6, "subnet", "subnet6"),
        "mesos_bridge": bridge,
        "docker_bridge": bridge,
        "backend": {"vxlan": vtep},
        "state": OK,
    }


def _info(network: Network) -> dict[str, Any]:
    info: dict[str, Any] = {"name": network.name, "enabled": True}
    if network.subnet is not None:
        info |= {"subnet": str(network.subnet), "prefix": network.prefix}
    if network.subnet6 is not None:
        info |= {"subnet6": str(network.subnet6), "prefix6": network.prefix6}
    return info


def _subnets(
    subnet: IPNetwork | None, subnet6: IPNetwork | None, name: str, name6: str
) -> dict[str, str]:
    given = ((name, subnet), (name6, subnet6))
    return {key: str(value) for key, value in given if value is not None}
