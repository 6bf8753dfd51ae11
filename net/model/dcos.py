"""DC/OS' form of what a node has of virtual networks (reference dcos-net §3.6); pure."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from phalanx.net.model.objects import IPNetwork, Network, SubnetLease, node6

TUNNEL = "phx-vxlan"
OK: Mapping[str, str] = {"status": "STATUS_OK"}
CONFIGURING: Mapping[str, str] = {"status": "STATUS_CONFIGURING"}


def failed(error: str) -> Mapping[str, str]:
    """Return the state of what could not be configured."""
    return {"status": "STATUS_FAILED", "error": error}


def agent_overlays(
    agent: IPv4Address,
    networks: Mapping[str, Network],
    leases: Iterable[SubnetLease],
    state: Mapping[str, str] = OK,
) -> dict[str, Any]:
    """Return what an agent has of each network, in one *state*; *leases* are its own."""
    return {
        "ip": str(agent),
        "overlays": [
            _overlay(networks[lease.network], lease, state)
            for lease in sorted(leases, key=lambda lease: lease.network)
            if lease.network in networks
        ],
    }


def overlay_info(network: Network) -> dict[str, Any]:
    """Return what a network is, whoever has a part of it."""
    info: dict[str, Any] = {"name": network.name, "enabled": True}
    if network.subnet is not None:
        info |= {"subnet": str(network.subnet), "prefix": network.prefix}
    if network.subnet6 is not None:
        info |= {"subnet6": str(network.subnet6), "prefix6": network.prefix6}
    return info


def _overlay(network: Network, lease: SubnetLease, state: Mapping[str, str]) -> dict[str, Any]:
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
        "info": overlay_info(network),
        **_subnets(lease.subnet, lease.subnet6, "subnet", "subnet6"),
        "mesos_bridge": bridge,
        "docker_bridge": bridge,
        "backend": {"vxlan": vtep},
        "state": dict(state),
    }


def _subnets(
    subnet: IPNetwork | None, subnet6: IPNetwork | None, name: str, name6: str
) -> dict[str, str]:
    given = ((name, subnet), (name6, subnet6))
    return {key: str(value) for key, value in given if value is not None}
