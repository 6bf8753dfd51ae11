"""A lab's state as values, and the command line that asks for it."""

import re
import signal
from collections.abc import Sequence

import pytest

from phalanx.labs.command import build_parser, main
from phalanx.labs.place import place_of
from phalanx.labs.process import Birth
from phalanx.labs.record import HOST, ProcessRecord, Record
from phalanx.labs.status import LabStatus, lab_status, status_rows, status_to_json
from phalanx.labs.topology import spread

RUNNING, ENDED = Birth(12, 1), Birth(13, 1)
RECORD = Record(
    spread(agents=1),
    (
        ProcessRecord("m1", "master", ("x",), RUNNING),
        ProcessRecord("m1", "plane", ("x",), ENDED),
        ProcessRecord("m1", "marathon", ("x",)),
        ProcessRecord(HOST, "relay", ("x",), RUNNING),
    ),
    powered_off=frozenset({"a1"}),
)


def status_of(record: Record, *, ports: tuple[int, int] | None = (4001, 4002)) -> LabStatus:
    return lab_status(
        place_of("lab"),
        record,
        is_alive=lambda birth: birth == RUNNING,
        partitioned=frozenset({"c1"}),
        ports=ports,
    )


def test_status_json_says_what_runs_and_where() -> None:
    assert status_to_json(status_of(RECORD)) == {
        "name": "lab",
        "master": "http://127.0.0.1:4001",
        "marathon": "http://127.0.0.1:4002",
        "nodes": [
            {
                "name": "m1",
                "role": "master",
                "netns": "phx-lab-m1",
                "address": "198.18.0.11",
                "processes": [
                    {"name": "master", "pid": 12, "state": "running"},
                    {"name": "plane", "pid": None, "state": "dead"},
                    {"name": "marathon", "pid": None, "state": "dead"},
                ],
            },
            {
                "name": "a1",
                "role": "agent",
                "netns": "phx-lab-a1",
                "address": "198.18.0.101",
                "processes": [],
            },
            {
                "name": "c1",
                "role": "client",
                "netns": "phx-lab-c1",
                "address": "198.18.0.201",
                "processes": [],
            },
        ],
    }


def test_status_rows_say_what_befell_a_node() -> None:
    assert [row[0] for row in status_rows(status_of(RECORD))] == [
        "m1",
        "a1 (off)",
        "c1 (partitioned)",
    ]
    assert status_rows(status_of(RECORD))[0][4] == "master 12  plane dead  marathon dead"


def test_status_without_a_relay_names_no_url() -> None:
    status = status_of(RECORD, ports=None)

    assert (status.master, status.marathon) == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "COMMAND", id="none"),
        pytest.param(["up", "--agents", "x"], "--agents: invalid", id="no-number"),
        pytest.param(["up", "--masters", "-1"], "--masters: '-1' is below 0", id="negative"),
        pytest.param(["kill", "a1", "--signal", "NOPE"], "'NOPE' is no signal", id="signal"),
    ],
)
def test_command_line_that_cant_be_used_ends_with_2(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)

    assert ending.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["TERM", "SIGTERM", "sigterm", "15"])
def test_signal_is_given_by_name_or_number(text: str) -> None:
    given = build_parser().parse_args(["kill", "a1", "agent", "--signal", text])

    assert given.signal is signal.SIGTERM


def test_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["--help"])

    assert ending.value.code == 0
    listed = re.findall(r"^ {4}(\w+)", capsys.readouterr().out, re.MULTILINE)
    assert " ".join(listed) == "up down status exec kill start partition heal readdress demo"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["status", "--name", "Nope!"], "--name: 'Nope!'", id="name"),
        pytest.param(["up", "--name", "t0", "--masters", "0"], "masters: 0", id="masters"),
        pytest.param(
            ["up", "--name", "t0", "--topology", "x", "--zk"], "--topology: says", id="both"
        ),
        pytest.param(["kill", "a1", "--signal", "TERM"], "--signal: SIGTERM", id="node-signal"),
        pytest.param(["exec", "a1", "--"], "exec a1: -- CMD: is missing", id="no-command"),
    ],
)
def test_value_that_cant_be_used_is_named_and_ends_with_2(
    arguments: Sequence[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)

    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"phalanx lab: {message}")


def test_other_users_than_root_are_told_to_use_sudo(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert main(["up"]) == 1
    assert "needs root" in capsys.readouterr().err


def test_machine_without_tools_is_told_which_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nonexistent")

    assert main(["up"]) == 1
    assert "lacks ip (iproute2), bridge (iproute2), nft (nftables)" in capsys.readouterr().err
