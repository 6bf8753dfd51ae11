"""The installed plugin, a CNI server in a node's namespace, containers: all of them real."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from phalanx.cni.install import install

PLANE = """
import asyncio, signal, sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
import structlog
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.ports import KernelHostPorts
from phalanx.net.ipam.store import AddressStore
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.cni.server import CniServer

NODE = IPv4Address("198.18.0.2")
VIEW = View().changed([
    Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
    SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
])

async def main(path, leases):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    links = KernelLinks()
    attachments = Attachments(links, AddressStore(Path(leases)), KernelHostPorts())
    links.run(attachments.sweep)
    async with CniServer(
        Path(path), node=NODE, view=lambda: VIEW, walled=lambda: VIEW, in_sync=lambda: True,
        attachments=attachments, thread=links.thread,
        leaving=links.leaving,
    ):
        print("ready", flush=True)
        await stop.wait()
    links.close()

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
asyncio.run(main(*sys.argv[1:]))
"""

REFERENCE = Path("/usr/lib/cni")
COOKIE = """
import socket
with socket.socket() as probe:
    print(int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, 71, 8), "little"))
"""


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


class Outcome:
    """What a run of the plugin left."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.output: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        self.stderr = done.stderr.decode()

    @property
    def address(self) -> str:
        return str(self.output["ips"][0]["address"])


class Node:
    """A node's namespace with a plugin directory, and a plane when it is started."""

    def __init__(self, ns: str, directory: Path, stack: ExitStack) -> None:
        self.ns = ns
        self._directory = directory
        self._stack = stack
        self.socket = directory / "cni.sock"
        self.leases = directory / "ipam"
        self.plugin, *_ = install(directory / "bin")
        cookie = subprocess.run(
            self.enter(sys.executable, "-c", COOKIE), check=True, capture_output=True, text=True
        ).stdout.strip()
        stack.callback(shutil.rmtree, f"/run/phalanx/cni/{cookie}", ignore_errors=True)
        self.plane: subprocess.Popen[bytes] | None = None

    def enter(self, *command: str) -> list[str]:
        return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{self.ns}", *command]

    def start_plane(self) -> None:
        command = self.enter(sys.executable, "-Ic", PLANE, str(self.socket), str(self.leases))
        with (self._directory / "plane.log").open("wb") as log:
            self.plane = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        self._stack.callback(self.stop_plane, signal.SIGKILL)
        assert self.plane.stdout is not None
        ready = self.plane.stdout.readline()
        assert ready == b"ready\n", (self._directory / "plane.log").read_text()

    def stop_plane(self, number: signal.Signals) -> int:
        if self.plane is None:
            return 0
        self.plane.send_signal(number)
        self.plane.communicate(timeout=20)
        status = self.plane.returncode
        self.plane = None
        return status

    def container(self) -> str:
        name = f"phxtest-c{uuid4().hex[:8]}"
        ip("netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
        return name

    def run(
        self,
        command: str,
        container: str = "",
        *,
        version: str = "1.0.0",
        plugin: str = "phalanx-net",
        **config: object,
    ) -> Outcome:
        full = {"cniVersion": version, "name": "dcos", "type": "phalanx-net"}
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}" if container else "",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.plugin.parent}:{REFERENCE}",
            "PATH": "/usr/bin:/bin",
        }
        path = self.plugin.with_name(plugin)
        path = path if path.exists() else REFERENCE / plugin
        done = subprocess.run(
            self.enter(str(path)),
            env=environ,
            input=json.dumps({**full, "socket": str(self.socket), **config}).encode(),
            capture_output=True,
            timeout=60,
        )
        return Outcome(done)

    def links(self) -> set[str]:
        return {link["ifname"] for link in json.loads(ip("-n", self.ns, "-j", "link"))}

    def held(self) -> set[str]:
        names = os.listdir(self.leases / "dcos") if self.leases.exists() else []
        return {name for name in names if name[0].isdigit()}


@pytest.fixture
def node(ns: str, tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(ns, tmp_path, stack)


def ping(source: str, address: str) -> bool:
    command = ["ip", "netns", "exec", source, "ping", "-c", "1", "-w", "5", address]
    return subprocess.run(command, capture_output=True).returncode == 0


def test_life_of_two_containers(node: Node) -> None:
    node.start_plane()
    first, second = node.container(), node.container()

    one, two = node.run("ADD", first), node.run("ADD", second, version="0.2.0")

    assert (one.status, two.status) == (0, 0)
    assert one.address == "9.0.1.2/24"
    assert two.output["ip4"]["ip"] == "9.0.1.3/24"
    assert ping(first, "9.0.1.3")
    assert ping(second, "9.0.1.1")
    assert node.run("CHECK", first, prevResult=one.output).status == 0
    assert node.run("STATUS", version="1.1.0").status == 0
    for _ in range(2):
        assert node.run("DEL", first).status == 0
    ip("netns", "delete", second)
    assert node.run("DEL", second).status == 0
    assert node.links() == {"lo", "phx-1024"}
    assert node.held() == set()


def test_fifty_at_once_all_get_addresses_of_their_own(node: Node) -> None:
    node.start_plane()
    containers = [node.container() for _ in range(50)]

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda name: node.run("ADD", name), containers))

    assert {outcome.status for outcome in outcomes} == {0}
    assert len({outcome.address for outcome in outcomes}) == 50
    assert ping(containers[0], outcomes[49].address.removesuffix("/24"))
    with ThreadPoolExecutor(16) as pool:
        removed = list(pool.map(lambda name: node.run("DEL", name).status, containers))
    assert set(removed) == {0}
    assert node.links() == {"lo", "phx-1024"}


def test_host_ports_lead_to_the_container_and_go_with_it(node: Node) -> None:
    node.start_plane()
    first, second = node.container(), node.container()
    ports: dict[str, Any] = {
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}
    }
    added = node.run("ADD", first, **ports)
    server = subprocess.Popen(
        ["ip", "netns", "exec", first, sys.executable, "-m", "http.server", "80"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        ask = ["curl", "-sf", "-o", "/dev/null", "-m", "2", "--retry", "20", "--retry-connrefused"]
        ip("-n", node.ns, "link", "set", "lo", "up")
        for target in ("127.0.0.1", "9.0.1.1"):
            subprocess.run(node.enter(*ask, f"http://{target}:8080/"), check=True)
        assert node.run("ADD", second, **ports).output["code"] == 101
        assert node.run("CHECK", first, prevResult=added.output, **ports).status == 0
        assert node.run("DEL", first).status == 0
        again = node.run("ADD", second, **ports)
    finally:
        server.kill()
        server.wait()

    assert again.status == 0
    assert node.run("DEL", second).status == 0
    maps = subprocess.run(
        node.enter("nft", "list", "ruleset"), check=True, capture_output=True, text=True
    ).stdout
    assert "elements" not in maps


def test_second_add_is_refused_and_the_first_lives_on(node: Node) -> None:
    node.start_plane()
    container = node.container()
    node.run("ADD", container)

    again = node.run("ADD", container)

    assert again.status == 1
    assert again.output["code"] == 101
    assert ping(container, "9.0.1.1")
    assert node.held() == {"9.0.1.2"}


def test_failed_add_leaves_nothing(node: Node) -> None:
    node.start_plane()
    container = node.container()
    ip("-n", container, "link", "add", "eth0", "type", "bridge")

    refused, absent = node.run("ADD", container), node.run("ADD", "phxtest-absent")

    assert (refused.output["code"], absent.output["code"]) == (101, 8)
    assert node.links() == {"lo"}
    assert node.held() == set()


def test_killed_plane_forgets_nothing(node: Node) -> None:
    node.start_plane()
    first, second = node.container(), node.container()
    node.run("ADD", first)
    node.stop_plane(signal.SIGKILL)

    between = node.run("ADD", second)
    node.start_plane()
    after = node.run("ADD", second)

    assert (between.status, between.output["code"]) == (1, 11)
    assert after.address == "9.0.1.3/24"
    assert ping(second, "9.0.1.2")
    assert node.run("DEL", first).status == 0
    assert node.held() == {"9.0.1.3"}


def test_plane_that_ends_in_order_leaves_no_socket(node: Node) -> None:
    node.start_plane()

    assert node.stop_plane(signal.SIGTERM) == 0
    assert not node.socket.exists()


def test_gc_removes_what_its_runtime_forgot(node: Node) -> None:
    node.start_plane()
    kept, lost = node.container(), node.container()
    node.run("ADD", kept)
    node.run("ADD", lost)
    listed: dict[str, Any] = {
        "cni.dev/valid-attachments": [{"containerID": kept, "ifname": "eth0"}]
    }

    collected = node.run("GC", version="1.1.0", **listed)

    assert collected.status == 0, collected.output
    assert node.held() == {"9.0.1.2"}
    assert len(node.links()) == 3


def test_namespace_is_found_through_other_mounts(node: Node) -> None:
    node.start_plane()
    container = node.container()
    config = {"cniVersion": "1.0.0", "name": "dcos", "socket": str(node.socket)}
    script = (
        'mount -t tmpfs tmpfs "$1" && touch "$1/ns" && mount --bind "$2" "$1/ns" && '
        'CNI_NETNS="$1/ns" exec "$3"'
    )
    hidden = node.socket.parent / "hidden"
    hidden.mkdir()

    done = subprocess.run(
        node.enter(
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"),
            *(str(hidden), f"/run/netns/{container}", str(node.plugin)),
        ),
        env={
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt",
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        },
        input=json.dumps(config).encode(),
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout
    assert not (hidden / "ns").exists()
    assert ping(container, "9.0.1.1")


def test_without_plane_the_plugin_works_by_itself(node: Node) -> None:
    first, second = node.container(), node.container()
    alone = {"subnet": "10.77.0.0/24", "dataDir": str(node.leases)}

    one, two = node.run("ADD", first, **alone), node.run("ADD", second, **alone)

    assert one.address == "10.77.0.2/24", one.stderr
    assert ping(second, "10.77.0.2")
    assert ping(first, "10.77.0.1")
    assert node.run("CHECK", second, prevResult=two.output, **alone).status == 0
    again = node.run("ADD", first, **alone)
    assert (again.status, again.output["code"]) == (1, 101)
    for container in (first, second, second):
        assert node.run("DEL", container, **alone).status == 0
    assert node.held() == set()
    assert len(node.links()) == 2


def test_parallel_plugins_without_plane_do_not_collide(node: Node) -> None:
    containers = [node.container() for _ in range(6)]
    alone = {"subnet": "10.77.0.0/24", "dataDir": str(node.leases)}

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda name: node.run("ADD", name, **alone), containers))

    assert [outcome.output for outcome in outcomes if outcome.status] == []
    assert len({outcome.address for outcome in outcomes}) == 6


def test_bad_network_without_plane_is_refused_with_its_version(node: Node) -> None:
    refused = node.run("ADD", node.container(), subnet="10.77.0.1/24", version="0.4.0")

    assert refused.status == 1
    assert refused.output["code"] == 7
    assert refused.output["cniVersion"] == "0.4.0"
    assert node.links() == {"lo"}


def ipam_config(node: Node, kind: str, **more: Any) -> dict[str, Any]:
    ipam = {"type": "phalanx-ipam", "network": "dcos", "socket": str(node.socket)}
    return {
        "name": "legacy",
        "type": kind,
        "bridge": "phxtestbr",
        "isGateway": True,
        "ipam": {**ipam, "routes": [{"dst": "0.0.0.0/0"}]},
        **more,
    }


@pytest.mark.parametrize("main", ["phalanx-bridge", "bridge"])
def test_other_main_plugins_lease_from_the_same_subnet(node: Node, main: str) -> None:
    node.start_plane()
    ours, first, second = (node.container() for _ in range(3))
    config = ipam_config(node, main)
    assert node.run("ADD", ours).address == "9.0.1.2/24"

    one, two = (node.run("ADD", each, plugin=main, **config) for each in (first, second))

    assert (one.status, two.status) == (0, 0), (one.output, two.output)
    assert [one.address, two.address] == ["9.0.1.3/24", "9.0.1.4/24"]
    assert one.output["ips"][0]["gateway"] == "9.0.1.1"
    assert node.run("CHECK", first, plugin=main, prevResult=one.output, **config).status == 0
    node.stop_plane(signal.SIGKILL)
    node.start_plane()  # what has no link of ours is not taken for left over
    assert node.held() == {"9.0.1.2", "9.0.1.3", "9.0.1.4"}

    assert node.run("GC", version="1.1.0").status == 0  # of the other network
    assert node.held() == {"9.0.1.3", "9.0.1.4"}
    for _ in range(2):
        done = node.run("DEL", first, plugin=main, prevResult=one.output, **config)
        assert done.status == 0, done.output
    assert node.held() == {"9.0.1.4"}
    if main == "phalanx-bridge":  # the reference has no GC
        keep: dict[str, Any] = {"cni.dev/valid-attachments": []}
        done = node.run("GC", version="1.1.0", plugin=main, **config, **keep)
        assert done.status == 0, done.output
        assert node.held() == set()


def test_ipam_without_its_plane_says_so_and_leaves_nothing(node: Node) -> None:
    container = node.container()
    config = ipam_config(node, "phalanx-bridge")

    refused = node.run("ADD", container, plugin="phalanx-bridge", **config)

    assert refused.output["code"] == 11
    assert "no plane listens" in refused.output["msg"]
    assert node.links() - {"phxtestbr"} == {"lo"}
    status = node.run("STATUS", version="1.1.0", plugin="phalanx-ipam", **config)
    assert status.output["code"] == 50
    both = {**config, "ipam": {**config["ipam"], "subnet": "10.1.0.0/24"}}
    assert node.run("ADD", container, plugin="phalanx-bridge", **both).output["code"] == 7
