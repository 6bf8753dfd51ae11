"""The bridge that containers of a node share when they ask for no network of the cluster; pure."""

import json
from pathlib import Path

NETWORK = "mesos-bridge"  # what Marathon's mode "container/bridge" comes to
LINK = "ucr-br0"
SUBNET = "172.31.254.0/24"  # of every node: it is masqueraded


def bridge_config(leases: Path) -> str:
    """Return the CNI configuration of the bridge, whose addresses are kept below *leases*."""
    ipam = {
        "type": "phalanx-ipam",
        "subnet": SUBNET,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": str(leases),
    }
    bridge = {
        "type": "phalanx-bridge",
        "bridge": LINK,
        "isDefaultGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    ports = {"type": "phalanx-portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": NETWORK, "plugins": [bridge, ports]})
