"""Serve a cluster's names on loopback: ``nameserver.py APPS RATE WORKERS [UPSTREAM …]``.

Prints its port once all WORKERS serve. RATE bounds the queries of one address a second, 0 does not.
"""

import asyncio
import sys
from ipaddress import IPv4Address

import uvloop

from phalanx.core.collector import calm_collector
from phalanx.core.log import configure_log
from phalanx.dns.admission import Admission
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer, Sharing
from phalanx.dns.workers.message import Start
from phalanx.dns.workers.pool import WorkerPool
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")


def cluster(apps: int) -> View:
    """Return a View of *apps* tasks ``app-N`` with an address each."""
    return View().changed(
        [
            Node(NODE, "a1", agent_id="x-S0", port=5051),
            Framework("f", "marathon"),
            *(
                Task("f", f"app-{n}.1", f"app-{n}", "x-S0", NODE, TaskPhase.RUNNING,
                     addresses=(IPv4Address("9.0.0.0") + n,), networks=("dcos",))
                for n in range(apps)
            ),
        ]
    )  # fmt: skip


async def main(apps: int, rate: int, workers: int, *upstreams: str) -> None:
    """Serve on a port of the kernel's choice, until killed."""
    forwarder = Forwarder(upstreams)
    foreign = forwarder.recent if upstreams else None
    zones = ZoneTable(node=NODE, servers=[], forwards=bool(upstreams), foreign=foreign)
    server = DnsServer(
        zones,
        forwarder,
        addresses=["127.0.0.1"],
        port=0,
        admission=Admission(per_second=rate),
        sharing=Sharing.ALONE if workers == 1 else Sharing.FIRST,
    )

    def start() -> Start:
        return Start(
            node=str(NODE),
            servers=(),
            places=tuple((place.host, place.port) for place in server.listening),
            settings=zones.settings,
            serial=1,
            secrets=(bytes(16),),
            per_second=rate,
            log_level="warning",
        )

    pool = WorkerPool(workers - 1, start, zones, forwarder)
    zones.publish(cluster(apps))
    calm_collector()  # as the plane does
    async with server, asyncio.TaskGroup() as group:
        group.create_task(pool.run())
        sys.stdout.write(f"{server.listening[0].port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    configure_log("dns", level="warning")
    numbers = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    uvloop.run(main(*numbers, *sys.argv[4:]))
