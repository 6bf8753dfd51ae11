"""A master alone whose disk is full for a while, and one that is killed again and again."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from phalanx.labs.wait import wait_until

SEED = 7


class Master:
    """A master process on a port that the kernel chose."""

    def __init__(self, work_dir: Path, log: Path, *flags: str) -> None:
        phalanx = str(Path(sys.executable).with_name("phalanx"))
        self._log = log.open("ab")
        self.log = log
        self._from = log.stat().st_size
        self.process = subprocess.Popen(
            [phalanx, "master", "--ip=127.0.0.1", "--port=0", f"--work_dir={work_dir}", *flags],
            stderr=self._log,
        )

    def await_up(self) -> None:
        assert wait_until(lambda: self._url() is not None and self._is_up(), seconds=30), (
            self.log.read_text()[-2000:]
        )

    def _url(self) -> str | None:
        for line in self.log.read_bytes()[self._from :].decode().splitlines():
            if '"listening"' in line:
                return f"http://{json.loads(line)['on']}"
        return None

    def _is_up(self) -> bool:
        try:
            return bool(self.ask("/v1/networks"))
        except (OSError, HTTPError):
            return False

    def ask(self, path: str, body: object = None) -> tuple[int, str]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self._url()}{path}", data, {"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            if body is None:
                raise
            return error.code, error.read().decode()

    def networks(self) -> set[str]:
        return {network["name"] for network in json.loads(self.ask("/v1/networks")[1])["networks"]}

    def end(self, number: int = 9) -> int:
        self.process.send_signal(number)
        self._log.close()
        return self.process.wait()


@contextmanager
def master(work_dir: Path, log: Path, *flags: str) -> Iterator[Master]:
    started = Master(work_dir, log, *flags)
    try:
        started.await_up()
        yield started
    finally:
        if started.process.poll() is None:
            started.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a directory on a file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "phxtest", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def network(number: int) -> dict[str, str]:
    return {"name": f"n{number}", "subnet": f"10.{number}.0.0/16"}


def fill(file: Path) -> None:
    """Write until the disk is full; raise OSError then."""
    with file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(1024))


def test_a_full_disk_is_answered_503_and_changes_nothing(small_disk: Path, tmp_path: Path) -> None:
    with master(small_disk, tmp_path / "log", "--default-network=") as running:
        assert running.ask("/v1/networks", network(1))[0] in (200, 201)
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            fill(ballast)
        made, number, text = {"n1"}, 1, ""
        status = 200
        while status in (200, 201):  # what SQLite has set aside takes a little more
            number += 1
            status, text = running.ask("/v1/networks", network(number))
            made |= {f"n{number}"} if status in (200, 201) else set()
        assert status == 503, text
        assert "full" in text or "disk" in text
        assert running.networks() == made

        ballast.unlink()
        assert running.ask("/v1/networks", network(number))[0] in (200, 201)
        made.add(f"n{number}")
        running.end()

    with master(small_disk, tmp_path / "log", "--default-network=") as again:
        assert again.networks() == made


def test_killed_at_any_moment_it_keeps_what_it_answered(tmp_path: Path) -> None:
    rng = Random(SEED)
    made: set[str] = set()
    number = 0
    for _ in range(5):
        with master(tmp_path / "work", tmp_path / "log", "--default-network=") as running:
            assert made <= running.networks() <= made | {f"n{number}"}
            made = running.networks()
            for _ in range(rng.randint(1, 6)):
                number += 1
                assert running.ask("/v1/networks", network(number))[0] in (200, 201)
                made.add(f"n{number}")
            running.end()


def test_sigterm_ends_it_with_status_0_and_a_second_one_of_a_directory_is_refused(
    tmp_path: Path,
) -> None:
    with master(tmp_path / "work", tmp_path / "log") as running:
        second = Master(tmp_path / "work", tmp_path / "second")
        assert second.process.wait(timeout=30) == 2
        second.end()
        assert "locked" in (tmp_path / "second").read_text()
        assert running.end(15) == 0
