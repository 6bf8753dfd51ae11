"""A VIP whose backend is a mapped port of a node: the container behind it has its walls still."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
import pytest_asyncio
from tests.netns.isolation.test_isolation_vips import NUMBERS, REFUSED, allow, asked
from tests.netns.isolation.vip_field import (
    CLIENTS,
    KINDS,
    N2,
    NODES,
    OPEN,
    PORT,
    VIP_PORT,
    WALLED,
    WHERE,
    Client,
    Names,
    Servers,
    node_of,
    serving,
)

from phalanx.core.netns import call_in
from phalanx.core.reconcile.delta import Delta
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.kernel import has_ipvs
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.attachment.ports import KernelHostPorts, PortMapping
from phalanx.net.ipam.owner import Owner
from phalanx.net.isolation.evaluate import Evaluator, Packet
from phalanx.net.model.objects import Protocol
from phalanx.net.model.view import View
from phalanx.net.nft.library import Nft

Reconcile = Callable[[View], Awaitable[None]]

HOST_PORT = 8000
BEHIND = "b2"
VIP = ip_address("11.0.0.99")
CONTAINERS = {name: client for name, client in CLIENTS.items() if client.network}
TO_NODE = Backend(N2, HOST_PORT)
TO_CONTAINER = Backend(ip_address(WHERE[BEHIND][2][4]), PORT)  # as its own node has it


@pytest.fixture(scope="module")
def field(
    cluster: Names, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Names, Servers]]:
    """Map a port of n2 to a container there; yield the namespaces and the servers in containers."""
    ports = KernelHostPorts(directory=tmp_path_factory.mktemp("ports"))
    addresses = [ip_interface(each) for each in WHERE[BEHIND][2].values()]
    mappings = [PortMapping(HOST_PORT, PORT, kind) for kind in KINDS]
    opened = partial(
        ports.open, "net", Owner(BEHIND, "eth0"), addresses, mappings,
        bridge="", mac="0a:58:00:00:00:01",
    )  # fmt: skip
    call_in(Path("/run/netns", cluster["n2"]), opened)
    with serving(cluster) as servers:
        yield cluster, servers


@pytest_asyncio.fixture(params=["nftables", *(["ipvs"] if has_ipvs() else [])])
async def put(
    request: pytest.FixtureRequest, cluster: Names, reconcile: Reconcile
) -> AsyncIterator[Reconcile]:
    """Yield a function that puts walls on all nodes; the VIP is there."""
    kind = IpvsServices if request.param == "ipvs" else NftablesServices
    vips = [Vip(VIP, VIP_PORT, protocol) for protocol in Protocol]
    await reconcile(WALLED)
    with ExitStack() as stack:
        for name, address in NODES.items():
            netns = Path("/run/netns", cluster[name])
            nft = Nft(netns=netns)
            stack.callback(nft.close)
            balancer = kind(nft, node=address, flows=Flows(netns=netns))
            stack.callback(balancer.close)
            backend = TO_CONTAINER if address == N2 else TO_NODE
            wanted = dict.fromkeys(vips, Service((backend,)))
            await balancer.apply(Delta(wanted, frozenset()))
        yield reconcile


def passes(view: View, client: Client, kind: str) -> bool:
    """Tell whether the semantics let *client* through, of all the ends that he has on the way."""
    evaluator = Evaluator(view)
    source = ip_address(client.addresses[4])
    ends = [TO_CONTAINER] if node_of(client.place) == "n2" else [TO_NODE, TO_CONTAINER]
    return all(
        evaluator.allowed(Packet(source, each.address, NUMBERS[kind], each.port)).is_allowed
        for each in ends
    )


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(WALLED, id="walls"),
        pytest.param(OPEN, id="no walls"),
        pytest.param(WALLED.changed(allow("dcos", "blue")), id="let in at the real port"),
        pytest.param(WALLED.changed(allow("dcos", "blue", HOST_PORT)), id="let in at the node's"),
        pytest.param(WALLED.changed(allow("dcos", "blue", VIP_PORT)), id="let in at the VIP's"),
    ],
)
async def test_behind_a_vip_and_a_mapped_port_the_real_ends_count(
    field: tuple[Names, Servers], put: Reconcile, view: View
) -> None:
    namespaces, servers = field
    await put(view)
    servers.reached.clear()

    heard = {
        (name, kind): asked(namespaces[client.place], str(VIP), VIP_PORT, kind).split()[0]
        for name, client in CONTAINERS.items()
        for kind in KINDS
    }

    wanted = {
        (name, kind): BEHIND if passes(view, client, kind) else REFUSED
        for name, client in CONTAINERS.items()
        for kind in KINDS
    }
    assert heard == wanted
    assert servers.reached == [BEHIND] * list(wanted.values()).count(BEHIND)
