"""The cluster of the guest as its clients see it: few containers, and no program run in vain."""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from dnslib import DNSRecord

from phalanx.core.error import NotFoundError, UnavailableError
from phalanx.core.netns import call_in
from phalanx.labs.cgroup import cgroup_pids
from phalanx.labs.client import get_unix_json
from phalanx.labs.demo.cluster import RESOLVER, Cluster, Instance
from phalanx.labs.demo.proof import until
from phalanx.labs.place import place_of
from phalanx.lb.ipvs.proc import parse_table
from phalanx.lb.service import Vip

HERE = Path(__file__).parent
ZONE = "marathon.l4lb.thisdcos.directory"
NETWORK: dict[str, Any] = {"name": "both", "subnet": "10.77.0.0/16", "subnet6": "fd77::/64"}
NODES = ("m1", "a1", "a2")
SECONDS = 600.0  # the patience of every wait here; on a quiet machine none takes 60
TRY_SECONDS = 10.0
TRIES = 10
HTTP, FAIR, UDP = 80, 81, 53


def app(name: str, instances: int, weight: int) -> dict[str, Any]:
    """Return an app that answers by its tasks' names over HTTP, over HTTP by turns, and UDP."""
    labels = {"VIP_0": "/web:80", "LB_WEIGHT": str(weight)}
    fair = {"VIP_0": "/fair:80", "LB_SCHEDULER": "rr"}
    ports = [
        {"containerPort": HTTP, "name": "http", "labels": labels},
        {"containerPort": FAIR, "name": "fair", "labels": fair},
        {"containerPort": UDP, "name": "udp", "protocol": "udp", "labels": {"VIP_0": "/udp:53"}},
    ]
    server = (HERE / "server.py").read_text().replace("'", "'\\''")
    return {
        "id": f"/{name}",
        "cmd": f"exec python3 -IS -c '{server}'",
        "instances": instances,
        "cpus": 0.1,
        "mem": 64,
        "constraints": [["hostname", "UNIQUE"]],
        "networks": [{"mode": "container", "name": NETWORK["name"]}],
        "container": {"type": "MESOS", "portMappings": ports},
        "healthChecks": [
            {
                **{"protocol": "MESOS_HTTP", "portIndex": 0, "path": "/health"},
                **{"delaySeconds": 0, "gracePeriodSeconds": SECONDS, "intervalSeconds": 2},
                **{"timeoutSeconds": 20, "maxConsecutiveFailures": 1000},
            }
        ],
        "backoffSeconds": 0.5,
    }


class Guest:
    """A cluster whose two agents run one instance of the app each."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lab = cluster.lab
        self.place = place_of(cluster.lab.name)

    def deploy(self) -> None:
        """Run the app and wait until it serves on every node."""
        self.post(self.cluster.master, "/v1/networks", NETWORK)
        self.post(self.cluster.marathon, "/v2/apps", app("web", 2, 1))
        self.until(lambda: self._healthy("web") == 2, what="the app is healthy")
        for node in NODES:
            self.until(partial(self._serves, node), what=f"the app serves on {node}")

    def post(self, to: Callable[..., Any], path: str, body: object) -> None:
        """Post something that is new, once: what is slow may have been done unheard."""

        def is_there() -> bool:
            try:
                to("POST", path, body)
            except NotFoundError as error:
                return "status 409" in str(error)
            return True

        self.until(is_there, what=f"POST {path}")

    def delete(self, path: str) -> None:
        """Have Marathon delete something, once."""

        def is_gone() -> bool:
            try:
                self.cluster.marathon("DELETE", path)
            except NotFoundError:
                return True
            return False

        self.until(is_gone, what=f"DELETE {path}")

    def _healthy(self, name: str) -> int:
        found = self.cluster.marathon("GET", f"/v2/apps/{name}?embed=app.counts")["app"]
        return int(found["tasksHealthy"])

    def _serves(self, node: str) -> bool:
        """Tell whether a node's kernel has two backends of weight behind every VIP."""
        found = parse_table(self.ipvs(node).encode())
        return len(found) >= len(self.services(node)) >= 6 and all(
            len(each) == 2 and all(one.backend.weight for one in each) for each in found.values()
        )

    @cached_property
    def instances(self) -> list[Instance]:
        """Return the instances of the app, that on a1 first."""
        found: list[Instance] = []

        def look() -> bool:
            found[:] = self.cluster.instances("web")
            return len(found) == 2

        self.until(look, what="the master tells of both instances")
        return found

    @property
    def names(self) -> set[str]:
        """Return what the instances call themselves."""
        return {each.task_id for each in self.instances}

    def until(self, holds: Callable[[], object], *, what: str) -> None:
        """Wait until something holds; a wait of its own that fails is no answer yet."""

        def look() -> str | None:
            with contextlib.suppress(OSError, UnavailableError):
                return "yes" if holds() else None
            return None

        until(look, seconds=SECONDS, what=what)

    def services(self, node: str, name: str = "") -> list[dict[str, Any]]:
        """Return the services as a node's plane reads them out of the kernel, all or one VIP's."""
        question = f"/v1/services?name={name}" if name else "/v1/services"
        socket_path = self.place.node(node) / "plane.sock"
        found: list[dict[str, Any]] = get_unix_json(socket_path, question)["services"]
        return found

    def weights(self, node: str, name: str) -> list[int]:
        """Return the weights of a VIP's IPv4 backends in a node's kernel."""
        vip = Vip(ip_address(self.address(node, name)), HTTP)
        found = parse_table(self.ipvs(node).encode())
        return sorted(each.backend.weight for each in found.get(vip, ()))

    def until_weights(self, node: str, weights: list[int]) -> None:
        """Wait until the VIP ``web`` has backends of these weights on a node."""
        what = f"weights {weights} on {node}"
        self.until(lambda: self.weights(node, "web") == weights, what=what)

    def ipvs(self, node: str) -> str:
        """Return the kernel's own listing of a node."""
        return call_in(self.netns(node), Path("/proc/thread-self/net/ip_vs").read_text)

    def netns(self, where: str) -> Path:
        """Return the network namespace of a node, or of the instance there: ``a1 task``."""
        node, _, is_task = where.partition(" ")
        if not is_task:
            return self.place.netns_path(node)
        [instance] = [each for each in self.instances if each.node == node]
        group = f"{self.place.node_cgroup(node)}/{instance.container_id}"
        return Path(f"/proc/{min(cgroup_pids(group))}/ns/net")

    def address(self, where: str, name: str, kind: str = "A") -> str:
        """Ask the resolver there for a VIP's address; raise OSError if it knows none."""
        question = DNSRecord.question(f"{name}.{ZONE}", kind)
        with self._socket(where, socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.sendto(question.pack(), (RESOLVER, 53))
            answers = DNSRecord.parse(asking.recv(4096)).rr
        if not answers:
            raise OSError(f"{name} has no {kind}")
        return str(answers[0].rdata)

    @contextmanager
    def connection(self, where: str, address: str, port: int) -> Iterator[socket.socket]:
        """Yield a connection from there."""
        version = socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET
        with self._socket(where, version, socket.SOCK_STREAM) as opened:
            opened.connect((address, port))
            yield opened

    @contextmanager
    def connection_to(self, where: str, address: str, task: str) -> Iterator[socket.socket]:
        """Yield a connection to a VIP that leads to that task."""
        with ExitStack() as stack:
            for _ in range(TRIES):
                opened = stack.enter_context(self.connection(where, address, HTTP))
                if said(opened) == task:
                    yield opened
                    return
        raise AssertionError(f"none of {TRIES} connections leads to {task}")

    def ask(self, where: str, address: str, port: int = 80, path: str = "/") -> str:
        """Return who answers a new connection."""
        with self.connection(where, address, port) as opened:
            return said(opened, path)

    def asked(self, where: str, address: str, *, times: int) -> Counter[str]:
        """Return who answered how many of so many new connections."""
        return Counter(self.ask(where, address) for _ in range(times))

    def datagram(self, where: str, address: str, port: int) -> str:
        """Return who answers a datagram from a new port."""
        with self._socket(where, socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.sendto(b"who\n", (address, port))
            return opened.recv(100).decode().strip()

    def _socket(self, where: str, version: int, kind: int) -> socket.socket:
        opened = call_in(self.netns(where), lambda: socket.socket(version, kind))
        opened.settimeout(TRY_SECONDS)
        return opened


def said(opened: socket.socket, path: str = "/") -> str:
    """Ask over a connection that is there; return the body."""
    opened.sendall(f"GET {path} HTTP/1.1\r\nHost: vip\r\n\r\n".encode())
    answer = b""
    while not answer.endswith(b"\n") or b"\r\n\r\n" not in answer[:-1]:
        more = opened.recv(1000)
        if not more:
            raise ConnectionResetError("closed")
        answer += more
    return answer.rpartition(b"\r\n\r\n")[2].decode().strip()
