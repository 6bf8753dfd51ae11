"""The protocol's table: every plugin, command, version and variable, against the specification."""

import json
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from phalanx.cni.install import FAMILY, PLUGIN, install

ALL = (PLUGIN, *FAMILY)
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
# command -> (variables that it needs, first version that has it), by the specification
COMMANDS: dict[str, tuple[set[str], str]] = {
    "ADD": ({"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}, "0.1.0"),
    "DEL": ({"CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"}, "0.1.0"),
    "CHECK": ({"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"}, "0.4.0"),
    "GC": ({"CNI_PATH"}, "1.1.0"),
    "STATUS": ({"CNI_PATH"}, "1.1.0"),
    "VERSION": (set(), "0.1.0"),
}
GOOD = {
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/phxtest-none",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/nowhere",
}
INCOMPATIBLE, ENVIRONMENT, DECODING = 1, 4, 6
LONG = 4_000_000


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    install(directory)
    return directory


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return a configuration with which no plugin finds anything to do, or a way to do it."""
    empty = tmp_path_factory.mktemp("empty")
    socket = str(empty / "none.sock")
    return {
        "name": "phxtestnone",
        "bridge": "phxtestnone",
        "socket": socket,
        "ipam": {"type": "phalanx-ipam", "network": "none", "socket": socket},
    }


def call(plugin: Path, environ: Mapping[str, str], raw: bytes) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([plugin], env=dict(environ), input=raw, capture_output=True, timeout=60)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.mark.parametrize("plugin", ALL)
def test_every_command_in_every_version(
    plugins: Path, nothing: dict[str, Any], plugin: str
) -> None:
    def one(case: tuple[str, str]) -> None:
        command, version = case
        config = json.dumps({**nothing, "cniVersion": version, "type": plugin}).encode()
        status, output = call(plugins / plugin, {**GOOD, "CNI_COMMAND": command}, config)
        if command == "VERSION":
            assert (status, output["supportedVersions"]) == (0, list(VERSIONS)), case
        elif VERSIONS.index(version) < VERSIONS.index(COMMANDS[command][1]):
            assert (status, output["code"]) == (1, INCOMPATIBLE), (case, output)
            assert output["cniVersion"] == version, case
        elif status:
            assert output["code"] not in (INCOMPATIBLE, ENVIRONMENT, DECODING), (case, output)
            assert output["code"] < 999, (case, output)
            assert output["cniVersion"] == version, (case, output)
        else:
            assert command != "ADD", (case, output)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, product(COMMANDS, VERSIONS)))


@pytest.mark.parametrize("plugin", ALL)
def test_every_variable_that_lacks(plugins: Path, nothing: dict[str, Any], plugin: str) -> None:
    config = json.dumps({**nothing, "cniVersion": "1.1.0", "type": plugin}).encode()

    def one(case: tuple[str, str, bool]) -> None:
        command, name, is_empty = case
        environ = {**GOOD, "CNI_COMMAND": command, **({name: ""} if is_empty else {})}
        if not is_empty:
            del environ[name]
        status, output = call(plugins / plugin, environ, config)
        if name in COMMANDS[command][0]:
            assert (status, output["code"]) == (1, ENVIRONMENT), case
            assert output["msg"] == f"required env variables [{name}] missing"
        else:
            assert output.get("code") != ENVIRONMENT, case

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, product(COMMANDS, GOOD, (True, False))))


@pytest.mark.parametrize("plugin", ALL)
def test_all_that_lacks_is_in_one_message(plugins: Path, plugin: str) -> None:
    for command, (needed, _) in COMMANDS.items():
        status, output = call(plugins / plugin, {"CNI_COMMAND": command}, b"{}")
        assert (status == 0) is (command == "VERSION")
        assert all(name in output["msg"] for name in needed), command
    status, output = call(plugins / plugin, {"CNI_IFNAME": "eth0"}, b"{}")

    assert (status, output["code"]) == (1, ENVIRONMENT)
    assert "CNI_COMMAND" in output["msg"]


@pytest.mark.parametrize("plugin", ALL)
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0" * LONG, id="zeros"),
        pytest.param(b"\xff\xfe" * 1000, id="no UTF-8"),
        pytest.param(b"[" * LONG, id="deep"),
        pytest.param(b'{"a":' * 100_000, id="deep objects"),
        pytest.param(b'{"name":"' + b"a" * LONG, id="endless text"),
        pytest.param(b'{"cniVersion":"1.0.0","name":"n","mtu":NaN}', id="not a number"),
        pytest.param(b'{"name":"n"} {"name":"n"}', id="two"),
        pytest.param(b'"socket":"/x"', id="no object"),
    ],
)
def test_garbage_is_told_so(plugins: Path, plugin: str, raw: bytes) -> None:
    for command in ("ADD", "DEL"):
        status, output = call(plugins / plugin, {**GOOD, "CNI_COMMAND": command}, raw)

        assert (status, output["code"]) == (1, DECODING)
        assert len(output["msg"]) < 1000


@pytest.mark.parametrize("plugin", ALL)
def test_long_configuration_is_read_whole(
    plugins: Path, nothing: dict[str, Any], plugin: str
) -> None:
    config = {**nothing, "cniVersion": "0.3.0", "type": plugin, "more": "x" * LONG}
    status, output = call(
        plugins / plugin, {**GOOD, "CNI_COMMAND": "CHECK"}, json.dumps(config).encode()
    )

    assert (status, output["code"], output["cniVersion"]) == (1, INCOMPATIBLE, "0.3.0")
