"""desired_isolation is pure, so its tests are tables: a View, the elements."""

from ipaddress import IPv4Network

import msgspec
import pytest

from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.layout import FAR, NETWORKS, PORTS, RANGES, SAME, WALLED, WIDE
from phalanx.net.model.objects import Network, Policy, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import RULES

DCOS = Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450)
BLUE = Network("blue", IPv4Network("10.20.0.0/16"), 24, 1025, 1450)
RED = Network("red", IPv4Network("10.21.0.0/16"), 24, 1026, 1450, isolated=False)
VIEW = View().changed([DCOS, BLUE, RED])


def policy(name: str, source: str, destination: str, first: int, last: int) -> Policy:
    return Policy(name, source, destination, Traffic.TCP, first, last)


def elements(view: View, set_name: str) -> set[tuple[str, ...]]:
    names = (set_name, f"{set_name}4")
    return {item.fields for item in desired_isolation(view) if item.set_name in names}


def test_empty_view_still_wants_the_table() -> None:
    assert desired_isolation(View()) == {RULES: None}


def test_every_network_is_walled_and_whole_within() -> None:
    assert elements(VIEW, NETWORKS) == {("9.0.0.0/8",), ("10.20.0.0/16",), ("10.21.0.0/16",)}
    assert elements(VIEW, SAME) == {
        ("9.0.0.0/8", "9.0.0.0/8"),
        ("10.20.0.0/16", "10.20.0.0/16"),
        ("10.21.0.0/16", "10.21.0.0/16"),
    }


def test_network_that_comes_leaves_the_elements_of_others_alone() -> None:
    beside = Network("beside", IPv4Network("10.22.0.0/15"), 24, 1031, 1450)

    assert desired_isolation(VIEW).keys() < desired_isolation(VIEW.changed([beside])).keys()


def test_only_networks_that_are_isolated_are_walled() -> None:
    assert elements(VIEW, WALLED) == {("9.0.0.0/8",), ("10.20.0.0/16",)}


@pytest.mark.parametrize(
    ("policies", "ends", "ports"),
    [
        pytest.param(
            [policy("one", "dcos", "blue", 5432, 5432)],
            ("9.0.0.0/8", "10.20.0.0/16"),
            {("6", "5432")},
            id="by-name",
        ),
        pytest.param(
            [policy("range", "9.0.1.2/32", "10.20.0.0/24", 8000, 8010)],
            ("9.0.1.2", "10.20.0.0/24"),
            {("6", "8000-8010")},
            id="by-prefix-and-range",
        ),
        pytest.param(
            [msgspec.structs.replace(policy("u", "dcos", "blue", 53, 53), protocol=Traffic.UDP)],
            ("9.0.0.0/8", "10.20.0.0/16"),
            {("17", "53")},
            id="udp",
        ),
        pytest.param(
            [policy("all", "dcos", "blue", 1, 100), policy("web", "dcos", "blue", 80, 80)],
            ("9.0.0.0/8", "10.20.0.0/16"),
            {("6", "1-100")},
            id="one-inside-another",
        ),
        pytest.param(
            [policy("low", "dcos", "blue", 1, 80), policy("high", "dcos", "blue", 80, 100)],
            ("9.0.0.0/8", "10.20.0.0/16"),
            {("6", "1-100")},
            id="overlapping-ports",
        ),
    ],
)
def test_policies_become_elements(
    policies: list[Policy], ends: tuple[str, str], ports: set[tuple[str, str]]
) -> None:
    view = VIEW.changed(policies)

    [(source,)] = elements(view, WIDE)
    [(_, destination)] = elements(view, FAR)
    assert (source, destination) == ends
    assert {f[1:] for f in elements(view, PORTS) | elements(view, RANGES)} == ports


def test_unknown_names_open_nothing() -> None:
    odd = [policy("gone", "green", "blue", 80, 80), policy("odd", "9.0.0.1/8", "blue", 1, 2)]

    assert desired_isolation(VIEW.changed(odd)) == desired_isolation(VIEW)


def test_elements_do_not_depend_on_the_order_of_objects() -> None:
    policies = [policy(str(n), "dcos", "blue", n, n + 10) for n in range(1, 50, 5)]
    forward = View().changed([DCOS, BLUE, *policies])
    backward = View().changed([*reversed(policies), BLUE, DCOS])

    assert desired_isolation(forward) == desired_isolation(backward)


def test_overlapping_networks_still_make_loadable_elements() -> None:
    inner = Network("inner", IPv4Network("9.1.0.0/16"), 24, 1030, 1450)
    view = VIEW.changed([inner])

    assert elements(view, NETWORKS) == elements(VIEW, NETWORKS)
    assert elements(view, SAME) == elements(VIEW, SAME)
