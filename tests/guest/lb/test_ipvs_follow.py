"""A change costs a look at what it is about; what somebody else did is noticed all the same."""

import json
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.guest.lb.ipvs_lab import DNS, OWN, WEB, WEB6, Lab, service, wait

from phalanx.core.reconcile.delta import delta
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.service import Scheduler, Service, Vip
from phalanx.net.nft.library import Nft

Table = dict[Vip, Service]

WANTED: Table = {
    WEB: service(b1=1, b2=1),
    OWN: service(b1=1),
    WEB6: service(version=6, b1=1),
    DNS: service(b1=0),
}


class CountingNft(Nft):
    """The real library, counting listings."""

    def __init__(self, *, netns: Path) -> None:
        super().__init__(netns=netns)
        self.listings = 0

    async def read(
        self, command: str, *, table: str, with_elements: bool = True
    ) -> Sequence[dict[str, Any]]:
        self.listings += 1
        return await super().read(command, table=table, with_elements=with_elements)


class Plane:
    """The balancer's table as a plane keeps it."""

    def __init__(self, lab: Lab) -> None:
        self.nft = CountingNft(netns=lab.path("node"))
        self.services = IpvsServices(self.nft, flows=Flows(netns=lab.path("node")))
        self.wanted: Table = dict(WANTED)
        self.loop: IncrementalReconciler[Table, Vip, Service] = IncrementalReconciler(
            self.services,
            lambda: self.wanted,
            dict,
            lambda old, new: delta(new, old),
            is_known=self.services.is_known,
        )

    def passes(self, wanted: Table) -> bool:
        self.wanted = wanted
        return wait(self.loop.reconcile_once(resync=False))

    def holds(self) -> Table:
        return dict(wait(self.services.read()))


@pytest.fixture
def plane(lab: Lab) -> Iterator[Plane]:
    made = Plane(lab)
    assert made.passes(dict(WANTED))
    assert made.passes(WANTED | {WEB: service(b1=1)})
    assert made.services.is_known()
    yield made
    made.services.close()
    made.nft.close()


def test_change_lists_nothing(plane: Plane) -> None:
    listed = plane.nft.listings
    after: Table = {
        WEB: service(b1=1, b3=1),
        OWN: service(b1=0),
        Vip(OWN.address, 444): service(b2=1),
        DNS: service(b2=1),
    }

    assert plane.passes(after)
    assert plane.passes(after | {WEB6: service(version=6, b1=0)})

    assert plane.nft.listings == listed
    assert plane.services.is_known()
    assert plane.holds() == after | {WEB6: service(version=6, b1=0)}
    assert plane.services.is_known()


def test_any_sequence_of_changes_ends_as_wanted_without_a_listing(plane: Plane) -> None:
    rng = Random(7)
    vips = [WEB, OWN, Vip(OWN.address, 444), WEB6, Vip(ip_address("fd77::1"), 80), DNS]
    assert plane.passes(WANTED | {vips[4]: Service()})
    listed = plane.nft.listings
    for _ in range(25):
        wanted: Table = {}
        for vip in rng.sample(vips, rng.randrange(1, len(vips))):
            weights = {name: rng.choice((0, 1, 3)) for name in ("b1", "b2") if rng.random() < 0.7}
            wanted[vip] = service(
                version=vip.address.version, scheduler=Scheduler.RR, affinity=0, **weights
            )
        assert plane.passes(wanted)

    assert plane.nft.listings == listed
    assert plane.holds() == wanted


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("ipvsadm", "-C"), id="all-cleared"),
        pytest.param(("ipvsadm", "-D", "-t", f"{OWN.address}:{OWN.port}"), id="service-deleted"),
        pytest.param(("ipvsadm", "-A", "-t", "11.9.9.9:80", "-s", "rr"), id="service-added"),
        pytest.param(("nft", "delete table inet phalanx_ipvs"), id="table-deleted"),
        pytest.param(("nft", "flush chain inet phalanx_ipvs rest"), id="chain-flushed"),
        pytest.param(
            ("nft", "add element inet phalanx_ipvs outside4 { 192.0.2.9 }"), id="element-added"
        ),
    ],
)
def test_change_of_one_service_after_harm_brings_all_of_them_back(
    lab: Lab, plane: Plane, damage: tuple[str, ...]
) -> None:
    lab.inside(*damage)
    after = WANTED | {WEB: service(b2=1)}

    assert plane.passes(after)

    assert plane.holds() == after
    elements = json.loads(
        lab.inside("nft", "-j", "list", "set", "inet", "phalanx_ipvs", "outside4")
    )
    assert elements["nftables"][1]["set"]["elem"] == [str(OWN.address)]


def test_harm_that_a_change_meets_is_followed_by_a_look_at_all(lab: Lab, plane: Plane) -> None:
    weight = ("-r", "9.0.1.11:8080", "-m", "-w", "9")
    for vip in (WEB, OWN):  # the number of services stays
        lab.inside("ipvsadm", "-e", "-t", f"{vip.address}:{vip.port}", *weight)
    after = WANTED | {WEB: service(b2=1)}

    assert not plane.passes(after)  # what it is about was not as it had been left
    assert plane.passes(after)

    assert plane.holds() == after


def test_setting_comes_back_with_any_change(lab: Lab, plane: Plane) -> None:
    lab.inside("sysctl", "-qw", "net.ipv4.vs.expire_nodest_conn=0")

    assert plane.passes(WANTED | {WEB: service(b2=1)})

    assert lab.inside("sysctl", "-n", "net.ipv4.vs.expire_nodest_conn").strip() == "1"


def test_services_of_others_are_no_sign_of_harm(lab: Lab, plane: Plane) -> None:
    foreign = ("-t", "192.0.2.1:80")
    lab.inside("ipvsadm", "-A", *foreign, "-s", "lc")
    try:
        assert plane.passes(WANTED | {WEB: service(b2=1)})
        listed = plane.nft.listings

        assert plane.passes(WANTED | {WEB: service(b3=1)})

        assert plane.nft.listings == listed
        assert "192.0.2.1:80 lc" in lab.inside("ipvsadm", "-Ln")
    finally:
        lab.inside("ipvsadm", "-D", *foreign)


def test_vip_that_somebody_else_serves_holds_up_no_other(lab: Lab, plane: Plane) -> None:
    own = Vip(ip_address("192.0.2.1"), 80)
    lab.inside("ipvsadm", "-A", "-t", "192.0.2.1:80", "-s", "lc")
    try:
        after = WANTED | {WEB: service(b2=1), own: service(b1=1)}

        assert not plane.passes(after)

        assert plane.holds()[WEB] == after[WEB]
        assert "192.0.2.1:80 lc" in lab.inside("ipvsadm", "-Ln")
    finally:
        lab.inside("ipvsadm", "-D", "-t", "192.0.2.1:80")
    assert plane.passes(WANTED)
