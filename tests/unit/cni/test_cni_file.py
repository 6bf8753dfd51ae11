"""Files of plugins: whole or not there, by the module posix alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.net.netlink import file

LIMITED = """
import resource, sys
from phalanx.net.netlink import file
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
file.write(sys.argv[1], b"more than ten bytes")
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = f"{tmp_path}/a/b/c"
    file.make_folders(f"{tmp_path}/a/b")
    file.make_folders(f"{tmp_path}/a/b/")
    file.write(path, bytes(200_000))

    assert file.read(path) == bytes(200_000)
    assert file.names_in(f"{tmp_path}/a/b") == ["c"]
    file.remove(path)
    file.remove(path)
    assert not file.exists(path)


def test_nothing_is_no_error(tmp_path: Path) -> None:
    assert file.read(f"{tmp_path}/none") == b""
    assert file.names_in(f"{tmp_path}/none") == []


def test_folder_under_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(NotADirectoryError):
        file.make_folders(f"{tmp_path}/file/below")


def test_half_a_file_is_removed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "half"], capture_output=True, check=False
    )

    assert done.returncode == 1
    assert b"OSError" in done.stderr
    assert list(tmp_path.iterdir()) == []
