"""The first look around that the README shows works as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from phalanx.labs.demo.cluster import Cluster

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    """Return the lines of the README's first look around, from the lab's being up to its end."""
    text = (ROOT / "README.md").read_text()
    block = text.split("## A first look around", 1)[1].split("```", 2)[1]
    lines = [
        line.partition("#")[0].strip() if "@" not in line else line for line in block.split("\n")
    ]
    return [line for line in lines if line and "lab up" not in line and "lab down" not in line]


def test_the_readme_shows_a_lab_up_and_down() -> None:
    text = (ROOT / "README.md").read_text()

    assert "phalanx lab up" in text
    assert "phalanx lab down" in text
    assert len(commands()) >= 6


@pytest.mark.parametrize("command", commands())
def test_command_of_the_readme_works(cluster: Cluster, command: str) -> None:
    lab = cluster.lab
    line = command.replace("phx-lab-", f"phx-{lab.name}-")
    line = line.replace("MASTER", lab.master_url).replace("MARATHON", lab.marathon_url)
    line = re.sub(r"phalanx lab (\w+)", rf"phalanx lab \1 --name {lab.name}", line)
    line = line.replace(".venv/bin/phalanx", str(ROOT / ".venv/bin/phalanx"))
    words = [word.replace("@labs", f"@{ROOT}/labs") for word in shlex.split(line)]
    if "dig" in words or words[-1].endswith("directory/"):
        cluster.await_app("web", 3)

    done = cluster.run_here(words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
