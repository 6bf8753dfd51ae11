"""One contract, two backends: attachments in memory and in the kernel."""

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.error import ConflictError, NotFoundError
from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.kernel import KernelLinks
from phalanx.net.attachment.links import Links
from phalanx.net.attachment.memory import MemoryLinks
from phalanx.net.attachment.spec import AttachmentSpec, plan
from phalanx.net.ipam.owner import Owner

DCOS = LeasedNetwork(
    "dcos",
    1024,
    1450,
    (LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1")),),
)


class Direct:
    """Calls the kernel's links in their own thread, so that they look like any others."""

    def __init__(self, links: KernelLinks) -> None:
        self._links = links

    def attach(self, spec: AttachmentSpec) -> None:
        self._links.run(lambda: self._links.attach(spec))

    def detach(self, veth: str) -> bool:
        return self._links.run(lambda: self._links.detach(veth))

    def has(self, veth: str) -> bool:
        return self._links.run(lambda: self._links.has(veth))

    def differences(self, spec: AttachmentSpec) -> list[str]:
        return self._links.run(lambda: self._links.differences(spec))

    def veths(self, network: str) -> set[str]:
        return set(self._links.run(lambda: self._links.veths(network)))


@pytest.fixture
def containers() -> Iterator[list[str]]:
    names = [f"phxtest-c{uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    yield [f"/run/netns/{name}" for name in names]
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@pytest.fixture(params=["memory", "kernel"])
def links(request: pytest.FixtureRequest, ns: str, containers: list[str]) -> Iterator[Links]:
    if request.param == "memory":
        yield MemoryLinks(*containers)
        return
    kernel = KernelLinks(netns=Path("/run/netns", ns))
    yield Direct(kernel)
    kernel.close()


def spec(container: str, netns: str, last: int = 2, ifname: str = "eth0") -> AttachmentSpec:
    address = IPv4Address(f"9.0.1.{last}")
    return plan(Owner(container, ifname), DCOS, [address], netns=(netns,))


def test_what_is_attached_is_there_and_as_planned(links: Links, containers: list[str]) -> None:
    first = spec("a", containers[0])

    links.attach(first)

    assert links.has(first.veth)
    assert list(links.veths("dcos")) == [first.veth]
    assert list(links.veths("blue")) == []
    assert links.differences(first) == []


def test_what_is_detached_is_gone(links: Links, containers: list[str]) -> None:
    first = spec("a", containers[0])
    links.attach(first)

    assert [links.detach(first.veth), links.detach(first.veth)] == [True, False]
    assert not links.has(first.veth)
    assert links.differences(first) != []
    links.attach(first)
    assert links.differences(first) == []


def test_same_attachment_twice_is_a_conflict(links: Links, containers: list[str]) -> None:
    links.attach(spec("a", containers[0]))

    with pytest.raises(ConflictError, match="exists on the node"):
        links.attach(spec("a", containers[1], 3))

    assert links.differences(spec("a", containers[0])) == []


def test_interface_that_exists_is_a_conflict(links: Links, containers: list[str]) -> None:
    links.attach(spec("a", containers[0]))

    with pytest.raises(ConflictError, match="'eth0' exists in the container"):
        links.attach(spec("b", containers[0], 3))

    assert not links.has(spec("b", containers[0]).veth)


def test_namespace_that_is_missing_is_told(links: Links) -> None:
    with pytest.raises(NotFoundError, match="there is none"):
        links.attach(spec("a", "/run/netns/phxtest-absent"))

    assert list(links.veths("dcos")) == []


def test_other_address_is_a_difference(links: Links, containers: list[str]) -> None:
    links.attach(spec("a", containers[0]))

    faults = links.differences(spec("a", containers[0], 3))

    assert "address 9.0.1.3/24 is missing" in faults


def test_second_interface_of_a_container_is_an_attachment_of_its_own(
    links: Links, containers: list[str]
) -> None:
    both = [spec("a", containers[0]), spec("a", containers[0], 3, "eth1")]
    for each in both:
        links.attach(each)

    links.detach(both[0].veth)

    assert list(links.veths("dcos")) == [both[1].veth]
    assert links.differences(both[1]) == []
