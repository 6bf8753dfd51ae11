"""`phalanx lab` as its users type it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.labs.lab import Lab


def phalanx_lab(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-Im", "phalanx.cli.main", "lab", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_exec_has_the_nodes_network_and_resolver(lab: Lab) -> None:
    done = phalanx_lab(
        "exec", "--name", lab.name, "a1", "--", "sh", "-c", "ip -br address; cat /etc/resolv.conf"
    )

    assert "198.18.0.101/24" in done.stdout
    assert "nameserver 198.51.100.1" in done.stdout
    assert "198.51.100.1" not in Path("/etc/resolv.conf").read_text()


def test_exec_sees_this_machines_cgroups(lab: Lab) -> None:
    done = phalanx_lab("exec", "--name", lab.name, "a1", "--", "ls", "/sys/fs/cgroup")

    assert set(done.stdout.split()) == set(os.listdir("/sys/fs/cgroup"))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["sh", "-c", "exit 7"], 7, id="its-own"),
        pytest.param(["no-such-command"], 127, id="not-found"),
        pytest.param(["sh", "-c", "kill -9 $$"], -9, id="killed"),
    ],
)
def test_exec_passes_the_exit_status_on(lab: Lab, words: list[str], status: int) -> None:
    assert phalanx_lab("exec", "--name", lab.name, "a1", "--", *words).returncode == status


def test_exec_passes_standard_input_on(lab: Lab) -> None:
    assert phalanx_lab("exec", "--name", lab.name, "c1", "--", "cat", stdin="x").stdout == "x"


def test_exec_keeps_the_terminal(lab: Lab) -> None:
    inside = f"{sys.executable} -Im phalanx.cli.main lab exec --name {lab.name} a1 -- tty"
    done = subprocess.run(
        ["script", "-qec", inside, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stdout.startswith("/dev/pts/")


def test_ip_netns_exec_works_with_the_nodes_resolver(lab: Lab) -> None:
    done = subprocess.run(
        ["ip", "netns", "exec", f"phx-{lab.name}-a1", "cat", "/etc/resolv.conf"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "nameserver 198.51.100.1" in done.stdout


def test_status_json_has_the_documented_shape(lab: Lab) -> None:
    shown = json.loads(phalanx_lab("status", "--name", lab.name, "--json").stdout)

    assert list(shown) == ["name", "master", "marathon", "nodes"]
    assert [node["name"] for node in shown["nodes"]] == ["m1", "a1", "a2", "c1"]
    agent = shown["nodes"][1]
    pid = agent["processes"][0].pop("pid")
    assert agent["processes"].pop()["name"] == "idle"
    assert agent == {
        "name": "a1",
        "role": "agent",
        "netns": f"phx-{lab.name}-a1",
        "address": "198.18.0.101",
        "processes": [{"name": "web", "state": "running"}],
    }
    assert Path(f"/proc/{pid}").exists()


def test_status_shows_every_node_and_what_befell_it(lab: Lab) -> None:
    lab.kill("a1", "idle")
    lab.partition("a2")

    shown = phalanx_lab("status", "--name", lab.name).stdout

    assert "idle dead" in shown
    assert "a2 (partitioned)" in shown


def test_kill_start_partition_and_heal_say_what_they_did(lab: Lab) -> None:
    said = [
        phalanx_lab(*words[:1], "--name", lab.name, *words[1:]).stdout.strip()
        for words in (
            ("kill", "a1", "idle", "--signal", "TERM"),
            ("start", "a1", "idle"),
            ("partition", "a2"),
            ("heal", "a2"),
            ("readdress", "a2", "198.18.1.77"),
            ("kill", "a2"),
            ("start", "a2"),
        )
    ]

    assert said == [
        "a1: idle: sent SIGTERM",
        "a1: started idle",
        "a2: nothing passes to or from it",
        "a2: traffic passes again",
        "a2: has 198.18.1.77; its processes know when they start again",
        "a2: is without power",
        "a2: started web",
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "soon"])
def test_time_that_is_none_is_refused(name: str, text: str) -> None:
    done = phalanx_lab("up", "--name", name, "--timeout", text)

    assert done.returncode == 2
    assert "argument --timeout" in done.stderr


def test_down_of_none_is_an_error_with_a_message(name: str) -> None:
    done = phalanx_lab("down", "--name", name)

    assert (done.returncode, done.stderr) == (1, f"phalanx lab: no lab named {name}\n")


def test_second_up_is_an_error_that_says_what_to_do(lab: Lab) -> None:
    done = phalanx_lab("up", "--name", lab.name)

    assert done.returncode == 1
    assert f"phalanx lab down --name {lab.name}" in done.stderr
