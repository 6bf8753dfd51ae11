"""What a runtime may ask for: read where it stands, refused with the right code."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest

from phalanx.core.error import InvalidError
from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.wish import Dns, Limits, Wishes, parse_wishes, pools
from phalanx.net.ipam.allocator import next_free

FOUR = LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1"))
SIX = LeasedSubnet(
    IPv6Network("fd01:b::/64"), IPv6Network("fd01:b:0:0:1::/80"), IPv6Address("fd01:b::1:0:0:1")
)
BOTH = LeasedNetwork("dcos", 1024, 1450, (FOUR, SIX))
RATES = {"ingressRate": 8000, "ingressBurst": 800, "egressRate": 16000, "egressBurst": 1600}


def wishes(**runtime: Any) -> Wishes:
    return parse_wishes({}, runtime, {})


def test_nothing_asked_is_nothing_wished() -> None:
    assert parse_wishes({}, {}, {}) == Wishes()


def test_aliases_are_taken_and_change_nothing() -> None:
    assert parse_wishes({}, {"aliases": ["web", "www"]}, {}) == Wishes()


def test_every_capability_is_read() -> None:
    asked = wishes(
        ips=["9.0.1.9/24", "fd01:b::1:0:0:9"],
        mac="02:00:00:00:00:0A",
        bandwidth=RATES,
        dns={"servers": ["9.9.9.9"], "searches": ["a.example"], "options": ["ndots:2"]},
    )

    assert asked == Wishes(
        addresses=(IPv4Address("9.0.1.9"), IPv6Address("fd01:b::1:0:0:9")),
        mac="02:00:00:00:00:0a",
        limits=Limits((1000, 100), (2000, 200)),
        dns=Dns(("9.9.9.9",), ("a.example",), ("ndots:2",)),
    )


@pytest.mark.parametrize(
    ("arguments", "runtime", "cni"),
    [
        ({"IP": "9.0.1.9,fd01::9"}, {}, {}),
        ({}, {}, {"ips": ["9.0.1.9", "fd01::9"]}),
        ({"IP": "9.0.1.8"}, {"ips": ["9.0.1.9", "fd01::9"]}, {"ips": ["9.0.1.7"]}),
    ],
    ids=["CNI_ARGS", "args.cni", "runtime-first"],
)
def test_addresses_are_found_wherever_they_stand(
    arguments: dict[str, str], runtime: dict[str, Any], cni: dict[str, Any]
) -> None:
    found = parse_wishes(arguments, runtime, cni).addresses

    assert found == (IPv4Address("9.0.1.9"), IPv6Address("fd01::9"))


@pytest.mark.parametrize(
    ("runtime", "code", "words"),
    [
        ({"aliases": "web"}, Code.BAD_CONFIG, "aliases"),
        ({"aliases": [7]}, Code.BAD_CONFIG, "aliases"),
        ({"ips": ["fd01::1", "fd01::2"]}, Code.UNSUPPORTED_FIELD, "ips: .*one address of a family"),
        ({"mac": "nonsense"}, Code.BAD_CONFIG, "mac"),
        ({"mac": "ff:ff:ff:ff:ff:ff"}, Code.BAD_CONFIG, "mac"),
        ({"bandwidth": [1]}, Code.BAD_CONFIG, "bandwidth"),
        ({"bandwidth": {"ingressRate": 8000}}, Code.BAD_CONFIG, "go together"),
        ({"bandwidth": {**RATES, "egressRate": "fast"}}, Code.BAD_CONFIG, "egress"),
        ({"bandwidth": {**RATES, "egressBurst": 1}}, Code.BAD_CONFIG, "too small"),
        ({"bandwidth": {**RATES, "ingressBurst": 1 << 40}}, Code.BAD_CONFIG, "too large"),
        ({"dns": "9.9.9.9"}, Code.BAD_CONFIG, "dns"),
        ({"dns": {"servers": ["resolver"]}}, Code.BAD_CONFIG, "resolver"),
        ({"dns": {"searches": "a b"}}, Code.BAD_CONFIG, "dns"),
        ({"ipRanges": [{"subnet": "9.0.1.0/24"}]}, Code.BAD_CONFIG, "ipRanges"),
        ({"ipRanges": [[]]}, Code.BAD_CONFIG, "empty"),
        ({"ipRanges": [["x"]]}, Code.BAD_CONFIG, "not an object"),
        ({"ipRanges": [[{"subnet": "9.0.1.1/24"}]]}, Code.BAD_CONFIG, "host bits"),
        (
            {"ipRanges": [[{"subnet": "9.0.1.0/24", "rangeStart": "9.0.2.1"}]]},
            Code.BAD_CONFIG,
            "is no range",
        ),
        (
            {"ipRanges": [[{"subnet": "9.0.1.0/24"}, {"subnet": "fd01::/64"}]]},
            Code.BAD_CONFIG,
            "both families",
        ),
        (
            {"ipRanges": [[{"subnet": "9.0.1.0/25"}], [{"subnet": "9.0.1.128/25"}]]},
            Code.UNSUPPORTED_FIELD,
            "one address of a family",
        ),
    ],
)
def test_bad_wish_is_refused_with_its_code(runtime: dict[str, Any], code: Code, words: str) -> None:
    with pytest.raises(CniError, match=words) as caught:
        parse_wishes({}, runtime, {})

    assert caught.value.code is code


def test_ranges_say_where_addresses_come_from() -> None:
    asked = wishes(
        ipRanges=[
            [
                {"subnet": "9.0.1.0/24", "rangeStart": "9.0.1.9", "rangeEnd": "9.0.1.10"},
                {"subnet": "9.0.1.128/25", "rangeEnd": "9.0.1.128", "gateway": "9.0.1.1"},
            ]
        ]
    )
    four, six = pools(BOTH, asked)
    given: list[str] = []
    last = None
    for _ in range(4):
        last = next_free(four, taken=set(), last=last)
        given.append(str(last))

    assert given == ["9.0.1.9", "9.0.1.10", "9.0.1.128", "9.0.1.9"]
    assert str(next_free(six, taken=set())) == "fd01:b::1:0:0:2"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (wishes(ipRanges=[[{"subnet": "9.0.2.0/24"}]]), "this node's"),
        (wishes(ipRanges=[[{"subnet": "9.0.1.0/24", "gateway": "9.0.1.7"}]]), "gateway"),
    ],
)
def test_range_outside_of_the_nodes_subnet_is_refused(asked: Wishes, words: str) -> None:
    with pytest.raises(InvalidError, match=words):
        pools(BOTH, asked)


@pytest.mark.parametrize(
    "asked", [wishes(ips=["fd01::5"]), wishes(ipRanges=[[{"subnet": "fd01::/80"}]])]
)
def test_wish_of_a_family_that_the_network_lacks_is_refused(asked: Wishes) -> None:
    with pytest.raises(InvalidError, match="has no IPv6"):
        pools(LeasedNetwork("dcos", 1024, 1450, (FOUR,)), asked)
