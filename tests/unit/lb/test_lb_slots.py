"""Slot tables: exact shares, stable places."""

from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from phalanx.lb.service import Backend, Endpoint
from phalanx.lb.slots import FULL, LENGTHS, Table, filled, length_for, slots


def backend(number: int, weight: int = 1) -> Backend:
    return Backend(IPv4Address("9.0.0.0") + number, 80, weight)


def equal(*numbers: int) -> list[Backend]:
    return [backend(number) for number in numbers]


def counts(table: Table) -> Counter[Endpoint]:
    return Counter(endpoint for endpoint in table if endpoint is not None)


weighted = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=40, unique_by=lambda pair: pair[0]
).map(lambda pairs: [backend(number, weight) for number, weight in sorted(pairs)])


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 8, 9, 31, 32, 33, 100, 2048])
def test_equal_backends_get_equal_shares_of_more_than_half_the_table(number: int) -> None:
    table = slots(equal(*range(number)))

    filled = counts(table)
    assert len(filled) == number
    assert len(set(filled.values())) == 1
    assert filled.total() * 2 > len(table)


def test_weights_are_exact_shares() -> None:
    table = slots([backend(1, 20), backend(2, 30), backend(3, 0)])

    assert counts(table) == {backend(1).endpoint: 2, backend(2).endpoint: 3}


@pytest.mark.parametrize("backends", [[], [backend(1, 0)]], ids=["none", "all-draining"])
def test_nobody_eligible_is_an_empty_table(backends: list[Backend]) -> None:
    assert slots(backends) == ()


def test_leaving_backend_moves_only_its_own_slots() -> None:
    before = slots(equal(*range(12)))

    after = slots(equal(*range(1, 12)), before)

    moved = [
        slot
        for slot, endpoint in enumerate(before)
        if endpoint != backend(0).endpoint and after[slot] != endpoint
    ]
    assert len(after) == len(before)
    assert len(moved) <= 1  # at most one goes to the first slot, which is never empty


def test_weights_too_far_apart_still_serve_everyone() -> None:
    table = slots([backend(1, 10_000), backend(2, 1)])

    assert counts(table) == {backend(1).endpoint: LENGTHS[-1] - 1, backend(2).endpoint: 1}


def test_more_backends_than_slots_serve_as_many_as_fit() -> None:
    table = slots(equal(*range(LENGTHS[-1] + 5)))

    assert len(counts(table)) == len(table) == LENGTHS[-1]


@pytest.mark.parametrize(
    ("weights", "length"),
    [([1], 8), ([1] * 8, 8), ([1] * 9, 32), ([5] * 9, 32), ([1, 2, 30], 128), ([1, 9999], 2048)],
)
def test_length_is_the_least_that_holds_the_weights(weights: list[int], length: int) -> None:
    assert length_for(weights) == length


@given(weighted, weighted)
def test_table_is_right_whatever_was_before(before: list[Backend], after: list[Backend]) -> None:
    table = slots(after, slots(before))

    eligible = {each.endpoint: each.weight for each in after if each.weight > 0}
    filled = counts(table)
    assert filled.keys() == eligible.keys()
    assert len({filled[endpoint] / weight for endpoint, weight in eligible.items()}) <= 1
    assert not table or table[0] is not None
    assert slots(after, table) == table
    assert filled == counts(slots(after))


@given(weighted, st.data())
def test_slots_of_those_who_stay_stay(before: list[Backend], data: st.DataObject) -> None:
    table = slots(before)
    leaving = data.draw(st.sampled_from(before)) if before else None
    after = [each for each in before if each is not leaving]

    changed = slots(after, table)

    if len(changed) == len(table):
        kept, now = counts(table), counts(changed)
        lost = Counter(
            was for was, is_now in zip(table, changed, strict=True) if was and was != is_now
        )
        shrunk = sum(max(0, kept[each.endpoint] - now[each.endpoint]) for each in before)
        assert lost.total() <= shrunk + 1


@given(weighted, weighted)
def test_full_table_has_no_empty_slot_and_fair_shares(
    before: list[Backend], after: list[Backend]
) -> None:
    table = filled(after, filled(before))

    eligible = {each.endpoint: each.weight for each in after if each.weight}
    assert None not in table
    assert counts(table).keys() == eligible.keys()
    total = sum(eligible.values())
    for endpoint, weight in eligible.items():
        assert abs(counts(table)[endpoint] - len(table) * weight / total) <= max(
            1, len(table) / FULL / total
        )


@pytest.mark.parametrize("fill", [slots, filled])
@given(before=weighted, after=weighted)
@example(before=[], after=[backend(0, 1), backend(1, 4), backend(2, 1)])
def test_table_that_is_right_is_left_alone(
    fill: Callable[..., Table], before: list[Backend], after: list[Backend]
) -> None:
    table = fill(after, fill(before))

    assert fill(after, table) == table


def test_backend_that_leaves_a_full_table_moves_its_own_sources_only() -> None:
    before = filled(equal(*range(9)))
    after = filled(equal(*range(8)), before)
    sources = [number / 4096 for number in range(4096)]  # as the kernel scales a hash

    moved = [
        before[int(source * len(before))]
        for source in sources
        if before[int(source * len(before))] != after[int(source * len(after))]
    ]

    assert (len(before), len(after)) == (512, 128)
    # A slot of the shorter table is four of the longer one: at each seam one may be another's.
    strangers = sum(each != backend(8).endpoint for each in moved)
    assert strangers <= 4096 * 9 * 4 // 512


def test_full_table_that_grows_keeps_what_it_can() -> None:
    before = filled(equal(*range(8)))
    after = filled(equal(*range(9)), before)

    kept = sum(after[slot] == before[slot * len(before) // len(after)] for slot in range(512))

    assert kept >= 512 * 8 // 9 - 1


def test_weights_too_many_for_a_full_table_are_near_their_shares() -> None:
    table = filled([backend(1, 200), backend(2, 300)])

    assert len(table) == 128
    assert counts(table)[backend(2).endpoint] == 77
