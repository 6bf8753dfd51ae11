"""What is kept as layers says what a copy would say."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.layered import LEAST, Layered, differing, whole_of, with_changes

KEYS = st.integers(0, 9)
CHANGES = st.dictionaries(KEYS, st.none() | st.integers(0, 3), max_size=4)
STEPS = st.lists(st.tuples(CHANGES, st.booleans()), max_size=8)


def copied(before: dict[int, int], changes: Mapping[int, int | None]) -> dict[int, int]:
    after = {**before, **changes}
    return {key: value for key, value in after.items() if value is not None}


@given(base=st.dictionaries(KEYS, st.integers(0, 3)), steps=STEPS)
def test_every_step_is_what_a_copy_would_be(
    base: dict[int, int], steps: list[tuple[dict[int, int | None], bool]]
) -> None:
    plain, layered = [base], [with_changes(base, {})]
    for changes, is_walked in steps:
        plain.append(copied(plain[-1], changes))
        layered.append(with_changes(layered[-1], changes))
        if is_walked:
            assert sorted(layered[-1]) == sorted(plain[-1])

    for expected, found in zip(plain, layered, strict=True):
        assert {key: found.get(key) for key in range(10)} == {k: expected.get(k) for k in range(10)}
        assert [key in found for key in range(10)] == [key in expected for key in range(10)]
        assert len(found) == len(expected)
        assert found == expected
        assert dict(found.items()) == expected
        assert dict.fromkeys(whole_of(found)) == dict.fromkeys(expected)
        assert sorted(found.values()) == sorted(expected.values())


@given(base=st.dictionaries(KEYS, st.integers(0, 3)), one=CHANGES, two=CHANGES)
def test_what_differs_is_among_what_is_said_to(
    base: dict[int, int], one: dict[int, int | None], two: dict[int, int | None]
) -> None:
    before = with_changes(base, one)
    after = with_changes(before, two)

    found = differing(before, after)

    assert found is not None
    assert {key for key in range(10) if before.get(key) != after.get(key)} <= set(found)


def test_missing_and_removed_keys_are_errors_alike() -> None:
    after = with_changes({1: 1}, {1: None, 2: 2})

    assert after[2] == 2
    assert after.get(1, 7) == after.get(3, 7) == 7
    for key in (1, 3):
        with pytest.raises(KeyError):
            after[key]


def test_few_changes_copy_nothing_and_many_become_the_base() -> None:
    base = dict.fromkeys(range(100), 0)

    few = with_changes(base, dict.fromkeys(range(LEAST), 1))
    many = with_changes(few, {100: 1})

    assert isinstance(few, Layered)
    assert type(many) is dict
    assert differing(few, many) is None


def test_without_changes_it_is_the_very_same() -> None:
    after = with_changes({1: 1}, {1: 2})

    assert with_changes(after, {}) is after
