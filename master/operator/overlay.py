"""DC/OS' view of virtual networks, for who reads it (reference dcos-net §3.6); pure."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from phalanx.net.model.dcos import agent_overlays, overlay_info
from phalanx.net.model.objects import NODES6, Network, SubnetLease


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
    by_vni = sorted(networks.values(), key=lambda network: network.vni)
    return {
        "network": {
            "vtep_subnet6": str(NODES6),
            "overlays": [overlay_info(network) for network in by_vni],
        },
        "agents": [agent_overlays(at, networks, of_node[at]) for at in sorted(of_node)],
    }
