"""A daemon refuses what it can't use: key and value in the message, exit status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

PHALANX = [sys.executable, "-Im", "phalanx.cli.main"]
GOOD = {
    "master": ["--ip=127.0.0.1", "--port=0", "--work-dir=WORK"],
    "agent": ["--master=127.0.0.1:5050", "--ip=127.0.0.1", "--work-dir=WORK"],
    "plane": ["--ip=127.0.0.1", "--source=http://127.0.0.1:5050"],
    "marathon": ["--master=127.0.0.1:5050", "--work-dir=WORK"],
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PHALANX, *arguments], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("daemon", GOOD)
def test_good_configuration_is_said_to_be_good(daemon: str, tmp_path: Path) -> None:
    flags = [flag.replace("WORK", str(tmp_path)) for flag in GOOD[daemon]]

    done = run(daemon, *flags, "--check-config")

    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout


@pytest.mark.parametrize(
    ("daemon", "flag", "words"),
    [
        pytest.param("master", "--ip=nowhere", ("--ip", "'nowhere'"), id="master-address"),
        pytest.param("master", "--port=70000", ("--port", "70000"), id="master-port"),
        pytest.param(
            "master", "--default-network=dcos", ("--default-network", "'dcos'"), id="master-network"
        ),
        pytest.param("master", "--log-level=loud", ("log", "'loud'"), id="master-log"),
        pytest.param("agent", "--master=nowhere", ("--master", "'nowhere'"), id="agent-master"),
        pytest.param("agent", "--resources=cpus", ("resources", "'cpus'"), id="agent-resources"),
        pytest.param("plane", "--lb=magic", ("--lb", "'magic'"), id="plane-lb"),
        pytest.param("plane", "--resync=0", ("--resync", "0.0"), id="plane-resync"),
        pytest.param("plane", "--upstreams=x:y:z", ("upstream", "'x:y:z'"), id="plane-upstream"),
        pytest.param("marathon", "--http-port=-1", ("--http-port", "-1"), id="marathon-port"),
    ],
)
def test_bad_configuration_is_named_with_its_value(
    daemon: str, flag: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    key = flag.partition("=")[0]
    flags = [item.replace("WORK", str(tmp_path)) for item in GOOD[daemon]]
    flags = [item for item in flags if not item.startswith(f"{key}=")]

    done = run(daemon, *flags, flag, "--check-config")

    assert done.returncode == 2, done.stderr
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.parametrize("daemon", GOOD)
def test_what_is_required_is_asked_for(daemon: str) -> None:
    done = run(daemon)

    assert done.returncode == 2
    assert "is required" in done.stderr


@pytest.mark.parametrize("command", [*GOOD, "lab", "network", "policy", "cni"])
def test_every_command_has_help(command: str) -> None:
    done = run(command, "--help")

    assert done.returncode == 0
    assert "usage:" in done.stdout


def test_no_command_is_an_error_and_help_is_not() -> None:
    assert run().returncode == 2
    assert run("--help").returncode == 0
    assert run("fly").returncode == 2
