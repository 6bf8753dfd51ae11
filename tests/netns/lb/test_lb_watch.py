"""A listing is trusted only while nobody else has changed the table."""

import subprocess
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.nft.library import Nft

WEB = Vip(IPv4Address("11.0.0.1"), 80)
OTHER = Vip(IPv4Address("11.0.0.2"), 80)
ONE = Service.of([Backend(IPv4Address("9.0.1.1"), 80)])
TWO = Service.of([Backend(IPv4Address("9.0.1.2"), 80)])


class CountingNft(Nft):
    """The real library, counting listings, with room for a foreign hand before a change."""

    def __init__(self, *, netns: Path) -> None:
        super().__init__(netns=netns)
        self.listings = 0
        self.before_next_run: list[str] = []

    async def read(
        self, command: str, *, table: str, with_elements: bool = True
    ) -> Sequence[dict[str, Any]]:
        self.listings += 1
        return await super().read(command, table=table, with_elements=with_elements)

    async def run(self, script: str, *, table: str) -> None:
        while self.before_next_run:
            nft(self.namespace, self.before_next_run.pop())
        await super().run(script, table=table)

    namespace = ""


def nft(namespace: str, command: str) -> None:
    subprocess.run(["ip", "netns", "exec", namespace, "nft", command], check=True)


@pytest.fixture
def library(ns: str) -> Iterator[CountingNft]:
    library = CountingNft(netns=Path("/run/netns") / ns)
    library.namespace = ns
    yield library
    library.close()


@pytest.fixture
def services(library: CountingNft) -> Iterator[NftablesServices]:
    services = NftablesServices(library)
    yield services
    services.close()


def upsert(vip: Vip, service: Service) -> Delta[Vip, Service]:
    return Delta({vip: service}, frozenset())


async def test_our_own_changes_need_no_new_listing(
    services: NftablesServices, library: CountingNft
) -> None:
    await services.apply(upsert(WEB, ONE))
    await services.read()
    listed = library.listings

    await services.apply(upsert(OTHER, ONE))
    await services.apply(upsert(WEB, TWO))
    await services.apply(Delta({}, frozenset((OTHER,))))

    assert await services.read() == {WEB: TWO}
    assert library.listings == listed


async def test_what_is_known_without_listing_is_what_the_kernel_holds(
    services: NftablesServices, library: CountingNft
) -> None:
    for number in range(20):
        backends = [Backend(IPv4Address("9.0.1.0") + each, 80) for each in range(number % 7)]
        await services.apply(upsert(WEB, Service.of(backends)))
    known = await services.read()
    fresh = NftablesServices(library)

    listed = await fresh.read()
    fresh.close()

    assert known == listed


async def test_change_of_another_table_needs_no_new_listing(
    services: NftablesServices, library: CountingNft
) -> None:
    await services.apply(upsert(WEB, ONE))
    await services.read()
    listed = library.listings

    nft(library.namespace, "add table inet mine")

    assert await services.read() == {WEB: ONE}
    assert library.listings == listed


async def test_change_by_another_is_seen(services: NftablesServices, library: CountingNft) -> None:
    await services.apply(upsert(WEB, ONE))
    await services.read()

    nft(library.namespace, "flush map inet phalanx_lb slots")

    assert await services.read() != {WEB: ONE}


async def test_change_by_another_during_our_own_is_seen(
    services: NftablesServices, library: CountingNft
) -> None:
    await services.apply(upsert(WEB, ONE))
    await services.read()
    library.before_next_run.append("flush set inet phalanx_lb services_8")

    await services.apply(upsert(OTHER, ONE))

    seen = await services.read()
    assert seen[OTHER] == ONE
    assert seen[WEB] != ONE


async def test_refused_change_is_listed_anew(
    services: NftablesServices, library: CountingNft
) -> None:
    await services.apply(upsert(WEB, ONE))
    await services.read()
    library.before_next_run.append("flush map inet phalanx_lb slots")

    with pytest.raises(DataplaneError, match="services: "):
        await services.apply(upsert(WEB, TWO))

    damaged = await services.read()
    assert damaged.keys() == {WEB}
    assert not damaged[WEB].is_whole
    await services.apply(upsert(WEB, TWO))
    assert await services.read() == {WEB: TWO}


async def test_element_that_we_never_write_goes_with_the_table(
    services: NftablesServices, library: CountingNft
) -> None:
    wanted = {WEB: ONE}
    loop = Reconciler(services, lambda: wanted)
    assert await loop.reconcile_once()
    nft(library.namespace, "add element inet phalanx_lb refused { 11.0.0.9 . sctp . 80 }")

    assert await loop.reconcile_once()

    assert await services.read() == wanted
    listing = await library.read("list set inet phalanx_lb refused", table="refused")
    assert "elem" not in listing[0]["set"]
