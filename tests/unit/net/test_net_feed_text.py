"""What the feed reads as an address is what the standard library reads as one."""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.feed.text import TEXTS, of_text, to_text

ADDRESSES = st.ip_addresses().map(str)
PREFIXES = st.builds(lambda a, n: f"{a}/{n}", ADDRESSES, st.integers(0, 128))
NETWORKS = st.builds(
    lambda a, n: str(
        (IPv4Network if a.version == 4 else IPv6Network)((a, n % (a.max_prefixlen + 1)), False)
    ),
    st.ip_addresses(),
    st.integers(0, 128),
)
NEARLY = st.text("0123456789abcdef.:/%+-_ xX٣\0", max_size=24)
ODD = [
    "", "/", "1.2.3.4/", "1.2.3.4/032", "1.2.3.4/+8", "1.2.3.4/3_2", "1.2.3.4/٣٢", "01.2.3.4",
    "1.2.3", "1.2.3.4 ", "10.0.0.0/255.0.0.0", "10.0.0.0/0.255.255.255", "10.0.0.0", "10.0.0.1/8",
    "1.2.3.4/32/1", "fe80::1%eth0", "::1.2.3.4", "::01.2.3.4", "1::2::3", "fd00::/8", "fd00::1/8",
    "::/0", "::", "FD00::A", "fd00::/129", "0.0.0.0/33", "1\0.2.3.4",
]  # fmt: skip


def outcome(read: Callable[[object], object], value: object) -> object:
    """Return what a reader makes of *value*, or how it refuses it."""
    try:
        return read(value)
    except (AttributeError, TypeError, ValueError) as error:
        return type(error)


@pytest.mark.parametrize("kind", TEXTS)
@given(st.one_of(ADDRESSES, PREFIXES, NETWORKS, NEARLY))
def test_text_is_read_as_the_standard_library_reads_it(kind: type, text: str) -> None:
    assert outcome(partial(of_text, kind), text) == outcome(kind, text)


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("value", [*ODD, 7, 2**40, -1, None, 1.5], ids=repr)
def test_odd_values_are_read_or_refused_alike(kind: type, value: object) -> None:
    assert outcome(partial(of_text, kind), value) == outcome(kind, value)


@given(st.ip_addresses())
def test_what_is_written_is_read_again(address: IPv4Address | IPv6Address) -> None:
    assert of_text(type(address), to_text(address)) == address == ip_address(to_text(address))


@pytest.mark.parametrize("kind", [int, dict])
def test_other_kinds_are_not_ours(kind: type) -> None:
    with pytest.raises(NotImplementedError):
        of_text(kind, "1")
    with pytest.raises(NotImplementedError):
        to_text(kind())
