"""Sizes in flags."""

import pytest

from phalanx.core.error import InvalidError
from phalanx.mesos.size import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512B", 512), ("4KB", 4096), (" 2 GB ", 2 << 30), ("1MB", 1 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "4", "4kb", "-1B", "1.5GB", "KB", "4KB2"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(InvalidError, match="no size"):
        parse_size(text)
