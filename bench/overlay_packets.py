"""What a packet pays for the tunnel between two nodes, and how much of it is the kernel's."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from statistics import median

from bench_netns import made_netns, run_in
from claim import Bound, Figure

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.net.model.objects import Network, Node, SubnetLease
from phalanx.net.model.view import View
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable
from phalanx.net.overlay.desired import (
    desired_links,
    desired_routes,
    desired_rules,
    desired_senders,
    desired_settings,
)
from phalanx.net.overlay.link.kernel import KernelLinks
from phalanx.net.overlay.route.kernel import KernelRoutes
from phalanx.net.overlay.rule.kernel import KernelRules
from phalanx.net.overlay.senders import SENDERS
from phalanx.net.overlay.setting.proc import ProcSettings
from phalanx.net.rtnl.kernel import Rtnl

ROUNDS, SECONDS, PINGS = 5, 2, 2000
BURSTS, BURST = 800, 20
TUNNEL_PORT = 64001  # of the tunnel that is made by hand
NODES = {1: IPv4Address("198.18.0.1"), 2: IPv4Address("198.18.0.2")}
WAYS = {"tunnel": "9.0", "plain": "9.100"}  # the network's leases, and addresses that have a route
NETWORK = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
VIEW = View().changed(
    [
        NETWORK,
        *(Node(address, f"n{number}") for number, address in NODES.items()),
        *(
            SubnetLease("dcos", address, IPv4Network(f"9.0.{number}.0/24"))
            for number, address in NODES.items()
        ),
    ]
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two nodes on one wire, n1 and n2, and a container on each, c1 and c2."""

    names: Mapping[str, str]

    def place(self, short: str) -> Path:
        return Path("/run/netns", self.names[short])


def measure() -> Sequence[Figure]:
    """Return the figures; the peer of the tunnel is one made by hand, without all that is ours."""
    if shutil.which("iperf3") is None:
        raise SystemExit("iperf3 is not here: make setup-bench")
    with ExitStack() as stack:
        pairs = {"ours": _lay(stack, "ours"), "hand": _lay(stack, "hand")}
        asyncio.run(_carry(pairs["ours"]))
        _carry_by_hand(pairs["hand"])
        return [*_throughput(stack, pairs), *_trips(stack, pairs)]


def _throughput(stack: ExitStack, pairs: Mapping[str, _Pair]) -> Iterable[Figure]:
    for pair in pairs.values():
        _serve(stack, pair)
    rates = _rounds(pairs, _rate, ROUNDS)
    for whose, name in (("ours", ""), ("hand", ": the kernel's own tunnel, by hand")):
        tunnel, plain = (median(rates[whose, way]) for way in ("tunnel", "plain"))
        what = f"TCP between containers on two nodes{name}"
        yield Figure(what, "Gbit/s", tunnel, Bound.RATIO_AT_LEAST, 0.9, plain)


def _trips(stack: ExitStack, pairs: Mapping[str, _Pair]) -> Iterable[Figure]:
    """Yield what the tunnel adds: to echoes, and to datagrams that never wait for the scheduler."""
    trips = _rounds(pairs, _trip, ROUNDS)
    added = {
        whose: median(
            there - without
            for there, without in zip(trips[whose, "tunnel"], trips[whose, "plain"], strict=True)
        )
        for whose in pairs
    }
    yield Figure("added round trip", "µs", added["ours"], Bound.OURS_AT_MOST, 6.0, added["hand"])
    bursts = {
        (whose, way): _datagrams(stack, pair, way) for whose, pair in pairs.items() for way in WAYS
    }
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in bursts}
    for _ in range(BURSTS):
        for key, burst in bursts.items():
            taken[key].append(burst())
    path = {key: sorted(values)[BURSTS // 10] for key, values in taken.items()}
    ours, hand = (path[whose, "tunnel"] - path[whose, "plain"] for whose in pairs)
    yield Figure(
        "added round trip, both ends in one thread", "µs", ours, Bound.RATIO_AT_MOST, 1.5, hand
    )


def _rounds(
    pairs: Mapping[str, _Pair], look: Callable[[_Pair, str], float], rounds: int
) -> Mapping[tuple[str, str], list[float]]:
    """Return what *look* says of each pair and way, in turns."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for whose, pair in pairs.items():
            for way in WAYS:
                found.setdefault((whose, way), []).append(look(pair, way))
    return found


# Two nodes


def _lay(stack: ExitStack, name: str) -> _Pair:
    """Return a pair whose containers reach each other by a plain way of the same links and hops."""
    names = {short: made_netns(stack, f"{name}-{short}") for short in ("n1", "n2", "c1", "c2")}
    one, two = names["n1"], names["n2"]
    words = f"link add eth0 type veth peer eth0 netns {two}"
    run_in(one, "ip", *words.split())
    for number in NODES:
        node, container = names[f"n{number}"], names[f"c{number}"]
        other = 3 - number
        run_in(node, "ip", "link", "add", "box", "type", "veth", "peer", "eth0", "netns", container)
        run_in(node, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        plain = f"route add {WAYS['plain']}.{other}.0/24 via {NODES[other]} mtu {NETWORK.mtu}\n"
        commands = [f"addr add {NODES[number]}/16 dev eth0\nlink set eth0 up\n"]
        commands += [f"addr add {way}.{number}.1/24 dev box\n" for way in WAYS.values()]
        commands += [f"link set box mtu {NETWORK.mtu} up\n", plain]
        run_in(node, "ip", "-batch", "-", stdin="".join(commands))
        commands = [f"addr add {way}.{number}.2/24 dev eth0\n" for way in WAYS.values()]
        commands.append(f"link set eth0 mtu {NETWORK.mtu} up\n")
        commands += [
            f"route add {way}.{other}.0/24 via {way}.{number}.1 src {way}.{number}.2\n"
            for way in WAYS.values()
        ]
        run_in(container, "ip", "-batch", "-", stdin="".join(commands))
    return _Pair(names)


async def _carry(pair: _Pair) -> None:
    """Make the overlay of both nodes."""
    for number, address in NODES.items():
        place = pair.place(f"n{number}")
        rtnl, nft = Rtnl(netns=place), Nft(netns=place)
        settings = desired_settings()
        senders = desired_senders(VIEW, node=address)
        routes = desired_routes(VIEW, node=address, has_ipv6=False)
        for table in (
            Reconciler(KernelSetTable(nft, SENDERS), lambda held=senders: held),
            Reconciler(KernelLinks(rtnl), lambda: desired_links(VIEW)),
            Reconciler(ProcSettings(rtnl, settings), lambda held=settings: held),
            Reconciler(KernelRules(rtnl), lambda: desired_rules(VIEW)),
            Reconciler(KernelRoutes(rtnl), lambda held=routes: held),
        ):
            if not await table.reconcile_once():
                raise SystemExit(f"{table.name}: the kernel refused")
        rtnl.close()
        nft.close()


def _carry_by_hand(pair: _Pair) -> None:
    """Make the least that carries the same packets: a link and a route; who may send, none asks."""
    for number, address in NODES.items():
        other = 3 - number
        commands = f"""link add hand type vxlan external gpe dstport {TUNNEL_PORT} nolearning
            link set hand mtu {NETWORK.mtu} up
            route add 9.0.{other}.0/24 encap ip id 1024 src {address} dst {NODES[other]} dev hand
            """
        run_in(pair.names[f"n{number}"], "ip", "-batch", "-", stdin=commands)


# What travels between them


def _serve(stack: ExitStack, pair: _Pair) -> None:
    server = subprocess.Popen(
        ["ip", "netns", "exec", pair.names["c2"], "iperf3", "-s", "--forceflush"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    stack.callback(server.wait)
    stack.callback(server.terminate)
    assert server.stdout is not None
    while "listening" not in server.stdout.readline():
        if server.poll() is not None:
            raise SystemExit("iperf3 does not serve")


def _rate(pair: _Pair, way: str) -> float:
    """Return the rate of one TCP stream, in Gbit/s."""
    to = f"{WAYS[way]}.2.2"
    said = json.loads(run_in(pair.names["c1"], "iperf3", "-c", to, "-t", str(SECONDS), "-J"))
    return float(said["end"]["sum_received"]["bits_per_second"]) / 1e9


def _trip(pair: _Pair, way: str) -> float:
    """Return the mean round trip of a flood of echoes, in µs."""
    said = run_in(pair.names["c1"], "ping", "-q", "-f", "-c", str(PINGS), f"{WAYS[way]}.2.2")
    found = re.search(r"= [\d.]+/([\d.]+)/", said)
    if found is None:
        raise SystemExit(f"ping said: {said}")
    return float(found[1]) * 1e3


def _datagrams(stack: ExitStack, pair: _Pair, way: str) -> Callable[[], float]:
    """Return what sends a burst there and back, one by one, and returns the µs of a round trip.

    All of a datagram's way is gone in the call that sends it: nothing waits for a processor.
    """
    ends = []
    for number in NODES:
        place = pair.place(f"c{number}")
        end = call_in(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        stack.callback(end.close)
        end.bind((f"{WAYS[way]}.{number}.2", 0))
        end.settimeout(5)
        ends.append(end)
    one, two = ends
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    word = bytes(64)

    def burst() -> float:
        begun = time.perf_counter()
        for _ in range(BURST):
            one.send(word)
            two.recv(100)
            two.send(word)
            one.recv(100)
        return (time.perf_counter() - begun) / BURST * 1e6

    return burst
