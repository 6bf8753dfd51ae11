"""Leased addresses are DC/OS's where nobody is in the way."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from phalanx.core.error import UnavailableError
from phalanx.net.model.lease import VIP_POOL, lease_vip, phash2

SMALL = IPv4Network("11.0.0.0/24")


@pytest.mark.parametrize(
    ("name", "small", "whole"),
    [
        ("foo.bar", "11.0.0.37", "11.138.58.225"),
        ("baz.qux", "11.0.0.39", "11.95.65.165"),
        ("de8b9dc86.marathon", "11.0.0.90", "11.52.60.88"),
        ("qux.ipv6", "11.0.0.171", "11.30.205.17"),
        ("web.marathon", "11.0.0.67", "11.225.37.143"),
        ("app.marathon", "11.0.0.189", "11.171.172.93"),
        ("merp.marathon", "11.0.0.37", "11.250.208.155"),
        ("api.hello-world.marathon", "11.0.0.21", "11.46.7.245"),
    ],
)
def test_first_choice_is_dcos_own(name: str, small: str, whole: str) -> None:
    assert lease_vip(name, SMALL, ()) == IPv4Address(small)
    assert lease_vip(name, VIP_POOL, ()) == IPv4Address(whole)


def test_collision_goes_to_the_next_free_address() -> None:
    taken = {IPv4Address("11.0.0.37"), IPv4Address("11.0.0.38")}

    assert lease_vip("merp.marathon", SMALL, taken) == IPv4Address("11.0.0.39")


def test_search_wraps_and_fills_the_pool_but_for_its_ends() -> None:
    taken: set[IPv4Address] = set()

    for _ in range(254):
        taken.add(lease_vip("web.marathon", SMALL, taken))

    assert taken == set(SMALL.hosts())
    with pytest.raises(UnavailableError, match=r"web\.marathon.*11\.0\.0\.0/24"):
        lease_vip("web.marathon", SMALL, taken)


def test_pools_first_address_is_passed_over_when_the_hash_hits_it() -> None:
    name = next(name for name in map(str, range(10_000)) if phash2(name.encode()) % 254 == 0)

    assert lease_vip(name, SMALL, ()) == IPv4Address("11.0.0.1")


@pytest.mark.parametrize("prefix", [31, 32])
def test_pool_without_hosts_is_full(prefix: int) -> None:
    with pytest.raises(UnavailableError):
        lease_vip("web.marathon", IPv4Network(f"11.0.0.0/{prefix}"), ())
