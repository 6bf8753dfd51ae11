"""Route messages as bytes: what iproute2 sends, and back again."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.overlay.route.message import decode_route, encode_key, encode_route
from phalanx.net.overlay.route.value import (
    LocalRoute,
    Route,
    RouteKey,
    TunnelRoute,
    UnknownRoute,
    UnreachableRoute,
)
from phalanx.net.rtnl.attribute import decode_attributes, encode_attribute

NODE = IPv4Address("198.18.0.1")
KEY = RouteKey(254, IPv4Network("9.0.2.0/24"), 7)
LINKS = {1: "lo", 3: "phx-vxlan", 9: "eth0"}

ADDRESSES = st.integers(0, 2**32 - 1).map(IPv4Address)
PREFIXES = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
    lambda pair: IPv4Network(pair, strict=False)
)
PREFIXES6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
    lambda pair: IPv6Network(pair, strict=False)
)
DESTINATIONS = st.one_of(PREFIXES, PREFIXES6)
KEYS = st.builds(RouteKey, st.integers(1, 2**32 - 1), DESTINATIONS, st.integers(0, 2**32 - 1))
ROUTES = st.one_of(
    st.tuples(st.builds(TunnelRoute, ADDRESSES, st.integers(0, 2**24 - 1), ADDRESSES), st.just(3)),
    st.tuples(st.builds(LocalRoute, ADDRESSES), st.just(1)),
    st.tuples(st.just(UnreachableRoute()), st.just(1)),
)


@given(KEYS, ROUTES)
def test_route_survives_the_wire(key: RouteKey, route_and_link: tuple[Route, int]) -> None:
    route, oif = route_and_link

    assert decode_route(encode_route(key, route, oif=oif), LINKS) == (key, route)


def test_tunnel_route_is_the_bytes_that_the_kernel_reads() -> None:
    message = encode_route(KEY, TunnelRoute(IPv4Address("198.18.0.2"), 1024, NODE), oif=3)

    assert message.hex(" ", 4) == (
        "02180000 fe7afd01 00000000"  # IPv4 /24, table 254, protocol 122, scope link, unicast
        " 08000f00 fe000000 08000100 09000200 08000600 07000000"  # table, to, metric
        " 08000700 c6120001 08000400 03000000"  # from, link
        " 06001500 02000000"  # encapsulation: IP
        " 20001600 0c000100 00000000 00000400 08000200 c6120002 08000300 c6120001"
    )


def test_tunnel_route_of_ipv6_has_ipv4_outside_only() -> None:
    key = RouteKey(254, IPv6Network("fd01:b:0:0:2::/80"), 7)
    message = encode_route(key, TunnelRoute(IPv4Address("198.18.0.2"), 1024, NODE), oif=3)

    assert message.hex(" ", 4) == (
        "0a500000 fe7afd01 00000000"  # IPv6 /80
        " 08000f00 fe000000 14000100 fd01000b 00000000 00020000 00000000 08000600 07000000"
        " 14000700 fd01000a 00000000 00000000 c6120001 08000400 03000000"  # from, link
        " 06001500 02000000"
        " 20001600 0c000100 00000000 00000400 08000200 c6120002 08000300 c6120001"
    )
    assert decode_route(message, LINKS) == (key, TunnelRoute(IPv4Address("198.18.0.2"), 1024, NODE))


def test_local_route_of_ipv6_survives_the_wire() -> None:
    key = RouteKey(255, IPv6Network("fd01:c::/64"), 1024)
    route = LocalRoute(IPv6Address("fd01:a::c612:1"))

    assert decode_route(encode_route(key, route, oif=1), LINKS) == (key, route)


def test_routes_of_others_are_not_ours() -> None:
    message = bytearray(encode_route(KEY, LocalRoute(NODE), oif=1))
    message[5] = 3  # protocol boot

    assert decode_route(bytes(message), LINKS) is None


@pytest.mark.parametrize(
    ("route", "oif"),
    [
        pytest.param(TunnelRoute(NODE, 1024, NODE), 9, id="encapsulated-by-another-link"),
        pytest.param(LocalRoute(NODE), 9, id="local-on-another-link"),
        pytest.param(TunnelRoute(NODE, 1024, NODE), 77, id="link-that-is-gone"),
    ],
)
def test_forms_that_we_never_make_are_told_apart(route: Route, oif: int) -> None:
    decoded = decode_route(encode_route(KEY, route, oif=oif), LINKS)

    assert decoded is not None
    assert isinstance(decoded[1], UnknownRoute)


def test_unknown_route_is_never_encoded() -> None:
    with pytest.raises(ValueError, match="odd"):
        encode_route(KEY, UnknownRoute("odd"), oif=1)


def test_key_alone_names_any_route_of_ours_there() -> None:
    assert encode_key(KEY).hex(" ", 4).startswith("02180000 fe7aff00 00000000")


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=9))))
def test_attributes_survive_the_wire(attributes: list[tuple[int, bytes]]) -> None:
    data = b"".join(encode_attribute(kind, value) for kind, value in attributes)

    assert list(decode_attributes(data)) == attributes


@given(st.binary(max_size=40))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    assert sum(4 + len(value) for _, value in decode_attributes(data)) <= len(data)
