"""Configuration files of networks: one contract, on disk and in memory."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.cni.config import config_text, desired_config_files, is_ours
from phalanx.plane.cni.directory import CniConfigFiles, MemoryConfigFiles

NODE, OTHER = IPv4Address("198.18.0.2"), IPv4Address("198.18.0.3")
FOREIGN = '{"cniVersion": "0.2.0", "name": "theirs", "type": "bridge"}'
DCOS, BLUE = config_text("dcos", "/run/cni.sock"), config_text("blue", "/run/cni.sock")


@pytest.fixture(params=["memory", "disk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryConfigFiles | CniConfigFiles:
    if request.param == "memory":
        return MemoryConfigFiles("theirs")
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d" / "theirs.conf").write_text(FOREIGN)
    return CniConfigFiles(tmp_path / "net.d")


def test_files_are_for_the_networks_of_the_node() -> None:
    view = View().changed(
        [
            Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
            Network("blue", IPv4Network("10.1.0.0/16"), 24, 1025, 1450),
            SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
            SubnetLease("blue", OTHER, IPv4Network("10.1.0.0/24")),
        ]
    )

    desired = desired_config_files(view, node=NODE, socket="/run/cni.sock")

    assert {name: json.loads(text) for name, text in desired.items()} == {
        "dcos": {
            "cniVersion": "1.0.0",
            "name": "dcos",
            "type": "phalanx-net",
            "capabilities": {
                "portMappings": True,
                "ips": True,
                "ipRanges": True,
                "mac": True,
                "bandwidth": True,
                "dns": True,
            },
            "socket": "/run/cni.sock",
        }
    }


@pytest.mark.parametrize("text", ["", "{", "[]", FOREIGN, '{"plugins": [{"type": "phalanx-net"}]}'])
def test_text_without_our_mark_is_not_ours(text: str) -> None:
    assert not is_ours(text)


@pytest.mark.parametrize(
    "states",
    [
        [{"dcos": DCOS}, {"dcos": DCOS, "blue": BLUE}, {"blue": BLUE}, {}],
        [{"dcos": DCOS}, {"dcos": config_text("dcos", "/elsewhere")}],
    ],
    ids=["come-and-go", "rewritten"],
)
async def test_every_state_is_reached(
    files: MemoryConfigFiles | CniConfigFiles, states: list[Mapping[str, str]]
) -> None:
    for state in states:
        await files.apply(delta(state, await files.read()))

        assert await files.read() == state


async def test_foreign_file_is_kept_and_holds_nobody_up(
    files: MemoryConfigFiles | CniConfigFiles,
) -> None:
    ours = config_text("theirs", "/run/cni.sock")

    with pytest.raises(DataplaneError, match=r"theirs\.conf: is there and not ours"):
        await files.apply(Delta({"theirs": ours, "dcos": DCOS}, frozenset()))
    await files.apply(Delta({}, frozenset({"theirs"})))

    assert await files.read() == {"dcos": DCOS}


async def test_name_that_is_no_file_name_is_refused(
    files: MemoryConfigFiles | CniConfigFiles,
) -> None:
    with pytest.raises(DataplaneError, match=r"'\.\./x': is not the name"):
        await files.apply(Delta({"../x": DCOS, "dcos": DCOS}, frozenset()))

    assert await files.read() == {"dcos": DCOS}


async def test_directory_is_made_and_holds_no_drafts(tmp_path: Path) -> None:
    files = CniConfigFiles(tmp_path / "etc" / "net.d")

    await files.apply(Delta({"dcos": DCOS}, frozenset()))

    assert [path.name for path in (tmp_path / "etc" / "net.d").iterdir()] == ["dcos.conf"]


async def test_drift_on_disk_is_seen(tmp_path: Path) -> None:
    files = CniConfigFiles(tmp_path)
    await files.apply(Delta({"dcos": DCOS, "blue": BLUE}, frozenset()))
    (tmp_path / "dcos.conf").unlink()
    (tmp_path / "blue.conf").write_text(BLUE.replace("1.0.0", "0.2.0"))

    change = delta({"dcos": DCOS, "blue": BLUE}, await files.read())

    assert set(change.upserts) == {"dcos", "blue"}


async def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(DataplaneError, match=r"dcos\.conf: Not a directory"):
        await CniConfigFiles(tmp_path / "file" / "x").apply(Delta({"dcos": DCOS}, frozenset()))
