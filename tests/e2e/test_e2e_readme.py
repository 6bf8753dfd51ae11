"""The first look around that the README shows works as it stands there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from tests.e2e.alone import alone

from phalanx.labs.demo.cluster import Cluster

ROOT = Path(__file__).parents[2]


def blocks(heading: str) -> list[list[str]]:
    """Return the lines of each block of commands below a heading of the README."""
    section = (ROOT / "README.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ")[0]
    return [block.strip().split("\n") for block in section.split("```")[1::2]]


def commands() -> list[str]:
    """Return the lines of the README's first look around, from the lab's being up to its end."""
    [block] = blocks("A first look around")
    lines = [line.partition("#")[0].strip() if "@" not in line else line for line in block]
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
        cluster.lab.wait()  # every node knows of it by then

    done = cluster.run_here(words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


def test_a_host_alone_works_as_the_readme_shows(tmp_path: Path) -> None:
    daemons, used = blocks("Alone on a host")
    with alone(tmp_path) as machine:
        agent = machine.agent()
        here = {
            "5050": str(machine.master.port),
            "5051": str(agent.port),
            "/var/lib/phalanx/master": str(tmp_path / "m"),
            "/var/lib/phalanx/agent": str(tmp_path / "a0"),
        }

        def placed(line: str) -> list[str]:
            for there, ours in here.items():
                line = line.replace(there, ours)
            return shlex.split(line)

        for daemon, line in zip((machine.master, agent), daemons, strict=True):
            words = placed(line)[1:]
            assert daemon.words[: len(words)] == words
        for line in used:
            done = subprocess.run(
                placed(line), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            assert done.stdout
        [task] = machine.master.get("/tasks")["tasks"]
        assert task["state"] == "TASK_FINISHED"
