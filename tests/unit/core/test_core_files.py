"""A file that is replaced is whole at any moment, or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from phalanx.core.files import link_whole, replacing, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield where a file system of 64 KiB is mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_it_is_made_with_its_directories(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file"

    write_whole(path, b"new", durable=True, mode=0o600)

    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["file"]


def test_a_reader_has_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    with path.open("rb") as before, replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        amid = before.read()

    assert amid == b"old"
    assert path.read_bytes() == b"new"


def test_an_error_leaves_the_old_content_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    with pytest.raises(ValueError, match="negative"), replacing(path) as file:
        file.write(bytes(-1))

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_full_disk_is_told_of(small_disk: Path) -> None:
    path = small_disk / "file"
    write_whole(path, b"old")

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_whole(path, bytes(1 << 20))

    assert path.read_bytes() == b"old"
    assert os.listdir(small_disk) == ["file"]


def test_a_link_leads_to_the_last(tmp_path: Path) -> None:
    for target in ("one", "two"):
        link_whole(tmp_path / "latest", target)

    assert os.readlink(tmp_path / "latest") == "two"
    assert os.listdir(tmp_path) == ["latest"]
