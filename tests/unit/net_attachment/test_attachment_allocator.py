"""The allocator is pure: subnet, gateway, taken and last in, an address out."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import ConflictError, InvalidError, PhalanxError, UnavailableError
from phalanx.net.ipam.allocator import check_requested, next_free
from phalanx.net.ipam.pool import Pool

SUBNET = IPv4Network("9.0.1.0/29")
GATEWAY = IPv4Address("9.0.1.1")


def addresses(*last_bytes: int) -> set[IPv4Address]:
    return {IPv4Address(f"9.0.1.{byte}") for byte in last_bytes}


@pytest.mark.parametrize(
    ("taken", "last", "expected"),
    [
        pytest.param(set(), None, "9.0.1.2", id="first-after-the-gateway"),
        pytest.param({2, 3}, 3, "9.0.1.4", id="after-the-last"),
        pytest.param({3}, 3, "9.0.1.4", id="a-freed-one-is-not-given-at-once"),
        pytest.param({4, 5}, 3, "9.0.1.6", id="over-taken-ones"),
        pytest.param({6}, 6, "9.0.1.2", id="round-after-the-end"),
        pytest.param({3, 4, 5, 6}, 5, "9.0.1.2", id="the-only-one-left"),
        pytest.param(set(), 200, "9.0.1.2", id="last-of-another-subnet"),
    ],
)
def test_next_address_is_the_first_free_after_the_last(
    taken: set[int], last: int | None, expected: str
) -> None:
    previous = None if last is None else IPv4Address(f"9.0.1.{last}")

    found = next_free(Pool(SUBNET, GATEWAY), taken=addresses(*taken), last=previous)

    assert str(found) == expected


@pytest.mark.parametrize("subnet", ["9.0.1.0/31", "9.0.1.0/32", "9.0.1.0/30"])
def test_subnet_without_a_free_address_is_exhausted(subnet: str) -> None:
    with pytest.raises(UnavailableError, match="no IP addresses available in range set"):
        next_free(Pool(IPv4Network(subnet), GATEWAY), taken=addresses(2))


def test_exhaustion_names_the_range() -> None:
    with pytest.raises(UnavailableError, match=r"9\.0\.1\.1-9\.0\.1\.6"):
        next_free(Pool(SUBNET, GATEWAY), taken=addresses(2, 3, 4, 5, 6))


@given(
    prefix=st.integers(24, 30),
    taken=st.sets(st.integers(0, 255)),
    last=st.none() | st.integers(0, 255),
)
def test_what_is_given_is_usable_and_free(prefix: int, taken: set[int], last: int | None) -> None:
    subnet = IPv4Network(f"9.0.1.0/{prefix}")
    held = addresses(*taken)
    previous = None if last is None else IPv4Address(f"9.0.1.{last}")
    usable = set(subnet.hosts()) - {GATEWAY}

    try:
        found = next_free(Pool(subnet, GATEWAY), taken=held, last=previous)
    except UnavailableError:
        assert usable <= held
    else:
        assert found in usable - held


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("9.0.2.2", InvalidError, "is not in"),
        ("9.0.1.1", InvalidError, "gateway"),
        ("9.0.1.0", InvalidError, "not for a container"),
        ("9.0.1.7", InvalidError, "not for a container"),
        ("9.0.1.3", ConflictError, "is taken"),
    ],
)
def test_requested_address_that_cannot_be_given_is_refused(
    address: str, error: type[PhalanxError], words: str
) -> None:
    with pytest.raises(error, match=f"requested address {address}.*{words}"):
        check_requested(IPv4Address(address), Pool(SUBNET, GATEWAY), taken=addresses(3))
