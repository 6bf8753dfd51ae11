"""Durations as Mesos spells them."""

import pytest

from phalanx.core.error import InvalidError
from phalanx.mesos.duration import parse_duration, render_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10mins", 600.0), ("1.5secs", 1.5), ("500ms", 0.5), ("1weeks", 604800.0), ("0ns", 0.0)],
)
def test_duration_is_read_and_written_the_same(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(render_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(15.0, "15secs"), (600.0, "10mins"), (1.5, "1500ms"), (3600.0, "1hrs")]
)
def test_duration_is_written_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert render_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "10", "10s", "secs", "-1secs", "1 secs"])
def test_what_is_no_duration_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(InvalidError, match="is not a duration"):
        parse_duration(text)
