"""Resource arithmetic neither makes nor loses anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import InvalidError
from phalanx.mesos.resources import Resources

SPANS = st.tuples(st.integers(0, 60), st.integers(0, 6)).map(lambda s: (s[0], s[0] + s[1]))


@st.composite
def amounts(draw: st.DrawFn) -> Resources:
    cpus = draw(st.integers(0, 8000))
    ports = ",".join(f"{b}-{e}" for b, e in draw(st.lists(SPANS, max_size=4)))
    return Resources.parse(f"cpus:{cpus / 1000}" + (f";ports:[{ports}]" if ports else ""))


def numbers(resources: Resources) -> set[int]:
    return {n for b, e in resources.ranges.get("ports", ()) for n in range(b, e + 1)}


@given(amounts(), amounts())
def test_ranges_behave_like_sets_of_numbers(a: Resources, b: Resources) -> None:
    assert numbers(a + b) == numbers(a) | numbers(b)
    assert numbers(a - b) == numbers(a) - numbers(b)


@given(amounts(), amounts())
def test_taking_back_what_fits_restores(a: Resources, b: Resources) -> None:
    if b in a:
        assert (a - b) + b == a
        assert b not in (a - b) or not b or b.scalars.get("cpus", 0) * 2 <= a.scalars["cpus"]


@given(amounts(), amounts())
def test_a_sum_contains_its_parts(a: Resources, b: Resources) -> None:
    assert a in a + b
    assert b in a + b


@given(amounts())
def test_messages_and_back_is_the_same(a: Resources) -> None:
    assert Resources.of(a.messages(role="web")) == a


def test_three_decimals_count_and_do_not_drift() -> None:
    total = Resources()
    for _ in range(1000):
        total += Resources.parse("cpus:0.001")

    assert total == Resources.parse("cpus:1")


@pytest.mark.parametrize("text", ["cpus", "cpus:", "cpus:x", "ports:[5-1]", "ports:[a-b]"])
def test_a_bad_flag_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InvalidError, match="resource"):
        Resources.parse(text)
