"""A node and its containers, attached by the plane's own code, without a plane."""

import json
import subprocess
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_interface
from pathlib import Path
from typing import Any
from uuid import uuid4

from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.commands import carry_out
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.attachment.request import Command, Request
from phalanx.net.ipam.owner import Owner
from phalanx.net.ipam.store import AddressStore

FOUR = LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1"))
SIX = LeasedSubnet(
    IPv6Network("fd01:b::/64"), IPv6Network("fd01:b:0:0:1::/80"), IPv6Address("fd01:b::1:0:0:1")
)
OTHER = LeasedSubnet(
    IPv6Network("fd01:c::/64"), IPv6Network("fd01:c:0:0:1::/80"), IPv6Address("fd01:c::1:0:0:1")
)
NETWORKS = {
    "both": LeasedNetwork("both", 1027, 1400, (FOUR, SIX)),
    "other": LeasedNetwork("other", 1028, 1400, (OTHER,)),
}


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def pings(netns: str, address: str) -> bool:
    done = subprocess.run(
        ["ip", "netns", "exec", netns, "ping", "-c", "1", "-w", "10", address], capture_output=True
    )
    return done.returncode == 0


class Lab:
    """A node and its containers."""

    def __init__(self, node: str, directory: Path, stack: ExitStack) -> None:
        self.node = node
        self._stack = stack
        self.links = KernelLinks(netns=Path("/run/netns", node))
        stack.callback(self.links.close)
        self.leases = AddressStore(directory / "ipam")
        ports = KernelHostPorts(directory=directory / "run")
        self.attachments = Attachments(self.links, self.leases, ports)

    def container(self) -> str:
        name = f"phxtest-c{uuid4().hex[:8]}"
        ip("netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
        return name

    def run(
        self,
        command: Command,
        container: str,
        network: str = "both",
        *,
        ifname: str = "eth0",
        **fields: Any,
    ) -> dict[str, Any]:
        owner = Owner(container, ifname)
        netns = f"/run/netns/{container}"
        request = Request(command, "1.1.0", network, owner, netns=netns, **fields)
        return self.links.run(
            lambda: carry_out(self.attachments, request, lambda: NETWORKS[network])
        )

    def add(self, container: str, network: str = "both", **fields: Any) -> list[str]:
        result = self.run(Command.ADD, container, network, **fields)
        return [str(ip_interface(item["address"]).ip) for item in result["ips"]]

    def names(self) -> set[str]:
        return {link["ifname"] for link in json.loads(ip("-n", self.node, "-j", "link"))}
