"""The CNI configuration file of each network on a node; pure."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Address

from phalanx.net.attachment.bridge import leased_networks
from phalanx.net.model.view import View

TYPE = "phalanx-net"  # our mark; listed in docs/reference/marks.md
SUFFIX = ".conf"
CAPABILITIES = ("portMappings", "ips", "ipRanges", "mac", "bandwidth", "dns")


def desired_config_files(view: View, *, node: IPv4Address, socket: str) -> Mapping[str, str]:
    """Return the text of each file by the name of its network."""
    return {name: config_text(name, socket) for name in leased_networks(view, node=node)}


def config_text(network: str, socket: str) -> str:
    """Return the configuration that leads a plugin to this node's plane."""
    config = {
        "cniVersion": "1.0.0",
        "name": network,
        "type": TYPE,
        "capabilities": dict.fromkeys(CAPABILITIES, True),
        "socket": socket,
    }
    return json.dumps(config) + "\n"


def is_ours(text: str) -> bool:
    """Tell whether a configuration file carries our mark."""
    try:
        config = json.loads(text)
    except ValueError:
        return False
    return isinstance(config, dict) and config.get("type") == TYPE
