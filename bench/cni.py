"""What an ADD and a DEL cost: our plugins and the reference ones, chain by chain, in turns."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from socket import SOL_SOCKET, socket
from statistics import median
from typing import Any

from claim import Bound, Figure

from phalanx.cni.install import install
from phalanx.core.netns import call_in, enter
from phalanx.net.netlink.wire import NETNS_COOKIE

REFERENCE = Path("/usr/lib/cni")
ROUNDS = 15
PARALLEL, THREADS, BURSTS = 100, 8, 3
PORTS = {"portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]}
BASE = {"cniVersion": "1.0.0"}
PLANE = """
import asyncio, signal, sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
import structlog, uvloop
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.ipam.store import AddressStore, boot_id
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.cni.server import CniServer

NODE = IPv4Address("198.18.0.2")
VIEW = View().changed([
    Network("dcos", IPv4Network("10.85.0.0/16"), 24, 1024, 1500),
    SubnetLease("dcos", NODE, IPv4Network("10.85.0.0/24")),
])

async def main(path, leases):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    links = KernelLinks()
    addresses = AddressStore(Path(leases), boot=boot_id())
    async with CniServer(
        Path(path), node=NODE, view=lambda: VIEW, walled=lambda: VIEW, in_sync=lambda: True,
        attachments=Attachments(links, addresses, KernelHostPorts()), thread=links.thread,
        leaving=links.leaving,
    ):
        print("ready", flush=True)
        await stop.wait()
    links.close()

with open("/dev/null", "w") as nowhere:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(nowhere))
    uvloop.run(main(*sys.argv[1:]))
"""
Chain = Sequence[Mapping[str, Any]]


def measure() -> Sequence[Figure]:
    """Attach and detach containers in a namespace of our own, with each chain in turn."""
    with ExitStack() as stack:
        bench = Bench(stack)
        plain = bench.main("phalanx-bridge", "phalanx-ipam", 1)
        whole = {"ipMasq": True, "ingressPolicy": "open", "runtimeConfig": PORTS}
        ours = {
            "plain": [plain],
            "full": [{**bench.main("phalanx-bridge", "phalanx-ipam", 2), **whole}],
        }
        theirs: dict[str, Chain] = {
            "plain": [bench.main("bridge", "host-local", 3)],
            "full": [
                {**bench.main("bridge", "host-local", 4), "ipMasq": True},
                {"type": "portmap", "runtimeConfig": PORTS},
                {"type": "firewall"},
            ],
        }
        figures = []
        for name, add_goal, del_goal in (("full", 0.3, 0.25), ("plain", 1.3, 1.0)):
            own, reference = bench.compare(ours[name], theirs[name])
            words = {
                "full": "address, gateway, masquerade, port and firewall",
                "plain": "bridge and address",
            }[name]
            for command, goal in (("ADD", add_goal), ("DEL", del_goal)):
                figures.append(
                    Figure(
                        f"{command}: {words}",
                        "ms",
                        own[command],
                        Bound.RATIO_AT_MOST,
                        goal,
                        reference[command],
                    )
                )
        asking = bench.start_plane()
        both = {"with a plane": asking, "without": ours["plain"]}
        bursts: dict[str, list[float]] = {name: [] for name in (*both, "reference")}
        for _ in range(BURSTS):
            for name, chain in {**both, "reference": theirs["plain"]}.items():
                bursts[name].append(bench.burst(chain))
        own, reference = bench.compare(asking, theirs["plain"])
        for command, goal in (("ADD", 1.3), ("DEL", 1.0)):
            name = f"{command}: bridge and address, with a plane"
            bound = Bound.RATIO_AT_MOST
            figures.append(Figure(name, "ms", own[command], bound, goal, reference[command]))
        return figures + [
            Figure(
                f"{PARALLEL} ADDs, {THREADS} at a time, {name}",
                "s",
                median(bursts[name]),
                Bound.RATIO_AT_MOST,
                0.5,
                median(bursts["reference"]),
            )
            for name in both
        ]


class Bench:
    """A node's namespace, and the plugins of both families."""

    def __init__(self, stack: ExitStack) -> None:
        if not (REFERENCE / "bridge").exists():
            raise SystemExit("the reference plugins are missing: containernetworking-plugins")
        self._stack = stack
        self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        install(self._directory / "bin")
        self._node = self._netns("node")
        with call_in(Path("/run/netns", self._node), socket) as probe:
            cookie = int.from_bytes(probe.getsockopt(SOL_SOCKET, NETNS_COOKIE, 8), "little")
        stack.callback(shutil.rmtree, f"/run/phalanx/cni/{cookie}", ignore_errors=True)
        self._containers = [self._netns(str(number)) for number in range(PARALLEL)]
        # What a thread that is in the node's namespace starts, is there, too.
        place = Path("/run/netns", self._node)
        self._threads = stack.enter_context(
            ThreadPoolExecutor(THREADS, initializer=enter, initargs=(place,))
        )

    def start_plane(self) -> Chain:
        """Start what serves the plugins of a node, and return the chain that asks it."""
        socket_path = self._directory / "cni.sock"
        command = [sys.executable, "-Ic", PLANE, socket_path, self._directory / "ipam"]
        plane: subprocess.Popen[bytes] = self._threads.submit(
            subprocess.Popen, command, stdout=subprocess.PIPE
        ).result()
        self._stack.callback(plane.communicate)
        self._stack.callback(plane.terminate)
        assert plane.stdout is not None
        if plane.stdout.readline() != b"ready\n":
            raise SystemExit("the plane's end of CNI did not start")
        return [{"type": "phalanx-net", "socket": str(socket_path)}]

    def main(self, kind: str, ipam: str, number: int) -> Mapping[str, Any]:
        """Return the configuration of a main plugin on a bridge of its own."""
        return {
            "type": kind,
            "bridge": f"phxbench{number}",
            "isDefaultGateway": True,
            "ipam": {
                "type": ipam,
                "ranges": [[{"subnet": f"10.8{number}.0.0/24"}]],
                "dataDir": str(self._directory / "leases"),
            },
        }

    def compare(
        self, ours: Chain, theirs: Chain
    ) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """Return the medians of both chains, in milliseconds by command."""
        taken: list[dict[str, list[float]]] = [{"ADD": [], "DEL": []}, {"ADD": [], "DEL": []}]
        for turn in range(ROUNDS + 1):
            for index, chain in enumerate((ours, theirs)):
                began = time.perf_counter()
                result = self._inside("ADD", chain, self._containers[0], f"n{index}")
                added = time.perf_counter()
                self._inside("DEL", chain, self._containers[0], f"n{index}", result)
                if turn:  # the first makes bridges and tables
                    taken[index]["ADD"].append((added - began) * 1000)
                    taken[index]["DEL"].append((time.perf_counter() - added) * 1000)
        ours_taken, theirs_taken = (
            {command: median(times) for command, times in each.items()} for each in taken
        )
        return ours_taken, theirs_taken

    def burst(self, chain: Chain) -> float:
        """Return how many seconds a hundred ADDs take, some at a time."""
        name, threads = "b" + str(chain[0]["type"]), self._threads
        began = time.perf_counter()
        results = list(threads.map(lambda ns: self._run("ADD", chain, ns, name), self._containers))
        taken = time.perf_counter() - began
        list(
            threads.map(
                lambda item: self._run("DEL", chain, item[0], name, item[1]),
                zip(self._containers, results, strict=True),
            )
        )
        return taken

    def _inside(
        self,
        command: str,
        chain: Chain,
        container: str,
        network: str,
        result: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        return self._threads.submit(self._run, command, chain, container, network, result).result()

    def _run(
        self,
        command: str,
        chain: Chain,
        container: str,
        network: str,
        result: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        for plugin in chain if command == "ADD" else reversed(chain):
            is_asking = plugin["type"] == "phalanx-net"
            config = {**BASE, "name": "dcos" if is_asking else network, **plugin}
            if result:
                config["prevResult"] = result
            output = self._call(command, config, container)
            if command == "ADD":
                result = json.loads(output)
        return result or {}

    def _call(self, command: str, config: Mapping[str, Any], container: str) -> bytes:
        own = self._directory / "bin" / config["type"]
        done = subprocess.run(
            [own if own.exists() else REFERENCE / config["type"]],
            env={
                "CNI_COMMAND": command,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": f"/run/netns/{container}",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": f"{self._directory / 'bin'}:{REFERENCE}",
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            },
            input=json.dumps(config).encode(),
            capture_output=True,
        )
        if done.returncode:
            raise SystemExit(f"{config['type']}, {command}: {done.stdout.decode()}")
        return done.stdout

    def _netns(self, name: str) -> str:
        full = f"phxbench-{os.getpid()}-{name}"
        subprocess.run(["ip", "netns", "add", full], check=True)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", full])
        return full
