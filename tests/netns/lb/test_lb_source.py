"""Backends chosen by the source: sh, mh and affinity."""

from collections.abc import Mapping

import pytest
from tests.netns.lb.lab import ALL, WEB, Lab, put, run, service

from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Scheduler, Service

SOURCES = [f"9.0.1.{number}" for number in range(100, 148)]


@pytest.fixture
def sources(lab: Lab) -> str:
    """Give the client many addresses; return its namespace."""
    client = lab.namespace("client")
    for source in SOURCES:
        run("ip", "-n", client, "address", "add", f"{source}/24", "dev", "eth0")
    return client


def by_source(plain: Service, scheduler: Scheduler, affinity_seconds: int = 0) -> Service:
    return Service(plain.backends, scheduler=scheduler, affinity_seconds=affinity_seconds)


async def backend_of_each(lab: Lab, client: str) -> Mapping[str, str]:
    return {source: (await lab.ask(client, WEB, source=source))[0] for source in SOURCES}


@pytest.mark.parametrize(
    ("scheduler", "affinity_seconds"),
    [
        pytest.param(Scheduler.SH, 0, id="sh"),
        pytest.param(Scheduler.MH, 0, id="mh"),
        pytest.param(Scheduler.WLC, 300, id="affinity"),
    ],
)
async def test_source_keeps_its_backend(
    lab: Lab,
    services: NftablesServices,
    sources: str,
    scheduler: Scheduler,
    affinity_seconds: int,
) -> None:
    await put(services, {WEB: by_source(ALL, scheduler, affinity_seconds)})

    first = await backend_of_each(lab, sources)
    again = await backend_of_each(lab, sources)

    assert first == again
    assert set(first.values()) == {"b1", "b2", "b3"}


async def test_backend_that_leaves_moves_its_own_sources_only(
    lab: Lab, services: NftablesServices, sources: str
) -> None:
    await put(services, {WEB: by_source(ALL, Scheduler.MH)})
    before = await backend_of_each(lab, sources)

    await put(services, {WEB: by_source(service(b1=1, b2=0, b3=1), Scheduler.MH)})
    drained = await backend_of_each(lab, sources)

    stayed = [source for source in SOURCES if before[source] != "b2"]
    moved = [source for source in stayed if drained[source] != before[source]]
    assert set(drained.values()) == {"b1", "b3"}
    # The table of two backends is shorter: a slot at a seam may change its owner.
    assert len(moved) <= len(SOURCES) // 8


async def test_draw_does_not_follow_the_source(
    lab: Lab, services: NftablesServices, sources: str
) -> None:
    await put(services, {WEB: by_source(ALL, Scheduler.SH)})
    await put(services, {WEB: ALL})

    names = {(await lab.ask(sources, WEB, source=SOURCES[0]))[0] for _ in range(60)}

    assert names == {"b1", "b2", "b3"}
