"""Serve a small cluster's names with workers: ``dns_workers.py WORKERS [UPSTREAM …]``.

Prints the port; then answers each line of standard input: ``pids``, ``metrics``,
``publish N`` for a cluster with N addresses of ``web``, ``upstreams ADDRESS …``, ``silence
SECONDS`` after which a worker is killed.
"""

import asyncio
import sys
from ipaddress import IPv4Address

import uvloop
from prometheus_client import CollectorRegistry, generate_latest

from phalanx.core.log import configure_log
from phalanx.core.service import SocketStore
from phalanx.dns.answer.cookie import Cookies
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.metrics import DnsCollector
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer, Sharing
from phalanx.dns.workers.message import Start
from phalanx.dns.workers.pool import WorkerPool
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")
SECRET = bytes(range(16))


def cluster(count: int) -> View:
    """Return a View of *count* tasks ``web``."""
    tasks = [
        Task("f", f"web.{n}", "web", "x-S0", NODE, TaskPhase.RUNNING,
             addresses=(IPv4Address("9.0.0.1") + n,), networks=("dcos",))
        for n in range(count)
    ]  # fmt: skip
    node = Node(NODE, "a1", agent_id="x-S0", port=5051)
    return View().changed([node, Framework("f", "marathon"), *tasks])


async def main(workers: int, *upstreams: str) -> None:
    """Serve until standard input ends."""
    forwarder = Forwarder(upstreams)
    zones = ZoneTable(node=NODE, servers=[], forwards=bool(upstreams), foreign=forwarder.recent)
    server = DnsServer(
        zones,
        forwarder,
        addresses=["127.0.0.1"],
        port=0,
        cookies=Cookies(SECRET),
        store=SocketStore(),
        sharing=Sharing.FIRST,
    )
    registry = CollectorRegistry()
    collector = DnsCollector(zones, forwarder)
    registry.register(collector)

    def start() -> Start:
        return Start(
            node=str(NODE),
            servers=(),
            places=tuple((place.host, place.port) for place in server.listening),
            settings=zones.settings,
            serial=1,
            secrets=(SECRET,),
            log_level="warning",
        )

    pool = WorkerPool(workers - 1, start, zones, forwarder)
    collector.server, collector.others = server, pool.tallies
    zones.publish(cluster(1))
    async with server, asyncio.TaskGroup() as group:
        keeping = group.create_task(pool.run())
        say(str(server.listening[0].port))
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            if words[0] == "publish":
                zones.publish(cluster(int(words[1])))
                say("published")
            elif words[0] == "upstreams":
                forwarder.reroute(words[1:])
                say("rerouted")
            elif words[0] == "silence":
                pool.silence_seconds = float(words[1])
                say("changed")
            elif words[0] == "pids":
                say(" ".join(map(str, pool.pids)))
            else:
                say(" ".join(generate_latest(registry).decode().splitlines()))
        keeping.cancel()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    configure_log("dns", level="warning")
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:]))
