"""A node's namespace with containers behind it, made once for many tests: commands are slow."""

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import TypeVar

from phalanx.core.netns import call_in
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.service import Backend, IPAddress, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol, node6
from phalanx.net.nft.library import Nft

NODE = "198.18.0.1"
NODE6 = str(node6(IPv4Address(NODE)))
BRIDGE, BRIDGE6 = "9.0.1.1", "fd00:9:1::1"
INSIDE = {"b1": "11", "b2": "12", "b3": "13", "client": "20"}
FAR, FAR6 = "9.0.2.20", "fd00:9:2::20"
# Of another network: a container of this node, and one behind the other link.
BLUE = {"blue": "10.20.1.11", "far": "10.20.2.20"}
BLUE_BRIDGE = "10.20.1.1"
BACKENDS = ("b1", "b2", "b3")
PORT = 8080
PACKETS = socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)
WEB = Vip(ip_address("11.0.0.1"), 80)
DNS = Vip(ip_address("11.0.0.2"), 53, Protocol.UDP)
OWN = Vip(ip_address("203.0.113.7"), 443)
WEB6 = Vip(ip_address("fd01:c::1"), 80)

T = TypeVar("T")


def run(*command: str, text: str | None = None) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def address_of(name: str, *, version: int = 4) -> IPAddress:
    return ip_address(f"9.0.1.{INSIDE[name]}" if version == 4 else f"fd00:9:1::{INSIDE[name]}")


def service(
    *, version: int = 4, scheduler: Scheduler = Scheduler.RR, affinity: int = 0, **weights: int
) -> Service:
    made = Service.of(
        Backend(address_of(name, version=version), PORT, weight) for name, weight in weights.items()
    )
    return Service(made.backends, scheduler=scheduler, affinity_seconds=affinity)


class Lab:
    """A node, three backends and a client on its bridge, and a client behind another link."""

    def __init__(self, node: str, nft: Nft) -> None:
        self.node = node
        self.nft = nft
        self.services = self._fresh()

    def restart(self) -> None:
        """Go on with the data plane of a plane that has just started."""
        self.services.close()
        self.services = self._fresh()

    def _fresh(self) -> IpvsServices:
        return IpvsServices(self.nft, node=IPv4Address(NODE), flows=Flows(netns=self.path("node")))

    def namespace(self, name: str) -> str:
        return self.node if name == "node" else f"{self.node}-{name}"

    def path(self, name: str) -> Path:
        return Path("/run/netns") / self.namespace(name)

    def inside(self, *command: str) -> str:
        """Run a command on the node."""
        return run("ip", "netns", "exec", self.node, *command)

    def in_namespace(self, name: str, *command: str) -> str:
        return run("ip", "netns", "exec", self.namespace(name), *command)

    @contextmanager
    def witness(self, name: str, vip: Vip) -> Iterator[Callable[[], int]]:
        """Yield a count of the packets for backends of *vip* that have come in there so far."""
        watching = call_in(self.path(name), lambda: socket.socket(*PACKETS))
        watching.setblocking(False)
        wanted = bytes([vip.protocol.number]), PORT.to_bytes(2)

        def count() -> int:
            seen = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet, (_, _, direction, *_) = watching.recvfrom(100)
                    is_in = direction != socket.PACKET_OUTGOING
                    seen += is_in and (packet[9:10], packet[22:24]) == wanted
            return seen

        with watching:
            yield count

    def put(self, wanted: dict[Vip, Service]) -> None:
        """Make these services all there are."""
        held = wait(self.services.read())
        gone = frozenset(held.keys() - wanted.keys())
        wait(self.services.apply(Delta(wanted, gone)))
        assert wait(self.services.read()) == wanted

    def connect(self, where: str, vip: Vip, *, seconds: float = 5) -> socket.socket:
        family = socket.AF_INET6 if vip.address.version == 6 else socket.AF_INET
        kind = socket.SOCK_DGRAM if vip.protocol is Protocol.UDP else socket.SOCK_STREAM
        opened = call_in(self.path(where), lambda: socket.socket(family, kind))
        opened.settimeout(seconds)
        try:
            opened.connect((str(vip.address), vip.port))
        except OSError:
            opened.close()
            raise
        return opened

    def ask(self, where: str, vip: Vip, *, seconds: float = 5) -> tuple[str, str]:
        """Return the name of the backend and the source that it saw."""
        with self.connect(where, vip, seconds=seconds) as opened:
            return say(opened)

    def asked(self, where: str, vip: Vip, times: int) -> Counter[str]:
        return Counter(self.ask(where, vip)[0] for _ in range(times))


def wait(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


def say(opened: socket.socket) -> tuple[str, str]:
    opened.sendall(b"who\n")
    answer = opened.recv(200)
    if not answer:
        raise ConnectionResetError("closed")
    name, source = answer.decode().split()
    return name, source


@contextmanager
def made_lab(node: str) -> Iterator[Lab]:
    """Build it; the namespace *node* is there."""
    with contextlib.ExitStack() as stack:
        names = [*INSIDE, "blue", "far"]
        for name in names:
            run("ip", "netns", "add", f"{node}-{name}")
            stack.callback(run, "ip", "netns", "delete", f"{node}-{name}")
        ip(node, _node_commands(node))
        for name in names:
            ip(f"{node}-{name}", _container_commands(name))
        run("ip", "netns", "exec", node, "sysctl", "-qw", *SYSCTLS)
        for name in (*BACKENDS, *BLUE):
            stack.enter_context(answering(Path("/run/netns") / f"{node}-{name}", name))
        nft = Nft(netns=Path("/run/netns") / node)
        stack.callback(nft.close)
        lab = Lab(node, nft)
        stack.callback(lambda: lab.services.close())
        yield lab


SYSCTLS = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


def ip(namespace: str, commands: Iterable[str]) -> None:
    run("ip", "-n", namespace, "-batch", "-", text="\n".join(commands) + "\n")


def _node_commands(node: str) -> Iterator[str]:
    yield f"address add {NODE}/32 dev lo"
    yield f"address add {NODE6}/128 dev lo nodad"
    yield "link add phx-1024 type bridge"
    yield f"address add {BRIDGE}/24 dev phx-1024"
    yield f"address add {BRIDGE6}/64 dev phx-1024 nodad"
    yield "link set phx-1024 up"
    yield f"route add local 11.0.0.0/8 dev lo src {NODE}"
    yield f"route add local {OWN.address}/32 dev lo src {NODE}"
    yield f"route add local fd01:c::/64 dev lo src {NODE6}"
    for name in INSIDE:
        yield f"link add phxv{name} type veth peer name eth0 netns {node}-{name}"
        yield f"link set phxv{name} master phx-1024 up"
        yield f"link set phxv{name} type bridge_slave hairpin on"
    yield f"link add phxvfar type veth peer name eth0 netns {node}-far"
    yield "link set phxvfar up"
    yield "address add 9.0.2.1/24 dev phxvfar"
    yield "address add fd00:9:2::1/64 dev phxvfar nodad"
    yield f"route add {BLUE['far']}/32 dev phxvfar"
    yield "link add phx-1025 type bridge"
    yield f"address add {BLUE_BRIDGE}/24 dev phx-1025"
    yield "link set phx-1025 up"
    yield f"link add phxvblue type veth peer name eth0 netns {node}-blue"
    yield "link set phxvblue master phx-1025 up"


def _container_commands(name: str) -> Iterator[str]:
    yield "link set lo up"
    yield "link set eth0 up"
    if name == "far":
        yield f"address add {FAR}/24 dev eth0"
        yield f"address add {BLUE['far']}/32 dev eth0"
        yield f"address add {FAR6}/64 dev eth0 nodad"
        yield "route add default via 9.0.2.1"
        yield "route add default via fd00:9:2::1"
        yield f"route add 9.0.1.0/24 via 9.0.2.1 src {BLUE['far']}"  # what its server answers from
        return
    if name == "blue":
        yield f"address add {BLUE['blue']}/24 dev eth0"
        yield f"route add default via {BLUE_BRIDGE}"
        return
    yield f"address add {address_of(name)}/24 dev eth0"
    yield f"address add {address_of(name, version=6)}/64 dev eth0 nodad"
    yield f"route add default via {BRIDGE}"
    yield f"route add default via {BRIDGE6}"


@contextmanager
def answering(netns: Path, name: str, port: int = PORT) -> Iterator[None]:
    """Answer every line and every datagram in a namespace with the name and who asked."""
    listening = call_in(netns, lambda: _bound(socket.SOCK_STREAM, port))
    listening.listen(100)
    bound = call_in(netns, lambda: _bound(socket.SOCK_DGRAM, port))
    accepted: list[socket.socket] = []

    def accept() -> None:
        while True:
            opened, peer = listening.accept()
            accepted.append(opened)
            threads.append(_started(partial(_answer, opened, name, _plain(peer[0]))))

    def datagrams() -> None:
        while True:
            _, peer = bound.recvfrom(100)
            if peer is None:  # shut down
                return
            bound.sendto(f"{name} {_plain(peer[0])}\n".encode(), peer)

    threads = [_started(accept), _started(datagrams)]
    try:
        yield
    finally:
        for each in (listening, bound, *accepted):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in threads:
            thread.join(5)


def _bound(kind: socket.SocketKind, port: int) -> socket.socket:
    opened = socket.socket(socket.AF_INET6, kind)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("::", port))
    return opened


def _answer(opened: socket.socket, name: str, source: str) -> None:
    with opened:
        while opened.recv(100):
            opened.sendall(f"{name} {source}\n".encode())


def _started(work: Callable[[], None]) -> threading.Thread:
    def quietly() -> None:
        with contextlib.suppress(OSError):  # the test has ended and closed the socket
            work()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    return thread


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")
