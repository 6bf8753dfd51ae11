"""Whom to ask about which names."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.wire import encode_name
from phalanx.dns.forward.route import name_servers, parse_routes
from phalanx.dns.forward.upstream import NEW, PROBE_SECONDS, probe_due

A, B, C = (HostPort(f"192.0.2.{n}", 53) for n in (1, 2, 3))
ZONES = ["corp.example=192.0.2.2", "deep.Corp.example.=192.0.2.3:53/192.0.2.2", "none.example="]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("example.", [A]),
        (".", [A]),
        ("corp.example.", [B]),
        ("www.corp.example.", [B]),
        ("xcorp.example.", [A]),
        ("a.b.deep.corp.example.", [C, B]),
        ("www.none.example.", []),
    ],
)
def test_longest_suffix_wins(name: str, expected: list[HostPort]) -> None:
    routes = parse_routes(["192.0.2.1"], ZONES)

    assert list(routes.upstreams_of(encode_name(name))) == expected
    assert set(routes.all) == {A, B, C}


@given(st.permutations(ZONES))
def test_order_of_zones_makes_no_difference(zones: list[str]) -> None:
    routes = parse_routes([], zones)

    assert list(routes.upstreams_of(encode_name("x.deep.corp.example."))) == [C, B]


@pytest.mark.parametrize("text", ["corp.example", "=192.0.2.1", "a..b=192.0.2.1"])
def test_zone_that_can_not_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"zone upstreams: '{text}'"):
        parse_routes([], [text])


def test_name_servers_of_a_resolv_conf_are_others() -> None:
    text = """# nameserver 192.0.2.9
search example.com
nameserver 198.51.100.1
nameserver 192.0.2.1
nameserver fd00::1
nameserver
 nameserver 192.0.2.2 # second
nameserver 192.0.2.1
"""

    assert list(name_servers(text, [IPv4Address("198.51.100.1")])) == [
        "192.0.2.1",
        "fd00::1",
        "192.0.2.2",
    ]


def test_failing_upstream_gets_a_question_now_and_then() -> None:
    standings = {A: NEW.succeeded(0.1, 0.0), B: NEW.failed(0.0), C: NEW.failed(1.0)}

    assert (
        probe_due({each: standings.get(each, NEW) for each in (A, B, C)}, PROBE_SECONDS - 1) is None
    )
    assert probe_due({each: standings.get(each, NEW) for each in (A, B, C)}, PROBE_SECONDS + 2) == B
    assert probe_due({each: standings.get(each, NEW) for each in (A, C)}, PROBE_SECONDS + 2) == C
