"""The result in every version of CNI."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.result import VERSIONS, addresses_of, convert, result_of
from phalanx.net.attachment.spec import plan
from phalanx.net.ipam.owner import Owner

NETWORK = LeasedNetwork(
    "dcos",
    1024,
    1450,
    (LeasedSubnet(IPv4Network("9.0.0.0/8"), IPv4Network("9.0.1.0/24"), IPv4Address("9.0.1.1")),),
)
SPEC = plan(Owner("c", "eth0"), NETWORK, [IPv4Address("9.0.1.5")])
RESULT = result_of(SPEC, netns="/run/netns/c")
DNS = {"nameservers": ["198.51.100.1", "198.51.100.2", "198.51.100.3"]}
OLDEST = {
    "ip4": {
        "ip": "9.0.1.5/24",
        "gateway": "9.0.1.1",
        "routes": [{"dst": "0.0.0.0/0", "gw": "9.0.1.1"}],
    },
    "dns": DNS,
}
LINKS = [
    {"name": "phx-1024", "mac": "0a:58:09:00:01:01"},
    {"name": SPEC.veth, "mac": SPEC.veth_mac},
    {"name": "eth0", "mac": "0a:58:09:00:01:05", "sandbox": "/run/netns/c"},
]
MIDDLE = {
    "interfaces": LINKS,
    "ips": [{"version": "4", "address": "9.0.1.5/24", "gateway": "9.0.1.1", "interface": 2}],
    "routes": [{"dst": "0.0.0.0/0", "gw": "9.0.1.1"}],
    "dns": DNS,
}
FIRST = {
    **MIDDLE,
    "ips": [{"address": "9.0.1.5/24", "gateway": "9.0.1.1", "interface": 2}],
}
NEWEST = {
    **FIRST,
    "interfaces": [{**link, "mtu": 1450} for link in LINKS],
    "routes": [{"dst": "0.0.0.0/0", "gw": "9.0.1.1", "priority": 0}],
}


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.1.0", OLDEST),
        ("0.2.0", OLDEST),
        ("0.3.0", MIDDLE),
        ("0.3.1", MIDDLE),
        ("0.4.0", MIDDLE),
        ("1.0.0", FIRST),
        ("1.1.0", NEWEST),
    ],
)
def test_result_has_the_form_of_its_version(version: str, expected: dict[str, Any]) -> None:
    assert convert(RESULT, version) == {"cniVersion": version, **expected}


def test_every_version_was_looked_at() -> None:
    assert [convert(RESULT, version)["cniVersion"] for version in VERSIONS] == list(VERSIONS)


def test_unknown_version_is_incompatible() -> None:
    with pytest.raises(CniError, match="incompatible CNI versions") as caught:
        convert(RESULT, "2.0.0")

    assert caught.value.code is Code.INCOMPATIBLE_VERSION
    assert "'2.0.0'" in caught.value.details


def test_old_version_keeps_the_first_address_of_each_family() -> None:
    mixed = {
        **RESULT,
        "ips": [
            {"address": "9.0.1.5/24"},
            {"address": "9.0.1.6/24"},
            {"address": "fd01::5/80", "gateway": "fd01::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd01::1"}],
    }

    assert convert(mixed, "0.2.0") == {
        "cniVersion": "0.2.0",
        "ip4": {"ip": "9.0.1.5/24", "routes": [{"dst": "0.0.0.0/0"}]},
        "ip6": {
            "ip": "fd01::5/80",
            "gateway": "fd01::1",
            "routes": [{"dst": "::/0", "gw": "fd01::1"}],
        },
        "dns": DNS,
    }
    assert [ip["version"] for ip in convert(mixed, "0.4.0")["ips"]] == ["4", "4", "6"]


def test_result_without_an_address_has_no_old_form() -> None:
    with pytest.raises(CniError, match="without an address"):
        convert({**RESULT, "ips": []}, "0.1.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_are_found_in_a_result_of_any_version(version: str) -> None:
    assert addresses_of(convert(RESULT, version)) == [IPv4Interface("9.0.1.5/24")]


@pytest.mark.parametrize("result", [{"ip4": 5}, {"ips": [5]}, {"ips": 5}, {"ip4": {"ip": "x"}}])
def test_what_is_no_result_is_refused(result: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        addresses_of(result)
