"""Intervals of a set are told from where one ends, as the kernel's listing has both."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.nft.dump import Bound, Interval, intervals


def bounds(prefix: str) -> list[Bound]:
    """Return what the kernel holds of a prefix: no end behind the last address of all."""
    network = IPv4Network(prefix)
    last = int(network.broadcast_address)
    end = [] if last == 0xFFFFFFFF else [((last + 1).to_bytes(4, "big"), True)]
    return [(network.network_address.packed, False), *end]


def interval(prefix: str) -> Interval:
    found = bounds(prefix)
    return found[0][0], found[1][0] if len(found) == 2 else b""


@pytest.mark.parametrize(
    "prefixes",
    [
        pytest.param([], id="none"),
        pytest.param(["10.1.0.0/16"], id="one"),
        pytest.param(["10.1.0.0/16", "10.2.0.0/16"], id="touching"),
        pytest.param(["10.1.0.0/16", "10.3.0.0/16"], id="apart"),
        pytest.param(["0.0.0.0/8", "10.2.3.4/32", "255.0.0.0/8"], id="first-and-last"),
    ],
)
@given(data=st.data())
def test_intervals_are_found_in_any_order_of_bounds(
    prefixes: list[str], data: st.DataObject
) -> None:
    held = [each for prefix in prefixes for each in bounds(prefix)]

    found = list(intervals(data.draw(st.permutations(held))))

    assert found == [interval(prefix) for prefix in prefixes]


def test_end_of_nothing_is_none() -> None:
    """As the kernel has it at the first address of all."""
    held = [(bytes(4), True), *bounds("10.1.0.0/16")]

    assert list(intervals(held)) == [interval("10.1.0.0/16")]
