"""Policies through VIPs, every cell with real packets: a VIP is no hole in a wall.

Clients of every kind connect to a VIP of each backend. Who arrives is held
against the semantics of policies for the real ends, and the source address that
he sees against the table in docs/design/lb.md.
"""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from tests.netns.isolation.vip_field import (
    BACKENDS,
    CLIENTS,
    KINDS,
    NODES,
    ON_HOST,
    OPEN,
    POOLS,
    PORT,
    VIP_PORT,
    WALLED,
    Client,
    Names,
    Servers,
    address_of,
    gateway_of,
    network_of,
    node_of,
    of_node,
    open_in,
    outside,
    run,
    serving,
    vip_of,
)

from phalanx.core.reconcile.delta import delta
from phalanx.lb.desired import desired_services
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.kernel import has_ipvs
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.nftables.services import NftablesServices
from phalanx.net.isolation.evaluate import Evaluator, Packet
from phalanx.net.isolation.fence import desired_fence
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Action, Policy, TaskPort, Tier, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element, render_change
from phalanx.net.nft.library import Nft

Reconcile = Callable[[View], Awaitable[None]]

PATIENCE_SECONDS = 30.0
AT_ONCE = 8
NUMBERS = {"tcp": 6, "udp": 17}
REFUSED, SILENCE = "refused", "silence"
OWN, OWN6 = "203.0.114.7", "fd01:f::7"  # VIPs by address
HIDDEN = 5052  # of the node, and nobody's else


def allow(source: str, destination: str, port: int = PORT) -> list[Policy]:
    return [
        Policy(f"{source}-{kind}", source, destination, Traffic(kind), ports=((port, port),))
        for kind in KINDS
    ]


def deny(source: str, destination: str) -> Policy:
    name = f"{source}-{destination}"
    every = Policy(name, source, destination, Traffic.ANY, tier=Tier.CLUSTER)
    return msgspec.structs.replace(every, action=Action.DENY)


VIEWS = {
    "walls": WALLED,
    "no walls": OPEN,
    "let in at the real port": WALLED.changed(allow("dcos", "blue")),
    "let in at the port of the VIP": WALLED.changed(allow("dcos", "blue", VIP_PORT)),
    "let in to VIPs": WALLED.changed(
        policy for pool in POOLS for policy in allow("dcos", str(pool), VIP_PORT)
    ),
    "let in by label": WALLED.changed(allow("role=job", "role=db")),
    "shut out by label": OPEN.changed([deny("role=web", "role=db")]),
    "shut out of VIPs": OPEN.changed(deny("any", str(pool)) for pool in POOLS),
    "the outside shut out": OPEN.changed(
        deny(prefix, "blue") for prefix in ("203.0.113.0/24", "fd01:e::/64")
    ),
    "the public node shut out": OPEN.changed(
        deny(address, "blue") for address in of_node(NODES["n1"]).values()
    ),
}


# Under IPVS, in the guest, a cell takes ten times as long.
CASES = [pytest.param("nftables", view, id=f"nftables-{name}") for name, view in VIEWS.items()]
if has_ipvs():
    CASES += [
        pytest.param("ipvs", VIEWS[name], id=f"ipvs-{name}")
        for name in ("walls", "let in at the real port")
    ]


@pytest.fixture(scope="module")
def field(cluster: Names) -> Iterator[tuple[Names, Servers]]:
    """Yield the namespaces and the servers behind the VIPs."""
    with outside(cluster) as there, serving(cluster) as servers:
        for name in NODES:  # else the kernel says one client no more than one refusal a second
            sysctl = ("sysctl", "-qw", "net.ipv6.icmp.ratelimit=0")
            run("ip", "netns", "exec", cluster[name], *sysctl)
        yield {**cluster, "outside": there}, servers


@pytest_asyncio.fixture
async def put(
    request: pytest.FixtureRequest, cluster: Names, reconcile: Reconcile
) -> AsyncIterator[Reconcile]:
    """Yield a function that puts walls, fences and VIPs on all nodes."""
    kind = IpvsServices if request.param == "ipvs" else NftablesServices
    with ExitStack() as stack:
        balancers: dict[str, IpvsServices | NftablesServices] = {}
        for name, address in NODES.items():
            netns = Path("/run/netns", cluster[name])
            nft = Nft(netns=netns)
            stack.callback(nft.close)
            balancer = kind(nft, node=address, flows=Flows(netns=netns))
            stack.callback(balancer.close)
            balancers[name] = balancer

        async def run_pass(view: View) -> None:
            await reconcile(view)
            for name, address in NODES.items():
                _put_fence(cluster[name], view, address)
                wanted = desired_services(view, node=address)
                change = delta(wanted, await balancers[name].read())
                await balancers[name].apply(change)

        yield run_pass
        for name, balancer in balancers.items():
            if isinstance(balancer, IpvsServices):
                await balancer.clear()
            else:
                delete = ("nft", "delete table inet phalanx_lb")
                run("ip", "netns", "exec", cluster[name], *delete)


def _put_fence(namespace: str, view: View, node: IPv4Address) -> None:
    fence = desired_fence(view, node=node, services=(), resolvers=(), vips=POOLS)
    change = render_change("add", ISOLATION.table, fence)
    run("ip", "netns", "exec", namespace, "nft", change)


def expected(view: View, client: Client, backend: str, kind: str, version: int) -> str:
    """Return what a client should hear: the backend and the source that it sees, or REFUSED."""
    evaluator = Evaluator(view)
    source = seen_source(client, backend, kind, version)
    # A node that lends its address to a client is asked for it at the other node, too.
    sources = {client.addresses[version]} | ({source} if client.place == "outside" else set())
    is_own = client.place == node_of(backend)  # what a node sends to its own is not judged
    is_allowed = is_own or all(
        evaluator.allowed(
            Packet(ip_address(each), ip_address(address_of(backend, version)), NUMBERS[kind], PORT)
        ).is_allowed
        for each in sources
    )
    return f"{backend} {ip_address(source)}" if is_allowed else REFUSED


def seen_source(client: Client, backend: str, kind: str, version: int) -> str:
    """Return the source that a backend sees (docs/design/lb.md)."""
    is_near = node_of(client.place) == node_of(backend)
    if client.network is not None and is_near and client.network == network_of(backend):
        return gateway_of(backend, version)  # a hairpin
    if client.place == "outside" and not is_near:
        return of_node(NODES["n1"])[version]
    if kind == "udp" and backend in ON_HOST and is_near and client.place not in NODES:
        return of_node(NODES[ON_HOST[backend]])[version]  # answers come from where it asked
    return client.addresses[version]


def heard(namespace: str, client: Client, backend: str, kind: str, version: int) -> str:
    """Return what a client hears by the VIP of *backend*."""
    source = client.addresses[version] if client.is_bound else ""
    return asked(namespace, vip_of(backend, version), VIP_PORT, kind, source=source)


def asked(namespace: str, address: str, port: int, kind: str, *, source: str = "") -> str:
    """Return what is heard at an address: words, REFUSED or SILENCE."""
    with open_in(namespace, KINDS[kind], ip_address(address).version) as opened:
        opened.settimeout(PATIENCE_SECONDS)
        if source:
            opened.bind((source, 0))
        try:
            opened.connect((address, port))
            if kind == "udp":
                opened.send(b"who")
            return opened.recv(100).decode()
        except TimeoutError:
            return SILENCE
        except OSError:
            return REFUSED


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(("put", "view"), CASES, indirect=["put"])
async def test_every_client_fares_by_a_vip_as_the_semantics_say_of_the_real_ends(
    field: tuple[Names, Servers], put: Reconcile, view: View, version: int
) -> None:
    namespaces, servers = field
    await put(view)
    servers.reached.clear()
    cells = [
        (name, backend, kind)
        for name in CLIENTS
        for backend in BACKENDS
        for kind in KINDS
        if version == 4 or backend not in ON_HOST
    ]
    wanted = [expected(view, CLIENTS[each[0]], each[1], each[2], version) for each in cells]

    def hear(cell: tuple[str, str, str]) -> str:
        name, backend, kind = cell
        client = CLIENTS[name]
        return heard(namespaces[client.place], client, backend, kind, version)

    with ThreadPoolExecutor(AT_ONCE) as pool:  # by IPv6 some wait a second for their refusal
        found = list(pool.map(hear, cells))

    wrong = [
        f"{' '.join(cell)}: {each}, not {other}"
        for cell, each, other in zip(cells, found, wanted, strict=True)
        if each != other
    ]
    reached = [cell[1] for cell, each in zip(cells, wanted, strict=True) if each != REFUSED]
    assert not wrong, "\n".join(wrong)
    # Nor did a packet arrive of those who were refused.
    assert sorted(servers.reached) == sorted(reached)


@pytest.mark.parametrize("put", ["nftables", *(["ipvs"] if has_ipvs() else [])], indirect=True)
@pytest.mark.parametrize(("own", "length"), [(OWN, 32), (OWN6, 128)], ids=["ipv4", "ipv6"])
async def test_address_that_a_task_chose_leads_to_no_service_of_the_node(
    field: tuple[Names, Servers], put: Reconcile, own: str, length: int
) -> None:
    namespaces, _ = field
    version = 4 if length == 32 else 6
    task = WALLED.tasks["marathon/d2"]
    label = (("VIP_0", f"{own}:{VIP_PORT}"),)
    await put(
        WALLED.changed([msgspec.structs.replace(task, ports=(TaskPort(PORT, labels=label),))])
    )
    # As plane/tables.py makes the address the node's: for IPVS, and where datagrams are refused.
    route = (f"-{version}", "route", "replace", "local", f"{own}/{length}", "dev", "lo")
    run("ip", "-n", namespaces["n1"], *route)
    fence = [Element(f"vips{version}", (f"{own}",))]
    change = render_change("add", ISOLATION.table, fence)
    run("ip", "netns", "exec", namespaces["n1"], "nft", change)

    with ExitStack() as stack:
        for kind in KINDS.values():
            opened = stack.enter_context(open_in(namespaces["n1"], kind, version))
            opened.bind(("", HIDDEN))
            if kind == socket.SOCK_STREAM:
                opened.listen()
        served = asked(namespaces["d1"], own, VIP_PORT, "tcp")
        hidden = [asked(namespaces["d1"], own, HIDDEN, kind) for kind in KINDS]

    assert served == f"d2 {ip_address(CLIENTS['container'].addresses[version])}"
    assert hidden == [REFUSED, REFUSED]
