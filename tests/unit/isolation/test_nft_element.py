"""Elements are spelled as nft spells them, and read from its JSON."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.nft.element import (
    Element,
    outermost,
    parse_elements,
    render_addresses,
    render_change,
    render_ports,
    render_prefix,
)


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ("9.0.0.0", "9.255.255.255", "9.0.0.0/8"),
        ("9.0.0.1", "9.0.0.1", "9.0.0.1"),
        ("9.0.0.1", "9.0.0.2", "9.0.0.1-9.0.0.2"),
        ("0.0.0.0", "255.255.255.255", "0.0.0.0/0"),
        ("10.20.0.0", "10.22.255.255", "10.20.0.0-10.22.255.255"),
    ],
)
def test_addresses_are_one_a_prefix_or_a_range(first: str, last: str, text: str) -> None:
    assert render_addresses(int(IPv4Address(first)), int(IPv4Address(last))) == text


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_every_prefix_is_rendered_the_same_from_its_ends(address: int, length: int) -> None:
    prefix = IPv4Network((address, length), strict=False)
    ends = int(prefix.network_address), int(prefix.broadcast_address)

    assert render_addresses(*ends) == render_prefix(prefix)


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(24, 32)).map(
            lambda pair: IPv4Network((pair[0], pair[1]), strict=False)
        )
    )
)
def test_outermost_prefixes_cover_the_rest_and_keep_apart(prefixes: list[IPv4Network]) -> None:
    kept = outermost(prefixes)

    assert set(kept) <= set(prefixes)
    assert all(any(prefix.subnet_of(wide) for wide in kept) for prefix in prefixes)
    assert not any(one.overlaps(other) for one, other in combinations(kept, 2))


def test_ports_are_one_or_a_range() -> None:
    assert (render_ports(80, 80), render_ports(80, 81)) == ("80", "80-81")


def test_listing_is_read_in_all_its_forms() -> None:
    listing: list[dict[str, Any]] = [
        {"table": {"name": "t"}},
        {"set": {"name": "empty"}},
        {
            "set": {
                "name": "plain",
                "elem": ["9.0.0.1", {"prefix": {"addr": "10.0.0.0", "len": 8}}, 80],
            }
        },
        {
            "set": {
                "name": "pairs",
                "elem": [
                    {"elem": {"val": {"concat": ["9.0.0.1", {"range": [80, 90]}]}, "comment": "x"}}
                ],
            }
        },
        {"map": {"name": "mapped", "elem": [["::ffff:1.2.3.4", "1:2"], [1, {"drop": None}]]}},
        {"map": {"name": "led", "elem": [[{"concat": [1, 2]}, {"goto": {"target": "there"}}]]}},
    ]

    assert parse_elements(listing) == {
        Element("plain", ("9.0.0.1",)),
        Element("plain", ("10.0.0.0/8",)),
        Element("plain", ("80",)),
        Element("pairs", ("9.0.0.1", "80-90")),
        Element("mapped", ("::ffff:102:304",), "1:2"),
        Element("mapped", ("1",), "drop"),
        Element("led", ("1", "2"), "goto there"),
    }


def test_change_is_one_command_a_set() -> None:
    elements = [Element("b", ("1",)), Element("a", ("2", "3")), Element("b", ("0",))]

    assert render_change("add", "t", elements) == (
        "add element inet t a { 2 . 3 }\nadd element inet t b { 0, 1 }\n"
    )
    assert render_change("delete", "t", []) == ""
