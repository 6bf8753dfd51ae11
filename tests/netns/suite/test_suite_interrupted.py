"""A test run leaves nothing behind, however it is ended."""

import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SECONDS = 120.0  # on a machine with much other work
CONFTEST = """
import sys

sys.path.insert(0, "{root}")
from tests.conftest import pytest_configure
from tests.netns.conftest import ns
"""
CHILD = """
import time
from pathlib import Path


def test_child(ns: str) -> None:
    Path("{report}").write_text(ns)
    time.sleep(600)  # waits: to be interrupted
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_run_removes_its_namespaces(tmp_path: Path, number: signal.Signals) -> None:
    report = tmp_path / "namespace"
    # Beside the tree, which other tools may be reading.
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "conftest.py").write_text(CONFTEST.format(root=ROOT))
    (inner / "test_child.py").write_text(CHILD.format(report=report))
    # Whoever started us may ignore SIGINT, as a shell does for what runs in its background.
    heard = ["env", "--default-signal=INT"]
    command = [*heard, sys.executable, "-Im", "pytest", "-q", "-p", "no:cacheprovider", str(inner)]
    run = subprocess.Popen(
        [*command, f"--basetemp={tmp_path / 'base'}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not (report.exists() and report.read_text()):
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)  # waits: between two looks
        name = report.read_text()
        assert Path("/run/netns", name).exists()

        run.send_signal(number)
        run.wait(SECONDS)

        assert not Path("/run/netns", name).exists()
    finally:
        if run.poll() is None:  # the test has failed: leave nothing all the same
            run.terminate()
            with suppress(subprocess.TimeoutExpired):
                run.wait(SECONDS)
            run.kill()
