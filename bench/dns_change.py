"""How long after a status update the answers of every node know of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from claim import Bound, Figure
from dnslib import EDNS0, RCODE, DNSRecord

from phalanx.core.netns import call_in, enter
from phalanx.labs.lab import Lab
from phalanx.labs.simulated.framework import Launcher, quantile
from phalanx.labs.topology import spread

TASKS = 50  # their addresses fit into one datagram
AGENTS = 4
NAME = "task.launcher.containerip.dcos.thisdcos.directory"
RESOLVER = ("198.51.100.1", 53)
NETWORK = {"type": "MESOS", "network_infos": [{"name": "dcos"}]}
POLL_SECONDS = 0.005
LATEST_SECONDS = 10.0


def measure() -> Sequence[Figure]:
    """Launch tasks one by one in a lab; each node is asked for their shared name all the time."""
    lab = Lab.up(spread(agents=AGENTS), name="dnsbench")
    try:
        nodes = [node for node in lab.status().nodes if node.name[0] in "ma"]
        probes = [Probe(Path("/run/netns") / node.netns) for node in nodes]
        [master] = [node for node in nodes if node.name.startswith("m")]
        launcher = Launcher(
            master.address,
            5050,
            count=TASKS,
            resources={"cpus": 0.01, "mem": 32.0},
            per_offer=1,
            container=NETWORK,
            one_by_one=True,
        )

        for probe in probes:
            probe.start()
        call_in(Path("/run/netns") / master.netns, lambda: asyncio.run(launcher.run()))
        for probe in probes:
            probe.join()
    finally:
        lab.down()
    updates = sorted(launcher.running.values())[:-1]  # the last ends all of them
    late = [
        max(0.0, probe.seen.get(count, at + LATEST_SECONDS) - at)
        for probe in probes
        for count, at in enumerate(updates, 1)
    ]
    return [
        Figure(
            "status update to answer, any node, median",
            "s",
            quantile(late, 0.5),
            Bound.OURS_AT_MOST,
            0.150,
        ),
        Figure(
            "status update to answer, any node, 99 %",
            "s",
            quantile(late, 0.99),
            Bound.OURS_AT_MOST,
            0.500,
        ),
    ]


class Probe(threading.Thread):
    """Asks one node's resolver until the tasks are gone again.

    ``seen`` says when a number of addresses was first in an answer.
    """

    def __init__(self, netns: Path) -> None:
        super().__init__(name="probe")
        self.seen: dict[int, float] = {}
        self._netns = netns

    def run(self) -> None:
        """Ask every 5 ms; end once there are no tasks any more, or after two minutes."""
        enter(self._netns)
        query = DNSRecord.question(NAME)
        query.add_ar(EDNS0(udp_len=1232))
        message = bytes(query.pack())
        until = time.monotonic() + 120.0
        pause = threading.Event()  # nobody sets it: asks in between are others' time
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(RESOLVER)
            sock.settimeout(1.0)
            while time.monotonic() < until:
                sock.send(message)
                try:
                    raw = sock.recv(4096)
                except TimeoutError:
                    continue
                now = time.monotonic()
                count = int.from_bytes(raw[6:8], "big")
                for number in range(1, count + 1):
                    self.seen.setdefault(number, now)
                if self.seen and raw[3] & 15 == RCODE.NXDOMAIN:
                    return
                pause.wait(POLL_SECONDS)
