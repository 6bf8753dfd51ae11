"""Parts of the suite run two at a time, are shown whole, and all count."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "parts"
SECONDS = 120.0  # on a machine with much other work
CLOSING = "=========== 3 passed, 1 warning in 5.10s ==========="

# Each of the first two ends only once the other has begun.
TARGETS = f"""
SHELL := /bin/bash
.PHONY: one two three told
one:
	@echo one begins; echo > one; until [[ -e two ]]; do sleep 0.02; done; echo '{CLOSING}'
two:
	@echo > two; echo two begins; until [[ -e one ]]; do sleep 0.02; done; echo two ends
three:
	@echo three; false
told:
	@trap 'echo told >> heard; exit 3' TERM; echo > begun; while :; do sleep 0.02; done
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    (tmp_path / "Makefile").write_text(TARGETS)
    return tmp_path


def start(suite: Path, *targets: str) -> subprocess.Popen[str]:
    # Whoever started us may ignore SIGINT, as a shell does for what runs in its background.
    command = ["env", "--default-signal=INT", str(suite / "scripts" / "parts"), *targets]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    environ |= {"PARTS": "2", "TMPDIR": str(suite)}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def test_two_run_at_a_time_and_each_is_shown_whole(suite: Path) -> None:
    with start(suite, "one", "two") as run:
        said, _ = run.communicate(timeout=SECONDS)

    lines = said.splitlines()
    assert lines[:6] == ["=== one", "one begins", CLOSING, "=== two", "two begins", "two ends"]
    assert lines[-1].startswith("all passed: 3 tests in ")
    assert run.returncode == 0


@pytest.mark.parametrize("part", ["three", "unknown"])
def test_one_that_fails_fails_all_after_the_end_of_the_others(suite: Path, part: str) -> None:
    with start(suite, part, "one", "two") as run:
        said, _ = run.communicate(timeout=SECONDS)

    lines = said.splitlines()
    assert lines[-4].startswith(f"{part}: FAILED with status 2 after ")
    assert lines[-3].startswith("one: passed after ")
    assert lines[-3].endswith(": 3 passed, 1 warning in 5.10s")
    assert lines[-1].startswith(f"FAILED: {part}; 3 tests passed in ")
    assert run.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_end_it_tells_its_parts_and_begins_no_more(
    suite: Path, number: signal.Signals
) -> None:
    begun = suite / "begun"
    os.mkfifo(begun)
    with start(suite, "told", "one", "three") as run:
        begun.read_text()
        run.send_signal(number)
        run.communicate(timeout=SECONDS)

    assert (suite / "heard").read_text() == "told\n"
    assert not list(suite.glob("phalanx-parts-*"))
    assert run.returncode == (130 if number == signal.SIGINT else 143)
