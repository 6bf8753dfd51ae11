"""phalanx-net as a runtime sees it: environment, standard input and output, exit status."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from phalanx.cni import phalanx_net
from phalanx.cni.install import BEHIND_LAUNCHER, FAMILY, install
from phalanx.net.attachment import result

GOOD = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/phxtest-none",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "dcos",
    "type": "phalanx-net",
    "socket": "/nowhere/cni.sock",
}


class Answer:
    """What a run of the plugin left."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.stderr = done.stderr.decode()
        self.output: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}


Run = Callable[[Mapping[str, str], object], Answer]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path, *_ = install(tmp_path_factory.mktemp("bin"))
    return path


def behind(plugin: Path) -> Path:
    """Return the Python plugin, which the launcher may stand in front of."""
    return BEHIND_LAUNCHER if "perl" in plugin.read_text().splitlines()[0] else plugin


@pytest.fixture
def run(plugin: Path) -> Run:
    def run(environ: Mapping[str, str], config: object = CONFIG) -> Answer:
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        done = subprocess.run(
            [plugin], env=dict(environ), input=raw, capture_output=True, timeout=30
        )
        return Answer(done)

    return run


class Plane:
    """A plane that gives one prepared answer and keeps the request."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._answer = answer
        self.request: dict[str, Any] = {}
        self.netns: os.stat_result | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, connection.makefile("rb") as lines:
            self.request = json.loads(lines.readline())
            if handle := self.request["netns_handle"]:
                self.netns = os.stat(handle)
            connection.sendall(self._answer)
        self._listener.close()


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[Callable[[bytes], tuple[Plane, dict[str, Any]]]]:
    planes: list[Plane] = []

    def start(answer: bytes) -> tuple[Plane, dict[str, Any]]:
        path = tmp_path / "cni.sock"
        planes.append(Plane(path, answer))
        return planes[-1], {**CONFIG, "socket": str(path)}

    yield start
    for one in planes:
        one.thread.join(10)


def without(*names: str, **changed: str) -> dict[str, str]:
    return {name: value for name, value in {**GOOD, **changed}.items() if name not in names}


@pytest.mark.parametrize(
    ("environ", "code", "message"),
    [
        pytest.param(
            without("CNI_COMMAND"),
            4,
            "required env variables [CNI_COMMAND] missing",
            id="no-command",
        ),
        pytest.param(
            {"CNI_COMMAND": "ADD"},
            4,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
            id="add-all-missing",
        ),
        pytest.param(
            {"CNI_COMMAND": "CHECK", "CNI_PATH": "/x"},
            4,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing",
            id="check",
        ),
        pytest.param(
            {"CNI_COMMAND": "DEL"},
            4,
            "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing",
            id="del-needs-no-netns",
        ),
        pytest.param(
            {"CNI_COMMAND": "GC"}, 4, "required env variables [CNI_PATH] missing", id="gc"
        ),
        pytest.param(
            {"CNI_COMMAND": "STATUS"}, 4, "required env variables [CNI_PATH] missing", id="status"
        ),
        pytest.param(
            without(CNI_NETNS=""), 4, "required env variables [CNI_NETNS] missing", id="empty"
        ),
        pytest.param(without(CNI_COMMAND="add"), 4, "unknown CNI_COMMAND: add", id="command"),
        pytest.param(
            without(CNI_CONTAINERID="a/b"),
            4,
            "invalid characters in CNI_CONTAINERID 'a/b'",
            id="container-id",
        ),
        pytest.param(
            without(CNI_CONTAINERID="-a"),
            4,
            "invalid characters in CNI_CONTAINERID '-a'",
            id="container-id-begins-badly",
        ),
        *[
            pytest.param(
                without(CNI_IFNAME=name), 4, f"invalid interface name {name!r}", id=f"ifname-{name}"
            )
            for name in ("e" * 16, ".", "..", "a/b", "a:b", "a b")
        ],
        pytest.param(without(CNI_ARGS="K"), 4, "CNI_ARGS: 'K' is not KEY=VALUE", id="args"),
        pytest.param(
            without(CNI_NETNS="/proc/self/ns/net"),
            8,
            "CNI_NETNS '/proc/self/ns/net' is the plugin's own network namespace",
            id="own-netns",
        ),
        pytest.param(
            without(CNI_NETNS="/proc/self/ns/net", CNI_COMMAND="DEL"),
            8,
            "CNI_NETNS '/proc/self/ns/net' is the plugin's own network namespace",
            id="own-netns-del",
        ),
    ],
)
def test_bad_environment_is_refused(
    run: Run, environ: Mapping[str, str], code: int, message: str
) -> None:
    answer = run(environ, CONFIG)

    assert answer.status == 1
    assert answer.output == {"cniVersion": "1.1.0", "code": code, "msg": message}


@pytest.mark.parametrize(
    ("command", "config", "code", "words"),
    [
        ("ADD", b"", 6, "Expecting value"),
        ("ADD", b"{", 6, "property name"),
        ("ADD", b"{} x", 6, "Extra data"),
        ("ADD", b"\xff\xfe", 6, "utf-8"),
        ("ADD", b'{"name": NaN}', 6, "NaN"),
        ("ADD", b"[" * 100_000, 6, "recursion"),
        ("ADD", [], 6, "not an object"),
        ("ADD", {**CONFIG, "cniVersion": "9.9.9"}, 1, "incompatible CNI versions"),
        ("ADD", {**CONFIG, "cniVersion": 1}, 1, "incompatible CNI versions"),
        ("CHECK", {**CONFIG, "cniVersion": "0.3.1"}, 1, "does not allow CHECK"),
        ("GC", {**CONFIG, "cniVersion": "1.0.0"}, 1, "does not allow GC"),
        ("STATUS", {**CONFIG, "cniVersion": "1.0.0"}, 1, "does not allow STATUS"),
        ("ADD", {"cniVersion": "1.0.0"}, 7, "missing network name"),
        ("ADD", {**CONFIG, "name": "a b"}, 7, "invalid characters in network name"),
        ("ADD", {**CONFIG, "socket": 5}, 7, "socket: 5"),
        ("ADD", CONFIG, 11, "no plane listens: /nowhere/cni.sock: No such file"),
        ("DEL", CONFIG, 11, "no plane listens"),
        ("ADD", {"name": "x"}, 11, "no plane listens: socket: not in the configuration"),
    ],
)
def test_bad_configuration_is_refused(
    run: Run, command: str, config: object, code: int, words: str
) -> None:
    answer = run(without(CNI_COMMAND=command), config)

    assert answer.status == 1
    assert answer.output["code"] == code
    assert words in answer.output["msg"]


def test_errors_carry_the_version_of_the_configuration(run: Run) -> None:
    answer = run(GOOD, {**CONFIG, "cniVersion": "0.3.1"})

    assert answer.output["cniVersion"] == "0.3.1"


def test_incompatible_version_is_explained(run: Run) -> None:
    answer = run(GOOD, {**CONFIG, "cniVersion": "9.9.9"})

    assert answer.output["details"].startswith("config is '9.9.9', plugin supports ['0.1.0'")


def test_version_is_told_without_anything_else(run: Run) -> None:
    answer = run({"CNI_COMMAND": "VERSION"}, b"")

    assert answer.status == 0
    assert answer.output == {
        "cniVersion": "1.1.0",
        "supportedVersions": ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def test_plugin_run_by_hand_says_what_it_is(run: Run) -> None:
    answer = run({}, b"")

    assert answer.status == 0
    assert "attaches a container" in answer.stderr
    assert answer.output == {}


def test_plane_gets_the_whole_request(
    run: Run, plane: Callable[[bytes], tuple[Plane, dict[str, Any]]], tmp_path: Path
) -> None:
    netns = tmp_path / "netns"
    netns.write_text("")
    there, config = plane(b'{"result": {"cniVersion": "1.1.0", "dns": {"domain": "\xc3\xa4"}}}\n')

    answer = run(without(CNI_NETNS=str(netns), CNI_ARGS="IgnoreUnknown=1"), config)

    assert answer.status == 0
    assert answer.output == {"cniVersion": "1.1.0", "dns": {"domain": "ä"}}
    assert there.request.pop("netns_handle").startswith("/proc/")
    assert json.loads(there.request.pop("config_text")) == config  # by the launcher
    assert there.request == {
        "command": "ADD",
        "container_id": "c1",
        "netns": str(netns),
        "ifname": "eth0",
        "args": "IgnoreUnknown=1",
        "path": "/opt/cni/bin",
    }
    assert there.netns is not None
    assert there.netns.st_ino == netns.stat().st_ino


@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_only_add_prints_a_result(
    run: Run, plane: Callable[[bytes], tuple[Plane, dict[str, Any]]], command: str
) -> None:
    _, config = plane(b'{"result": {}}\n')

    answer = run(without(CNI_COMMAND=command), config)

    assert (answer.status, answer.output) == (0, {})


def test_refusal_of_the_plane_is_passed_on(
    run: Run, plane: Callable[[bytes], tuple[Plane, dict[str, Any]]]
) -> None:
    _, config = plane(b'{"error": {"code": 101, "msg": "there already", "details": "x"}}\n')

    answer = run(GOOD, config)

    assert answer.status == 1
    assert answer.output == {
        "cniVersion": "1.1.0",
        "code": 101,
        "msg": "there already",
        "details": "x",
    }


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (b"", 11, "went away"),
        (b'{"result"', 11, "went away"),
        (b"[]\n", 6, "answer is none"),
        (b"{}\n", 6, "answer is none"),
    ],
)
def test_answer_that_is_none_is_told(
    run: Run,
    plane: Callable[[bytes], tuple[Plane, dict[str, Any]]],
    reply: bytes,
    code: int,
    words: str,
) -> None:
    _, config = plane(reply)

    answer = run(GOOD, config)

    assert answer.output["code"] == code
    assert words in answer.output["msg"]


def test_socket_that_nobody_listens_on_is_no_plane(run: Run, tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "cni.sock"))
    dead.close()

    answer = run(GOOD, {**CONFIG, "socket": str(tmp_path / "cni.sock")})

    assert answer.output["code"] == 11
    assert "Connection refused" in answer.output["msg"]


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, 10**30, 'ä\u2028\n"', [], {}, {"a": [{"b": None}, "c"], "d": {"e": 1}}],
)
def test_fast_and_slow_json_agree(value: object) -> None:
    text = phalanx_net.render(value)

    assert text == phalanx_net.render_slowly(value)
    assert phalanx_net.parse(text.encode()) == phalanx_net.parse_slowly(text.encode()) == value


@pytest.mark.parametrize("raw", [b"", b"{", b"1 2", b"Infinity", b'"\n"', b"{'a': 1}", b"\xff"])
@pytest.mark.parametrize("parse", [phalanx_net.parse, phalanx_net.parse_slowly])
def test_what_is_no_json_is_a_value_error(parse: Callable[[bytes], object], raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(raw)


def test_plugin_and_plane_speak_the_same_versions() -> None:
    assert phalanx_net.VERSIONS == result.VERSIONS


def test_plugin_starts_with_few_modules(plugin: Path) -> None:
    python = behind(plugin)
    done = subprocess.run(
        [python.read_text().splitlines()[0].split()[0][2:], "-ISX", "importtime", python],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {row.rsplit("|", 1)[1].strip() for row in done.stderr.splitlines() if "|" in row}

    assert "phalanx_net" in modules
    assert modules.isdisjoint({"json", "re", "socket", "typing", "enum", "asyncio", "site"})


def test_install_is_atomic_and_repeatable(tmp_path: Path) -> None:
    first, *_ = install(tmp_path / "bin")
    before = first.stat().st_ino
    second, *_ = install(tmp_path / "bin")

    assert first == second == tmp_path / "bin" / "phalanx-net"
    assert second.stat().st_ino != before
    assert os.access(second, os.X_OK)
    assert {path.name for path in second.parent.iterdir()} == {"phalanx-net", *FAMILY}
    assert repr(sys.executable) in behind(second).read_text()
