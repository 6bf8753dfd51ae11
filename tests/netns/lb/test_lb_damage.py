"""Somebody else's hand in the table, and what is left alone."""

from ipaddress import IPv6Address

import pytest
from tests.netns.lb.lab import ALL, ALL6, OWN6, TIMES, WEB, WEB6, Lab, is_even, put, run

from phalanx.core.reconcile.reconciler import Reconciler
from phalanx.lb.nftables.services import NftablesServices
from phalanx.lb.service import Backend, Service


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("flush table inet phalanx_lb", id="rules-flushed"),
        pytest.param("delete table inet phalanx_lb", id="table-deleted"),
        pytest.param("flush map inet phalanx_lb slots", id="slots-flushed"),
        pytest.param("flush chain inet phalanx_lb prerouting", id="chain-flushed"),
        pytest.param("add rule inet phalanx_lb balance drop", id="rule-added"),
        pytest.param("flush set inet phalanx_lb services_8", id="services-flushed"),
        pytest.param(
            "delete element inet phalanx_lb services_8 { 11.0.0.1 . tcp . 80 }",
            id="element-deleted",
        ),
        pytest.param(
            "add element inet phalanx_lb services_32 { 11.0.0.1 . tcp . 80 }",
            id="element-in-two-sets",
        ),
        pytest.param(
            "add element inet phalanx_lb refused { 11.0.0.1 . tcp . 80 }", id="element-added"
        ),
        pytest.param(
            "add element inet phalanx_lb slots { 11.7.7.7 . tcp . 80 . 0 : 9.0.1.11 . 1 }",
            id="foreign-element",
        ),
        pytest.param(
            "delete element inet phalanx_lb slots { 11.0.0.1 . tcp . 80 . 0 }",
            id="slot-deleted",
        ),
        pytest.param("flush map inet phalanx_lb fingerprint", id="fingerprint-lost"),
    ],
)
async def test_damage_is_repaired(lab: Lab, services: NftablesServices, damage: str) -> None:
    wanted = {WEB: ALL}
    loop = Reconciler(services, lambda: wanted)
    await loop.reconcile_once()
    listing = ("ip", "netns", "exec", lab.node, "nft", "list", "table", "inet", "phalanx_lb")
    before = run(*listing)
    run("ip", "netns", "exec", lab.node, "nft", damage)
    seen = await services.read()

    repaired = await loop.reconcile_once()

    assert seen != wanted
    assert repaired
    assert await services.read() == wanted
    assert run(*listing).splitlines()[-100:] == before.splitlines()[-100:]
    assert is_even(await lab.asked(lab.namespace("client"), WEB, TIMES))


async def test_damage_of_ipv6_is_repaired(lab: Lab, services: NftablesServices) -> None:
    wanted = {WEB6: ALL6, OWN6: Service.of([Backend(IPv6Address("fd01:b::11"), 1, 0)])}
    loop = Reconciler(services, lambda: wanted)
    await loop.reconcile_once()
    run("ip", "netns", "exec", lab.node, "nft", "flush map inet phalanx_lb slots6")
    run("ip", "netns", "exec", lab.node, "nft", "flush set inet phalanx_lb refused6")
    seen = await services.read()

    assert await loop.reconcile_once()

    assert not any(service.is_whole for service in seen.values())
    assert await services.read() == wanted
    assert is_even(await lab.asked(lab.namespace("client"), WEB6, TIMES))


async def test_tables_of_others_are_left_alone(lab: Lab, services: NftablesServices) -> None:
    foreign = "table inet mine { chain input { type filter hook input priority 0; counter; }; }"
    run("ip", "netns", "exec", lab.node, "nft", foreign)
    listing = ("ip", "netns", "exec", lab.node, "nft", "-s", "list", "table", "inet", "mine")
    before = run(*listing)

    await put(services, {WEB: ALL})
    run("ip", "netns", "exec", lab.node, "nft", "flush table inet phalanx_lb")
    await Reconciler(services, lambda: {WEB: ALL}).reconcile_once()

    assert run(*listing) == before
