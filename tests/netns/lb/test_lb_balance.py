"""How connections spread over backends, and whom a backend's leaving disturbs: real connections."""

import asyncio
import socket
import subprocess
from collections import Counter
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Address
from math import sqrt
from pathlib import Path
from typing import TypeVar

import pytest

from phalanx.core.netns import call_in
from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.kernel import has_ipvs
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.nft.library import Nft

Services = Dataplane[Vip, Service]
Pair = tuple[socket.socket, socket.socket]  # client and server
T = TypeVar("T")

WEB = Vip(IPv4Address("11.0.0.1"), 80)
NODE = "198.18.0.1"
FIRST = IPv4Address("9.0.1.1")
PORT = 8080
MOST = 20  # backends
FOR_EACH = 60  # connections for each unit of weight
# Of a million fair spreads one is further off.
SIGMAS = 4.75


class Node:
    """A namespace in which every backend's address is local, and one listener answers for all."""

    def __init__(self, netns: Path, services: Services) -> None:
        self._netns = netns
        self.services = services
        self.listener = call_in(netns, lambda: socket.create_server(("", PORT), backlog=4096))

    def put(self, wanted: Service) -> None:
        wait(self.services.apply(Delta({WEB: wanted}, frozenset())))

    def connect(self) -> Pair:
        client = call_in(self._netns, socket.socket)
        client.settimeout(5)
        client.connect((str(WEB.address), WEB.port))
        server, _ = self.listener.accept()
        server.settimeout(5)
        return client, server

    def spread(self, count: int) -> Counter[str]:
        """Return how many of *count* connections each backend got."""
        seen: Counter[str] = Counter()

        def ask() -> None:
            for _ in range(count):
                with socket.create_connection((str(WEB.address), WEB.port), timeout=5):
                    server, _ = self.listener.accept()
                    seen[server.getsockname()[0]] += 1
                    server.close()

        call_in(self._netns, ask)
        return seen


def wait(work: Coroutine[object, object, T]) -> T:
    return asyncio.run(work)


@pytest.fixture(params=["nftables", *(["ipvs"] if has_ipvs() else [])])
def node(request: pytest.FixtureRequest, ns: str) -> Iterator[Node]:
    commands = [
        "link set lo up",
        f"address add {NODE}/32 dev lo",
        *(f"address add {FIRST + number}/32 dev lo" for number in range(MOST)),
        f"route add local 11.0.0.0/8 dev lo src {NODE}",
    ]
    subprocess.run(
        ["ip", "-n", ns, "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True
    )
    netns = Path("/run/netns") / ns
    nft, flows = Nft(netns=netns), Flows(netns=netns)
    kind = IpvsServices if request.param == "ipvs" else NftablesServices
    services = kind(nft, flows=flows)
    made = Node(netns, services)
    try:
        yield made
    finally:
        made.listener.close()
        services.close()
        nft.close()


def service(weights: Sequence[int]) -> Service:
    return Service.of(Backend(FIRST + n, PORT, weight) for n, weight in enumerate(weights))


def is_fair(seen: Counter[str], weights: Sequence[int]) -> bool:
    """Tell by Pearson's chi-squared test whether *seen* may well come of these weights."""
    total, units = seen.total(), sum(weights)
    expected = {str(FIRST + n): total * weight / units for n, weight in enumerate(weights)}
    statistic = sum((seen[name] - share) ** 2 / share for name, share in expected.items())
    freedom = len(weights) - 1
    part = 2 / (9 * freedom)  # Wilson and Hilferty's approximation
    return (
        seen.keys() <= expected.keys()
        and statistic <= freedom * (1 - part + SIGMAS * sqrt(part)) ** 3
    )


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([1] * 3, id="3-equal"),
        pytest.param([1] * 7, id="7-equal"),
        pytest.param([1] * MOST, id="20-equal"),
        pytest.param([1, 2, 5], id="1-2-5"),
    ],
)
def test_connections_spread_by_weight(node: Node, weights: list[int]) -> None:
    node.put(service(weights))

    seen = node.spread(FOR_EACH * sum(weights))

    assert is_fair(seen, weights), seen


def test_wrong_spread_is_found_out() -> None:
    seen = Counter({str(FIRST): 600, str(FIRST + 1): 400})

    assert not is_fair(seen, [1, 1])
    assert is_fair(seen, [3, 2])


def test_a_backend_that_leaves_breaks_nobody_elses_connections(node: Node) -> None:
    node.put(service([1] * MOST))
    with ExitStack() as stack:
        pairs = [node.connect() for _ in range(5 * MOST)]
        for end in (end for pair in pairs for end in pair):
            stack.enter_context(end)
        leaving = pairs[0][1].getsockname()[0]
        rest = [each for each in service([1] * MOST).backends if str(each.address) != leaving]

        node.put(Service.of(rest))

        kept = [pair for pair in pairs if pair[1].getsockname()[0] != leaving]
        for client, server in kept:
            client.sendall(b"?")
            server.sendall(server.recv(1))
        answers = [client.recv(1) for client, _ in kept]
        assert answers == [b"?"] * len(kept)
        assert len(kept) > 3 * MOST
    assert leaving not in node.spread(100)
