"""The demo is the main job: all of it holds, and nothing of it stays."""

import subprocess
import sys
from pathlib import Path

import pytest


# It has 150 s where nobody else works, and all it waits for is bounded by itself.
@pytest.mark.timeout(900)
def test_every_claim_of_the_demo_holds(spare_name: str) -> None:
    command = [sys.executable, "-Im", "phalanx.cli.main", "lab", "demo", "--name", spare_name]

    done = subprocess.run(command, capture_output=True, text=True, timeout=880, check=False)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "FAIL" not in done.stdout
    assert not (Path("/run/phalanx/labs") / spare_name).exists()
    assert not list(Path("/run/netns").glob(f"phx-{spare_name}-*"))
