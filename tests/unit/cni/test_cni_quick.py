"""The quick DEL of phalanx-bridge: what it does, and what it leaves to the plugin behind it."""

import json
import subprocess
from hashlib import sha1
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.cni.leases import BOOT_ID
from phalanx.cni.quick import TEXT, choice, quick_delete

Config = dict[str, Any]
OWN = "c1\r\neth0"
NETWORK = f"quick{uuid4().hex[:8]}"  # rules of a container of this name on the node are looked for


class Quick:
    """The quick DEL in front of a plugin that writes down what it was given."""

    def __init__(self, directory: Path) -> None:
        self.said = directory / "said"
        self.leases = directory / "leases" / NETWORK
        self.leases.mkdir(parents=True)
        (self.leases / "boot").write_text(BOOT_ID_TEXT)
        behind = directory / "behind"
        behind.write_text(f"#!/bin/sh\ncat >{self.said}\nexit 7\n")
        self.path = directory / "quick"
        self.path.write_text(quick_delete(str(behind)))
        for path in (behind, self.path):
            path.chmod(0o755)

    def config(self, **more: Any) -> Config:
        ipam = {"type": "phalanx-ipam", "dataDir": str(self.leases.parent)}
        base = {"cniVersion": "1.0.0", "name": NETWORK, "type": "phalanx-bridge"}
        return {**base, "ipam": ipam, **more}

    def lease(self, address: str, content: str) -> None:
        (self.leases / address).write_bytes(content.encode())

    def run(self, raw: bytes, **environ: str) -> bool:
        """Run it; tell whether it did the work itself."""
        self.said.unlink(missing_ok=True)
        done = subprocess.run(
            ["unshare", "--net", self.path],
            env={
                "CNI_COMMAND": "DEL",
                "CNI_CONTAINERID": "c1",
                "CNI_NETNS": "/nowhere",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/opt",
                "PATH": "/usr/bin:/bin",
                **environ,
            },
            input=raw,
            capture_output=True,
            timeout=60,
        )
        assert done.stderr == b""
        assert done.stdout == b""
        if done.returncode == 7:
            assert self.said.read_bytes() == raw
            return False
        assert done.returncode == 0
        assert not self.said.exists()
        return True

    def held(self) -> set[str]:
        return {path.name for path in self.leases.iterdir() if path.name[0].isdigit()}


BOOT_ID_TEXT = Path(BOOT_ID).read_text()


@pytest.fixture
def quick(tmp_path: Path) -> Quick:
    return Quick(tmp_path)


def test_leases_of_the_owner_go_and_no_others(quick: Quick) -> None:
    contents = {
        "10.1.0.2": OWN,
        "10.1.0.3": "c1",  # as old releases of host-local wrote them
        "10.1.0.4": " c1 \r\n eth0 \n",
        "10.1.0.5": "c1\r\neth1",
        "10.1.0.6": "c12\r\neth0",
        "10.1.0.7": "xc1\r\neth0",
        "10.1.0.8": "",
        "10.1.0.9": "c1\r\neth0\r\nnote",
    }
    for address, content in contents.items():
        quick.lease(address, content)
    (quick.leases / "last_reserved_ip.0").write_text(OWN)

    for _ in range(2):
        assert quick.run(json.dumps(quick.config()).encode())

    assert quick.held() == {f"10.1.0.{number}" for number in range(5, 10)}
    assert (quick.leases / "last_reserved_ip.0").read_text().startswith("c1")


def test_network_without_leases_is_no_error(quick: Quick) -> None:
    assert quick.run(json.dumps(quick.config(name="other")).encode())
    assert not (quick.leases.parent / "other").exists()


@pytest.mark.parametrize(
    ("more", "environ"),
    [
        ({}, {"CNI_COMMAND": "ADD"}),
        ({}, {"CNI_COMMAND": ""}),
        ({}, {"CNI_CONTAINERID": ""}),
        ({}, {"CNI_CONTAINERID": "../up"}),
        ({}, {"CNI_CONTAINERID": "c" * 1001}),
        ({}, {"CNI_IFNAME": "a/b"}),
        ({}, {"CNI_IFNAME": "a:b"}),
        ({}, {"CNI_IFNAME": "a b"}),
        ({}, {"CNI_IFNAME": ".."}),
        ({}, {"CNI_IFNAME": "x" * 16}),
        ({}, {"CNI_PATH": ""}),
        ({}, {"CNI_ARGS": "A"}),
        ({}, {"CNI_ARGS": "A=1;"}),
        ({}, {"CNI_ARGS": "A=1=2"}),
        ({}, {"CNI_NETNS": "/proc/self/ns/net"}),
        ({"cniVersion": "9.9.9"}, {}),
        ({"cniVersion": 1}, {}),
        ({"name": "../up"}, {}),
        ({"name": ""}, {}),
        ({"name": [NETWORK]}, {}),
        ({"type": 7}, {}),
        ({"ipam": {}}, {}),
        ({"ipam": "phalanx-ipam"}, {}),
        ({"ipam": {"type": "host-local"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "network": "dcos"}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "dataDir": 7}}, {}),
        ({"ipam": {"type": "phalanx-ipam", "dataDir": ""}}, {}),
        ({"prevResult": "none"}, {}),
        ({"runtimeConfig": []}, {}),
        ({"args": {"cni": 1}}, {}),
        ({"args": 1}, {}),
        ({"more": 'a "word"'}, {}),
        ({"more": "ä"}, {}),
        ({"more": "x" * 70_000}, {}),
    ],
)
def test_what_is_not_plain_is_left_to_the_plugin(
    quick: Quick, more: Config, environ: dict[str, str]
) -> None:
    quick.lease("10.1.0.2", OWN)

    assert not quick.run(json.dumps(quick.config(**more)).encode(), **environ)
    assert quick.held() == {"10.1.0.2"}


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"{}", b"null", b'{"a": }', b'{"a": 1,}', b'{"a": [1,]}', b'{"a": nul}',
        b'{"a": 01}', b'{"a": 1} x', b'{"a": 1, "a": 2}', b"{'a': 1}", b'{"a": "b\nc"}', b"\xff",
    ],
)  # fmt: skip
def test_what_is_no_plain_json_is_left_to_the_plugin(quick: Quick, raw: bytes) -> None:
    assert not quick.run(raw)


def test_odd_json_around_the_plain_is_read(quick: Quick) -> None:
    odd: list[object] = [
        None,
        True,
        False,
        0,
        -7,
        12,
        "",
        {},
        [],
        [[]],
        {"a": {"b": [{}]}},
        "}{][,:",
    ]
    quick.lease("10.1.0.2", OWN)

    raw = json.dumps(quick.config(odd=odd, prevResult={"x": odd}), indent="\t")

    assert quick.run(f" \r\n{raw}\n".encode())
    assert quick.held() == set()


@pytest.mark.parametrize("content", ["another boot", ""])
def test_leases_of_another_boot_are_left_to_the_plugin(quick: Quick, content: str) -> None:
    quick.lease("10.1.0.2", OWN)
    (quick.leases / "boot").write_text(content)

    assert not quick.run(json.dumps(quick.config()).encode())
    assert quick.held() == {"10.1.0.2"}


@given(st.text(st.characters(min_codepoint=1, max_codepoint=126), max_size=200))
def test_digest_is_the_one_of_the_standard(text: str) -> None:
    start, end = TEXT.index("sub sha1 {"), TEXT.index("# Go on as the Python plugin")
    script = TEXT[start:end] + "print sha1($ARGV[0]);"

    done = subprocess.run(["perl", "-e", script, "--", text], check=True, capture_output=True)

    assert done.stdout.decode() == sha1(text.encode()).hexdigest()


def test_file_of_a_command_is_run_and_else_the_plugin(tmp_path: Path) -> None:
    plugin, script = tmp_path / "a plugin", tmp_path / "choice"
    plugin.write_text("#!/bin/sh\necho the plugin, $(cat)\n")
    files = {"ADD": tmp_path / "gone", "DEL": tmp_path / "quick", "CHECK": tmp_path / "bad"}
    files["DEL"].write_text("print 'quick, ', <STDIN>; exit 0;\n")
    files["CHECK"].write_text("no perl (\n")
    script.write_text(choice(str(plugin), {key: str(path) for key, path in files.items()}))
    for path in (plugin, script):
        path.chmod(0o755)
    said = {
        command: subprocess.run(
            [script], env={"CNI_COMMAND": command}, input=b"text", capture_output=True
        ).stdout.strip()
        for command in ("ADD", "DEL", "CHECK", "GC", "")
    }

    assert said.pop("DEL") == b"quick, text"
    assert set(said.values()) == {b"the plugin, text"}
