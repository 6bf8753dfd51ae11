"""The CNI commands over links in memory and leases on disk."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from phalanx.core.error import ConflictError, DataplaneError, NotFoundError, UnavailableError
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.commands import carry_out
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.memory import MemoryLinks
from phalanx.net.attachment.ports import MemoryHostPorts, PortMapping
from phalanx.net.attachment.request import Command, Request
from phalanx.net.attachment.spec import AttachmentSpec
from phalanx.net.attachment.wish import NO_WISHES, Wishes, pools
from phalanx.net.ipam.owner import Owner
from phalanx.net.ipam.store import AddressStore

NETWORK = LeasedNetwork(
    "dcos",
    1024,
    1450,
    (LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/29"), IPv4Address("9.0.1.1")),),
)
POOLS = pools(NETWORK, NO_WISHES)
A, B = Owner("a", "eth0"), Owner("b", "eth0")


def request(command: Command, owner: Owner = A, **fields: Any) -> Request:
    return Request(command, "1.0.0", "dcos", owner, netns=f"/ns/{owner.container_id}", **fields)


class Lab:
    """Attachments with their links and leases at hand."""

    def __init__(self, directory: Path, links: MemoryLinks | None = None) -> None:
        self.links = links or MemoryLinks("/ns/a", "/ns/b")
        self.leases = AddressStore(directory)
        self.ports = MemoryHostPorts()
        self.attachments = Attachments(self.links, self.leases, self.ports)

    def run(self, *arguments: Any, **fields: Any) -> dict[str, Any]:
        return carry_out(self.attachments, request(*arguments, **fields), lambda: NETWORK)

    @property
    def held(self) -> dict[str, Owner]:
        return {str(address): owner for address, owner in self.leases.leases("dcos").items()}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_add_leases_an_address_and_attaches(lab: Lab) -> None:
    result = lab.run(Command.ADD)

    assert result["ips"][0]["address"] == "9.0.1.2/29"
    assert result["interfaces"][2]["sandbox"] == "/ns/a"
    assert lab.held == {"9.0.1.2": A}
    assert [spec.owner for spec in lab.links.attached.values()] == [A]


def test_second_add_is_refused_and_spoils_nothing(lab: Lab) -> None:
    lab.run(Command.ADD)

    for wanted in ((), (IPv4Address("9.0.1.2"),), (IPv4Address("9.0.1.5"),)):
        with pytest.raises(ConflictError, match="holds"):
            lab.run(Command.ADD, wishes=Wishes(addresses=wanted))

    assert lab.held == {"9.0.1.2": A}
    assert len(lab.links.attached) == 1


def test_lease_of_an_add_that_died_is_taken_over(lab: Lab) -> None:
    lab.leases.reserve("dcos", POOLS, A)

    result = lab.run(Command.ADD)

    assert lab.held == {result["ips"][0]["address"].removesuffix("/29"): A}


def test_sweep_frees_leases_without_a_link_and_no_others(lab: Lab) -> None:
    lab.run(Command.ADD)
    for gone in (B, Owner("c", "")):
        lab.leases.reserve("dcos", POOLS, gone)
    lab.leases.reserve("blue", POOLS, B)

    lab.attachments.sweep()

    assert set(lab.held.values()) == {A, Owner("c", "")}
    assert lab.leases.leases("blue") == {}


def test_sweep_before_the_first_lease_finds_nothing(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "ipam")

    lab.attachments.sweep()

    assert lab.held == {}


@pytest.mark.parametrize(
    ("links", "error"),
    [
        pytest.param(MemoryLinks("/ns/b"), NotFoundError, id="no-namespace"),
        pytest.param(MemoryLinks("/ns/a"), ConflictError, id="interface-exists"),
    ],
)
def test_failed_add_keeps_no_lease(
    tmp_path: Path, links: MemoryLinks, error: type[Exception]
) -> None:
    lab = Lab(tmp_path, links)
    for ifnames in links.namespaces.values():
        ifnames.add("eth0")

    with pytest.raises(error):
        lab.run(Command.ADD)

    assert lab.held == {}
    assert lab.links.attached == {}


def test_version_that_cannot_be_answered_attaches_nothing(lab: Lab) -> None:
    asked = Request(Command.ADD, "7.0.0", "dcos", A, netns="/ns/a")

    with pytest.raises(CniError, match="incompatible"):
        carry_out(lab.attachments, asked, lambda: NETWORK)

    assert lab.held == {}
    assert lab.links.attached == {}


def test_exhausted_subnet_is_told_by_add_and_status(lab: Lab) -> None:
    lab.run(Command.STATUS)
    for number in range(5):
        owner = Owner(f"c{number}", "eth0")
        lab.leases.reserve("dcos", POOLS, owner)

    with pytest.raises(UnavailableError, match="no IP addresses available"):
        lab.run(Command.ADD)
    with pytest.raises(CniError, match="no IP addresses available") as caught:
        lab.run(Command.STATUS)

    assert caught.value.code is Code.NOT_AVAILABLE


def test_delete_is_idempotent_and_needs_no_namespace(lab: Lab) -> None:
    lab.run(Command.ADD)
    del lab.links.namespaces["/ns/a"]

    for _ in range(2):
        assert lab.run(Command.DEL) == {}

    assert lab.held == {}
    assert lab.links.attached == {}


def test_delete_asks_for_no_network(lab: Lab) -> None:
    def nobody() -> LeasedNetwork:
        raise UnavailableError("no view")

    lab.run(Command.ADD)

    assert carry_out(lab.attachments, request(Command.DEL), nobody) == {}
    assert carry_out(lab.attachments, request(Command.GC), nobody) == {}


def test_check_is_quiet_when_all_is_well(lab: Lab) -> None:
    lab.run(Command.ADD)

    assert lab.run(Command.CHECK, previous=(IPv4Interface("9.0.1.2/29"),)) == {}


def test_check_names_every_fault(lab: Lab) -> None:
    lab.run(Command.ADD)
    lab.links.namespaces["/ns/a"].discard("eth0")

    with pytest.raises(CniError, match=r"eth0 is missing; prevResult lacks 9\.0\.1\.2/29"):
        lab.run(Command.CHECK, previous=(IPv4Interface("9.0.1.3/29"),))


def test_check_of_a_stranger_is_unknown(lab: Lab) -> None:
    with pytest.raises(CniError, match="a/eth0 holds no address") as caught:
        lab.run(Command.CHECK)

    assert caught.value.code is Code.UNKNOWN_CONTAINER


def test_gc_removes_all_but_the_valid(lab: Lab) -> None:
    lab.run(Command.ADD)
    lab.run(Command.ADD, B)
    lab.leases.reserve("dcos", POOLS, Owner("dead", "eth0"))

    lab.run(Command.GC, Owner("", ""), valid=frozenset({B}))

    assert list(lab.held.values()) == [B]
    assert [spec.owner for spec in lab.links.attached.values()] == [B]


class Stubborn(MemoryLinks):
    """Links of which one can't be removed."""

    def detach(self, veth: str) -> bool:
        spec: AttachmentSpec = self.attached[veth]
        if spec.owner == A:
            raise DataplaneError(f"{veth}: busy", table="attachment")
        return super().detach(veth)


def test_gc_goes_on_past_a_refusal_and_tells_of_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Stubborn("/ns/a", "/ns/b"))
    lab.run(Command.ADD)
    lab.run(Command.ADD, B)

    with pytest.raises(CniError, match="busy"):
        lab.run(Command.GC, Owner("", ""))

    assert list(lab.held.values()) == [A]
    assert [spec.owner for spec in lab.links.attached.values()] == [A]


def test_lease_outlives_a_delete_that_was_refused(tmp_path: Path) -> None:
    lab = Lab(tmp_path, Stubborn("/ns/a"))
    lab.run(Command.ADD)

    with pytest.raises(DataplaneError, match="busy"):
        lab.run(Command.DEL)

    assert lab.held == {"9.0.1.2": A}


WEB = PortMapping(80, 8080)


def test_host_ports_come_and_go_with_the_attachment(lab: Lab) -> None:
    lab.run(Command.ADD, ports=(WEB,))
    assert lab.ports.opened == {("dcos", A): (WEB,)}

    lab.run(Command.DEL)
    assert lab.ports.opened == {}


def test_taken_host_port_leaves_nothing(lab: Lab) -> None:
    lab.run(Command.ADD, ports=(WEB,))

    with pytest.raises(ConflictError, match="80/tcp"):
        lab.run(Command.ADD, B, ports=(WEB,))

    assert set(lab.held.values()) == {A}
    assert len(lab.links.attached) == 1


def test_collect_and_sweep_take_host_ports_along(lab: Lab) -> None:
    lab.run(Command.ADD, ports=(WEB,))
    lab.run(Command.GC, valid=frozenset({A}))
    assert lab.ports.opened
    lab.links.attached.clear()
    lab.attachments.sweep()
    assert lab.ports.opened == {}
