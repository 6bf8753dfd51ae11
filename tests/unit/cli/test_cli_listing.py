"""What tables and errors of commands look like."""

import socket

import pytest
from rich.table import Table

from phalanx.cli.client import call
from phalanx.cli.listing import print_tables
from phalanx.core.error import UnavailableError


def test_cells_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("address", "reason")
    table.add_row("fd01:b::/64", "[see] the door")

    print_tables(table)

    printed = capsys.readouterr().out
    assert "fd01:b::/64" in printed
    assert "[see] the door" in printed


def test_long_names_are_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a" * 70 + "b" * 70 + "c" * 70
    table = Table("VIP", "task")
    table.add_row(name, name)

    print_tables(table)

    printed = capsys.readouterr().out
    assert [printed.count(letter) for letter in "abc"] == [141, 140, 140]  # "task" has one


@pytest.mark.parametrize("url", ["http://127.0.0.1:5050,", "nonsense:x", "", "ftp//"])
def test_an_address_that_is_none_is_told_of(url: str) -> None:
    with pytest.raises(UnavailableError):
        call(url, "GET", "/v1/networks")


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_who_does_not_answer_is_named(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}: .*refused"):
        call(f"{scheme}127.0.0.1:{port}", "GET", "/")
