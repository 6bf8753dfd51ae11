"""One contract, three data planes: what holds in memory must hold in the kernel.

IPVS is among them where the kernel has it; ``make test-ipvs`` boots one that does.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from phalanx.core.reconcile.dataplane import Dataplane
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.exec import Flows
from phalanx.lb.ipvs.kernel import has_ipvs
from phalanx.lb.ipvs.services import IpvsServices
from phalanx.lb.memory import MemoryServices
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Scheduler, Service, Vip
from phalanx.net.model.objects import Protocol
from phalanx.net.nft.library import Nft

Services = Dataplane[Vip, Service]

WEB = Vip(IPv4Address("11.0.0.1"), 80)
WEB_UDP = Vip(IPv4Address("11.0.0.1"), 80, Protocol.UDP)
OWN = Vip(IPv4Address("1.2.3.4"), 8443)
SIX = Vip(IPv6Address("fd01:c::1"), 80)
OWN_SIX = Vip(IPv6Address("fd01:f::1"), 53, Protocol.UDP)


def backend(number: int, weight: int = 1) -> Backend:
    return Backend(IPv4Address("9.0.0.0") + number, 8080, weight)


def service(*numbers: int) -> Service:
    return Service.of(backend(number) for number in numbers)


def six(*numbers: int, weight: int = 1) -> Service:
    address = IPv6Address("fd01:b::")
    return Service.of(Backend(address + number, 8080, weight) for number in numbers)


def chosen(scheduler: Scheduler, affinity_seconds: int = 0) -> Service:
    return Service(
        service(1, 2, 3).backends, scheduler=scheduler, affinity_seconds=affinity_seconds
    )


@pytest.fixture(params=["memory", "nftables", *(["ipvs"] if has_ipvs() else [])])
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    if request.param == "memory":
        yield MemoryServices()
        return
    netns = Path("/run/netns") / request.getfixturevalue("ns")
    nft = Nft(netns=netns)
    flows = Flows(netns=netns)
    kind = IpvsServices if request.param == "ipvs" else NftablesServices
    services = kind(nft, flows=flows)
    try:
        yield services
    finally:
        services.close()
        nft.close()


async def test_holds_nothing_at_first(services: Services) -> None:
    assert await services.read() == {}


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param({WEB: service(1)}, id="one-backend"),
        pytest.param({WEB: service(1, 2, 3), OWN: service(4)}, id="two-services"),
        pytest.param({WEB: service(1), WEB_UDP: service(2)}, id="both-protocols"),
        pytest.param({WEB: service(*range(40))}, id="more-than-a-short-table"),
        pytest.param({WEB: service(*range(2100))}, id="more-than-the-longest-table"),
        pytest.param({WEB: Service.of([backend(1), backend(2, 0)])}, id="one-draining"),
        pytest.param({WEB: Service.of([backend(1, 0), backend(2, 0)])}, id="all-draining"),
        pytest.param({WEB: Service()}, id="no-backend"),
        pytest.param({WEB: Service.of([backend(1, 5), backend(2, 3)])}, id="weights"),
        pytest.param(
            {WEB: Service.of([backend(1, 10_000), backend(2, 1)])}, id="weights-too-far-apart"
        ),
        pytest.param({SIX: six(1, 2), WEB: service(1), OWN_SIX: six(3)}, id="ipv6"),
        pytest.param({SIX: six(1, weight=0), OWN_SIX: Service()}, id="ipv6-refused"),
        pytest.param(
            {WEB: chosen(Scheduler.RR), WEB_UDP: chosen(Scheduler.SH), OWN: chosen(Scheduler.MH)},
            id="schedulers",
        ),
        pytest.param({WEB: chosen(Scheduler.WLC, 300)}, id="affinity"),
        pytest.param({SIX: Service(six(1).backends, True, Scheduler.SH, 9)}, id="ipv6-affinity"),
        pytest.param({WEB: Service((), True, Scheduler.MH, 9)}, id="affinity-of-no-backend"),
    ],
)
async def test_reads_back_what_was_applied(services: Services, wanted: dict[Vip, Service]) -> None:
    await services.apply(Delta(wanted, frozenset()))

    assert await services.read() == wanted


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(service(1, 2, 3), service(1, 3), id="backend-leaves"),
        pytest.param(service(1, 3), service(1, 2, 3), id="backend-comes"),
        pytest.param(service(1, 2), Service.of([backend(1), backend(2, 0)]), id="backend-drains"),
        pytest.param(Service.of([backend(1, 0)]), service(1), id="backend-comes-back"),
        pytest.param(service(1), Service(), id="last-backend-leaves"),
        pytest.param(service(*range(8)), service(*range(9)), id="table-grows"),
        pytest.param(service(*range(9)), service(*range(8)), id="table-shrinks"),
        pytest.param(service(1, 2), service(3, 4), id="all-replaced"),
        pytest.param(service(1, 2, 3), chosen(Scheduler.MH), id="scheduler-changes"),
        pytest.param(chosen(Scheduler.MH, 60), service(1, 2, 3), id="affinity-ends"),
        pytest.param(chosen(Scheduler.SH, 60), chosen(Scheduler.SH, 30), id="affinity-changes"),
        pytest.param(
            chosen(Scheduler.MH),
            Service(service(1).backends, True, Scheduler.MH),
            id="hash-shrinks",
        ),
    ],
)
async def test_upsert_replaces_a_service(
    services: Services, before: Service, after: Service
) -> None:
    await services.apply(Delta({WEB: before, OWN: service(9)}, frozenset()))

    await services.apply(Delta({WEB: after}, frozenset()))

    assert await services.read() == {WEB: after, OWN: service(9)}


async def test_removal_leaves_the_others(services: Services) -> None:
    await services.apply(
        Delta({WEB: service(1, 2), WEB_UDP: service(1), OWN: service(3)}, frozenset())
    )

    await services.apply(Delta({}, frozenset((WEB, WEB_UDP))))

    assert await services.read() == {OWN: service(3)}


async def test_removing_what_is_not_there_changes_nothing(services: Services) -> None:
    await services.apply(Delta({WEB: service(1)}, frozenset()))

    await services.apply(Delta({}, frozenset((OWN,))))

    assert await services.read() == {WEB: service(1)}


async def test_unchanged_pass_finds_nothing_to_do(services: Services) -> None:
    wanted = {
        WEB: chosen(Scheduler.MH, 300),
        SIX: six(1, 2),
        OWN: Service.of([backend(1, 3), backend(2, 0)]),
        OWN_SIX: Service(),
    }
    await services.apply(Delta(wanted, frozenset()))

    assert not delta(wanted, await services.read())


async def test_what_was_read_does_not_change_with_later_changes(services: Services) -> None:
    await services.apply(Delta({WEB: service(1)}, frozenset()))
    seen = await services.read()

    await services.apply(Delta({}, frozenset((WEB,))))

    assert seen == {WEB: service(1)}


async def test_one_pass_reaches_the_desired_state(services: Services) -> None:
    wanted = {WEB: service(1, 2, 3), WEB_UDP: Service.of([backend(1, 0)]), OWN: service(4)}
    loop = Reconciler(services, lambda: wanted)

    first = await loop.reconcile_once()
    actual = await services.read()

    assert first
    assert actual == wanted
