"""Containers of IPv6 and the world outside of the cluster, with packets."""

import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.netns.overlay.test_overlay_packets import ADDRESS, ADDRESS6, VIEW, talk

from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.net.model.view import View
from phalanx.net.nat.desired import desired_nat
from phalanx.net.nat.layout import NAT
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

Socket = Callable[..., socket.socket]
Run = Callable[..., str]
NODE, WORLD = "fd00:77::1", "fd00:77::9"  # of n1 and of the world, on a link between them
FILTERED = "net.bridge.bridge-nf-call-ip6tables"


@pytest.fixture(autouse=True)
async def overlay(reconcile: Callable[[View], Awaitable[None]]) -> None:
    await reconcile(VIEW)


@pytest.fixture(scope="module", autouse=True)
def world(cluster: dict[str, str]) -> Iterator[None]:
    """Put the world, ``w``, on a link of n1's; it knows no way to containers."""
    node, name = cluster["n1"], f"{cluster['n1']}-w"
    setup = f"""
    ip netns add {name}
    ip -n {node} link add world type veth peer name eth0 netns {name}
    ip -n {node} addr add {NODE}/64 dev world nodad
    ip -n {node} link set world up
    ip -n {node} -6 route add default via {WORLD}
    ip -n {name} addr add {WORLD}/64 dev eth0 nodad
    ip -n {name} addr add 2001:db8::1/128 dev eth0 nodad
    ip -n {name} link set eth0 up
    """
    cluster["w"] = name
    try:
        for command in setup.strip().splitlines():
            subprocess.run(command.split(), check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.mark.parametrize("address", [WORLD, "2001:db8::1"])
def test_containers_are_seen_with_an_address_of_their_node(socket_in: Socket, address: str) -> None:
    assert talk(socket_in, "d1", "w", address) == NODE
    assert talk(socket_in, "b1", "w", address) == NODE


@pytest.mark.parametrize(("client", "server"), [("d1", "e1"), ("d1", "d2"), ("d1", "n2")])
def test_the_cluster_sees_them_with_their_own(socket_in: Socket, client: str, server: str) -> None:
    assert talk(socket_in, client, server, ADDRESS6[server]) == ADDRESS6[client]


def test_neighbours_see_them_with_their_own_where_bridged_packets_are_filtered(
    socket_in: Socket, run_in: Run
) -> None:
    before = run_in("n1", "sysctl", "-n", FILTERED).strip()
    run_in("n1", "sysctl", "-qw", f"{FILTERED}=1")
    try:
        for short in ("d1", "e1"):
            run_in(short, "ip", "neigh", "flush", "all")

        assert talk(socket_in, "d1", "e1", ADDRESS6["e1"]) == ADDRESS6["d1"]
    finally:
        run_in("n1", "sysctl", "-qw", f"{FILTERED}={before}")


async def test_the_kernel_tells_of_the_sets_as_they_were_made(cluster: dict[str, str]) -> None:
    wanted = desired_nat(VIEW, node=IPv4Address(ADDRESS["n1"]))
    nft = Nft(netns=Path("/run/netns", cluster["n1"]))
    table = KernelSetTable(nft, NAT)
    try:
        assert await Reconciler(table, lambda: wanted).reconcile_once()
        found = await table.read()
    finally:
        nft.close()

    assert found == wanted


def test_what_the_world_sends_unasked_is_answered_as_it_came(
    socket_in: Socket, run_in: Run
) -> None:
    run_in("w", "ip", "-6", "route", "add", "fd01:b::/64", "via", NODE)
    try:
        assert talk(socket_in, "w", "d1", ADDRESS6["d1"]) == WORLD
    finally:
        run_in("w", "ip", "-6", "route", "delete", "fd01:b::/64")
