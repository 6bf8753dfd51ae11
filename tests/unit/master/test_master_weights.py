"""Weights of roles: what UPDATE_WEIGHTS and --weights take."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import InvalidError
from phalanx.master.roles.weight import checked_weights, parsed_weights, weight_infos
from phalanx.mesos.v1.mesos import WeightInfo


def test_weights_are_kept_by_role() -> None:
    found = checked_weights(
        [WeightInfo(role=" eng ", weight=2.0), WeightInfo(role="ops/web", weight=0.5)]
    )

    assert found == {"eng": 2.0, "ops/web": 0.5}
    assert [info.role for info in weight_infos(found)] == ["eng", "ops/web"]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        pytest.param(
            WeightInfo(role="a", weight=0.0),
            "Failed to validate update weights request JSON for role 'a': Invalid weight '0':"
            " Weights must be positive",
            id="zero",
        ),
        pytest.param(
            WeightInfo(role="a", weight=-1.0),
            "Failed to validate update weights request JSON for role 'a': Invalid weight '-1':"
            " Weights must be positive",
            id="negative",
        ),
        pytest.param(
            WeightInfo(weight=3.0),
            "Failed to validate update weights request JSON: Invalid role '': Role names cannot"
            " be the empty string",
            id="no-role",
        ),
    ],
)
def test_weights_are_refused_in_words(info: WeightInfo, words: str) -> None:
    with pytest.raises(InvalidError) as caught:
        checked_weights([info])

    assert str(caught.value) == words


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_weights_are_numbers(weight: float) -> None:
    with pytest.raises(InvalidError, match="Weights must be positive"):
        checked_weights([WeightInfo(role="a", weight=weight)])


def test_flag_gives_weights() -> None:
    assert parsed_weights("a=2, b/c=0.5") == {"a": 2.0, "b/c": 0.5}
    assert parsed_weights("") == {}


@pytest.mark.parametrize("text", ["a", "a=x", "=2", "a=0"])
def test_flag_refuses_what_is_no_weight(text: str) -> None:
    with pytest.raises(InvalidError):
        parsed_weights(text)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.floats(0.001, 1e6)))
def test_weights_come_back_as_they_were_given(weights: dict[str, float]) -> None:
    assert checked_weights(weight_infos(weights)) == weights
