"""The launcher and the Python plugin behind it: one answer, whichever of them gives it."""

import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phalanx.cni import launcher
from phalanx.cni.install import BEHIND_LAUNCHER, install
from phalanx.net.attachment.error import CniError
from phalanx.plane.cni.wire import decode_request

Config = dict[str, Any]


class Plane:
    """A plane that gives every request the same answer and keeps them."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self.requests: list[Config] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as lines:
                    self.requests.append(json.loads(lines.readline()))
                    connection.sendall(self._answer)


class Twins:
    """Both plugins, a place for a socket and a file that stands for a namespace."""

    def __init__(self, directory: Path) -> None:
        self.quick, *_ = install(directory / "bin")
        assert "perl" in self.quick.read_text().splitlines()[0], "needs /usr/bin/perl"
        self.socket = directory / "cni.sock"
        (directory / "ns").write_text("")
        self.environ = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": str(directory / "ns"),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/opt/cni/bin",
        }

    def config(self, **more: Any) -> Config:
        base = {"cniVersion": "1.0.0", "name": "dcos", "type": "phalanx-net"}
        return {**base, "socket": str(self.socket), **more}

    def run(self, config: Config | bytes, **environ: str) -> list[tuple[int, bytes]]:
        """Return status and output of the launcher and of the Python plugin."""
        raw = config if isinstance(config, bytes) else json.dumps(config, indent=1).encode()
        full = {**self.environ, **environ}
        return [
            (done.returncode, done.stdout)
            for done in (
                subprocess.run([path], env=full, input=raw, capture_output=True, timeout=30)
                for path in (self.quick, BEHIND_LAUNCHER)
            )
        ]


def configs(plane: Plane) -> list[Config]:
    """Return the configurations that a plane was sent."""
    return [
        json.loads(request["config_text"]) if "config_text" in request else request["config"]
        for request in plane.requests
    ]


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    return Twins(tmp_path)


@pytest.fixture
def plane(twins: Twins) -> Iterator[Callable[[bytes], Plane]]:
    planes: list[Plane] = []

    def start(answer: bytes) -> Plane:
        planes.append(Plane(twins.socket, answer))
        return planes[0]

    yield start
    for one in planes:
        one.close()


RESULT = b'{"result":{"cniVersion":"1.0.0","ips":[{"address":"9.0.1.2/24"}]}}\n'


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_both_ask_the_same_and_print_the_same(
    twins: Twins, plane: Callable[[bytes], Plane], command: str
) -> None:
    asked = plane(RESULT)
    config = twins.config(prevResult={"ips": []}, args={"cni": {"ips": ["9.0.1.9"]}})

    quick, slow = twins.run(config, CNI_COMMAND=command, CNI_ARGS="IgnoreUnknown=1;A=b")

    assert quick[0] == slow[0] == 0
    assert bool(quick[1]) is (command == "ADD")
    assert json.loads(quick[1] or b"0") == json.loads(slow[1] or b"0")
    one, other = (
        replace(decode_request(json.dumps(request).encode()), netns_handle="")
        for request in asked.requests
    )
    assert one == other
    assert all(request["netns_handle"] for request in asked.requests)
    assert configs(asked) == [config, config]
    assert ("config_text" in asked.requests[0]) is (command != "CHECK")  # the quick way was taken


@pytest.mark.parametrize(
    "reply",
    [
        b'{"error":{"code":7,"msg":"no \\"such\\" network","details":"x"}}\n',
        b'{"error":{"code":11,"msg":"later"}}\n',
        b"",
        b'{"result"',
    ],
    ids=["details", "later", "nothing", "half"],
)
def test_both_tell_of_a_refusal_alike(
    twins: Twins, plane: Callable[[bytes], Plane], reply: bytes
) -> None:
    plane(reply)

    quick, slow = twins.run(twins.config())

    assert (quick[0], json.loads(quick[1])) == (slow[0], json.loads(slow[1]))
    assert quick[0] == 1


@pytest.mark.parametrize("size", [10, 200_000])
def test_large_configuration_arrives_whole(
    twins: Twins, plane: Callable[[bytes], Plane], size: int
) -> None:
    asked = plane(RESULT)

    twins.run(twins.config(padding="x" * size))

    assert [len(config["padding"]) for config in configs(asked)] == [size, size]


@pytest.mark.parametrize(
    ("config", "environ"),
    [
        ({}, {}),
        ({"padding": "x" * 200_000}, {}),
        ({"cniVersion": "9.9.9"}, {}),
        ({"name": "../up"}, {}),
        ({"args": {"socket": "/elsewhere"}}, {}),
        ({}, {"CNI_COMMAND": "VERSION"}),
        ({}, {"CNI_COMMAND": "SING"}),
        ({}, {"CNI_IFNAME": ""}),
        ({}, {"CNI_CONTAINERID": 'a"b'}),
        ({}, {"CNI_CONTAINERID": "a\nb"}),
        ({}, {"CNI_ARGS": "A"}),
        ({}, {"CNI_NETNS": "/proc/self/ns/net"}),
        ({}, {"CNI_NETNS": "/nowhere"}),
    ],
)
def test_what_is_not_plain_is_left_to_the_plugin(
    twins: Twins, config: Config, environ: dict[str, str]
) -> None:
    quick, slow = twins.run(twins.config(**config), **environ)

    assert quick == slow


# What is not quite JSON, or has the words in other places than one thinks.
ODD = [
    '{"socket":"SOCKET","name":"dcos"},"container_id":"evil","x":{}',
    '{"socket":"SOCKET","name":"dcos"} {"name":"other"}',
    '{"name":"dcos","args":{"socket":"SOCKET"}}',
    '{"name":"dcos","args":[{"socket":"SOCKET"}]}',
    '{"name":"dcos","socket":["SOCKET"]}',
    '{"name":"dcos","a":"}","args":{"b":"{","socket":"SOCKET"}}',
    '{"name":"dcos","a":"\\"socket\\":\\"SOCKET\\""}',
    '{"name":"dcos","a":"\\\\","socket":"SOCKET"}',
    '{"name":"dcos","socket":"/nowhere","socket":"SOCKET"}',
    '{"name":"dcos","socket":"SOCKET","\\u0073ocket":"/nowhere"}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0","prevResult":{"cniVersion":"0.4.0"}}',
    '{"name":"dcos","socket":"SOCKET","prevResult":{"cniVersion":"0.4.0"},"cniVersion":"1.0.0"}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0","a":"\n"}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0",}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0","a":"\\q"}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0","a":NaN}',
    '{"name":"dcos","socket":"SOCKET","cniVersion":"1.0.0","a":"\u00e4"}',
    '{"name":"dcos","socket":"","cniVersion":"1.0.0"}',
    '{"name":"dcos","socket":null,"cniVersion":"1.0.0"}',
]


@pytest.mark.parametrize("odd", ODD)
def test_both_understand_the_same_of_odd_texts(
    twins: Twins, plane: Callable[[bytes], Plane], odd: str
) -> None:
    """Both hand the same on, or the plane refuses what the Python plugin refuses itself."""
    asked = plane(RESULT)

    quick, slow = twins.run(odd.replace("SOCKET", str(twins.socket)).encode())
    understood = [meaning(request) for request in asked.requests]

    if (quick[0], json.loads(quick[1])) == (slow[0], json.loads(slow[1])):
        assert len(set(understood)) <= 1
    else:
        assert json.loads(slow[1])["code"] == 6
        assert understood == ["code 6"]


def meaning(request: Config) -> str:
    """Return what a plane makes of a request: itself, or the code of its refusal."""
    try:
        return repr(replace(decode_request(json.dumps(request).encode()), netns_handle=""))
    except CniError as error:
        return f"code {int(error.code)}"


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[]"])
def test_what_is_no_configuration_is_left_to_the_plugin(twins: Twins, raw: bytes) -> None:
    quick, slow = twins.run(raw)

    assert quick == slow
    assert json.loads(quick[1])["code"] == 6


def test_machine_without_perl_has_the_python_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "PERL", str(tmp_path / "perl"))

    plugin, *_ = install(tmp_path / "bin")

    assert "python" in plugin.read_text().splitlines()[0]


def test_the_plugin_behind_may_lie_where_a_shell_would_stumble(tmp_path: Path) -> None:
    behind = tmp_path / "a $(place)" / "plugin"
    behind.parent.mkdir()
    behind.write_text("#!/bin/sh\nexec cat\n")
    behind.chmod(0o755)
    front = tmp_path / "front"
    front.write_text(launcher.launcher(str(behind), seconds=1))
    front.chmod(0o755)

    done = subprocess.run([front], env={}, input=b"given", capture_output=True, timeout=30)

    assert (done.returncode, done.stdout) == (0, b"given")
