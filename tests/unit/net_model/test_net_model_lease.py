"""Leased addresses are DC/OS's where nobody is in the way."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from phalanx.core.error import UnavailableError
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6, lease_vip, lease_vip6, phash2

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


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("foo.bar", "fd01:c::6d7:a93:e041:647f"),
        ("baz.qux", "fd01:c::2d28:b61a:6105:5c7d"),
        ("de8b9dc86.marathon", "fd01:c::af8e:add7:a150:bd5b"),
        ("qux.ipv6", "fd01:c::6d6d:9c64:fd19:f251"),
        ("web.marathon", "fd01:c::cb8:74fe:906b:dee"),
        ("app.marathon", "fd01:c::1afd:4e0d:f38c:ed11"),
    ],
)
def test_ipv6_address_is_that_of_dcos(name: str, address: str) -> None:
    assert lease_vip6(name, VIP_POOL6, ()) == IPv6Address(address)


def test_taken_ipv6_address_leads_to_the_next_free_one_until_the_pool_is_full() -> None:
    pool = IPv6Network("fd01:c::/126")
    taken: set[IPv6Address] = set()
    for _ in range(3):
        taken.add(lease_vip6("web.marathon", pool, taken))

    assert taken == {pool[0], pool[1], pool[2]}
    with pytest.raises(UnavailableError, match="no free address"):
        lease_vip6("web.marathon", pool, taken)
