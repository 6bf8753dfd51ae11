"""One contract, two backends: bridges in memory and in the kernel."""

import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.attachment.bridge import Bridge, mac_of
from phalanx.net.attachment.bridges import KernelBridges
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.memory import MemoryBridges

State = Mapping[int, Bridge]


def bridge(vni: int, gateway: str, network: str, mtu: int = 1450) -> Bridge:
    address = IPv4Interface(gateway)
    return Bridge(vni, network, (address,), mtu, mac_of(address.ip))


DCOS = bridge(1024, "9.0.1.1/24", "dcos")
DCOS_MOVED = bridge(1024, "9.0.7.1/24", "dcos", 1400)
BLUE = bridge(1025, "10.1.3.1/24", "blue")


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


class KernelLab:
    """The kernel's bridges in a namespace."""

    def __init__(self, ns: str) -> None:
        self.ns = ns
        self.links = KernelLinks(netns=Path("/run/netns", ns))
        self.bridges = KernelBridges(self.links)

    def add_port(self, vni: int) -> None:
        ip("-n", self.ns, "link", "add", "port", "master", f"phx-{vni}", "type", "veth")

    def remove_port(self, vni: int) -> None:
        ip("-n", self.ns, "link", "delete", "port")


class MemoryLab:
    """Bridges in memory."""

    def __init__(self) -> None:
        self.bridges = MemoryBridges()

    def add_port(self, vni: int) -> None:
        self.bridges.ports[vni] = 1

    def remove_port(self, vni: int) -> None:
        self.bridges.ports[vni] = 0


@pytest.fixture
def kernel(ns: str) -> Iterator[KernelLab]:
    lab = KernelLab(ns)
    yield lab
    lab.links.close()


@pytest.fixture(params=["memory", "kernel"])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[KernelLab | MemoryLab]:
    if request.param == "memory":
        yield MemoryLab()
    else:
        yield request.getfixturevalue("kernel")


SEQUENCES: dict[str, Sequence[State]] = {
    "grow-and-shrink": [{1024: DCOS}, {1024: DCOS, 1025: BLUE}, {1025: BLUE}, {}],
    "renumber": [{1024: DCOS}, {1024: DCOS_MOVED}],
    "rename": [{1024: DCOS}, {1024: replace(DCOS, network="other")}],
}


def expansions() -> Iterator[object]:
    for name, states in SEQUENCES.items():
        yield pytest.param(states, id=name)
        yield pytest.param(states[::-1], id=f"{name}-reversed")


@pytest.mark.parametrize("states", list(expansions()))
async def test_every_state_is_reached(lab: KernelLab | MemoryLab, states: Sequence[State]) -> None:
    for state in states:
        await lab.bridges.apply(delta(state, await lab.bridges.read()))

        assert await lab.bridges.read() == state


async def test_bridge_with_a_port_stays_until_the_port_is_gone(
    lab: KernelLab | MemoryLab,
) -> None:
    await lab.bridges.apply(Delta({1024: DCOS, 1025: BLUE}, frozenset()))
    lab.add_port(1024)

    with pytest.raises(DataplaneError, match="phx-1024: 1 ports are left"):
        await lab.bridges.apply(Delta({}, frozenset({1024, 1025})))
    assert set(await lab.bridges.read()) == {1024}
    lab.remove_port(1024)
    await lab.bridges.apply(Delta({}, frozenset({1024})))

    assert await lab.bridges.read() == {}


async def test_removing_what_is_gone_is_no_error(lab: KernelLab | MemoryLab) -> None:
    await lab.bridges.apply(Delta({}, frozenset({1024})))

    assert await lab.bridges.read() == {}


@pytest.mark.parametrize(
    "spoil",
    [
        ("link", "set", "phx-1024", "down"),
        ("link", "set", "phx-1024", "mtu", "1300"),
        ("link", "set", "phx-1024", "address", "02:00:00:00:00:01"),
        ("link", "set", "phx-1024", "alias", "mine"),
        ("address", "flush", "dev", "phx-1024"),
        ("address", "add", "10.9.9.9/24", "dev", "phx-1024"),
        ("link", "delete", "phx-1024"),
    ],
    ids=["down", "mtu", "mac", "alias", "no-address", "second-address", "deleted"],
)
async def test_drift_is_seen_and_repaired(kernel: KernelLab, spoil: tuple[str, ...]) -> None:
    desired = {1024: DCOS}
    await kernel.bridges.apply(delta(desired, {}))
    ip("-n", kernel.ns, *spoil)

    change = delta(desired, await kernel.bridges.read())
    assert change
    await kernel.bridges.apply(change)

    assert await kernel.bridges.read() == desired


async def test_links_without_our_mark_are_not_ours(kernel: KernelLab) -> None:
    for name in ("br0", "phx-vxlan", "phx-12x"):
        ip("-n", kernel.ns, "link", "add", name, "type", "bridge")

    assert await kernel.bridges.read() == {}


async def test_refused_bridge_does_not_hold_up_the_others(kernel: KernelLab) -> None:
    ip("-n", kernel.ns, "link", "add", "phx-1024", "type", "veth")

    with pytest.raises(DataplaneError, match="phx-1024 is there and no bridge"):
        await kernel.bridges.apply(Delta({1024: DCOS, 1025: BLUE}, frozenset()))

    assert await kernel.bridges.read() == {1025: BLUE}


async def test_node_forwards_once_its_links_are_open(kernel: KernelLab) -> None:
    shown = ip("netns", "exec", kernel.ns, "cat", "/proc/sys/net/ipv4/ip_forward")

    assert shown == "1\n"
