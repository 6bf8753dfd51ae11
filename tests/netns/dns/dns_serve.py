"""Serve a small cluster's names on 198.51.100.1:53 of a namespace until standard input ends."""

import asyncio
import sys
from ipaddress import IPv4Address

import uvloop

from phalanx.core.log import configure_log
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase, TaskPort, VipLease
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")
SERVER = IPv4Address("198.51.100.1")
UPSTREAM = IPv4Address("198.51.100.2")


def cluster() -> View:
    """Return a View with ``web`` on three addresses, ``big`` on a hundred, and a VIP."""
    tasks = [
        Task(
            framework_id="f",
            id=f"{name}.{number}",
            name=name,
            agent_id="x-S0",
            node=NODE,
            phase=TaskPhase.RUNNING,
            addresses=(IPv4Address("9.0.0.0") + number,),
            networks=("dcos",),
            discovery_name=name,
            ports=(TaskPort(80, "http"),),
        )
        for name, numbers in (("web", range(1, 4)), ("big", range(100, 200)))
        for number in numbers
    ]
    return View().changed(
        [
            Node(IPv4Address("198.18.0.1"), "m1", is_master=True, is_leader=True, port=5050),
            Node(NODE, "a1", agent_id="x-S0", port=5051),
            Framework("f", "marathon"),
            VipLease("web.marathon", IPv4Address("11.0.0.7")),
            *tasks,
        ]
    )


async def main() -> None:
    """Serve; publish the cluster when a line comes in; end with standard input.

    The upstream, on the address beside, has the same cluster in zone ``example``
    and refuses everything else.
    """
    upstream = ZoneTable(node=NODE, servers=[UPSTREAM], settings=ZoneSettings("example"))
    upstream.publish(cluster())
    zones = ZoneTable(node=NODE, servers=[SERVER], forwards=True)
    async with (
        DnsServer(upstream, Forwarder(), addresses=[str(UPSTREAM)]),
        DnsServer(zones, Forwarder([str(UPSTREAM)]), addresses=[str(SERVER)]),
    ):
        sys.stdout.write("serving\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            zones.publish(cluster())
            sys.stdout.write("published\n")
            sys.stdout.flush()


if __name__ == "__main__":
    configure_log("dns")
    uvloop.run(main())
