"""A node's namespace, containers, and chains of plugins as a runtime runs them."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

REFERENCE = Path("/usr/lib/cni")
Json = dict[str, Any]
COOKIE = """
import socket
with socket.socket() as probe:
    print(int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, 71, 8), "little"))
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Answer:
    """What a run of a plugin left."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.status = done.returncode
        self.output: Json = json.loads(done.stdout) if done.stdout.strip() else {}
        self.stderr = done.stderr.decode()

    @property
    def result(self) -> Json:
        assert self.status == 0, (self.output, self.stderr)
        return self.output


class Host:
    """A node's network namespace with plugins of both families and directories of its own."""

    def __init__(self, stack: ExitStack, directory: Path, installed: Path) -> None:
        self._stack = stack
        self._installed = installed
        self.directory = directory
        self.plugins = directory / "bin"
        self.leases = directory / "leases"
        shutil.copytree(installed, self.plugins, dirs_exist_ok=True)
        self.ns = self.netns("n")
        self.cookie = self.run(sys.executable, "-c", COOKIE).strip()
        kept = f"/run/phalanx/cni/{self.cookie}"
        stack.callback(shutil.rmtree, kept, ignore_errors=True)
        self.run("ip", "link", "set", "lo", "up")

    def other(self, directory: Path) -> "Host":
        """Return another node, with directories of its own."""
        return Host(self._stack, directory, self._installed)

    def netns(self, letter: str = "c") -> str:
        """Make a namespace and return its name."""
        name = f"phxtest-{letter}{uuid4().hex[:8]}"
        run("ip", "netns", "add", name)
        self._stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True)
        return name

    def enter(self, *command: str, ns: str = "") -> list[str]:
        return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{ns or self.ns}", *command]

    def run(self, *command: str, ns: str = "") -> str:
        return run(*self.enter(*command, ns=ns))

    def start(self, *command: str, ns: str = "") -> subprocess.Popen[bytes]:
        """Start a program in a namespace; it is killed at the end."""
        program = subprocess.Popen(
            self.enter(*command, ns=ns), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._stack.callback(program.communicate)
        self._stack.callback(program.kill)
        return program

    def closing(self, resource: socket.socket) -> None:
        """Close a socket at the end."""
        self._stack.callback(resource.close)

    def environ(self, command: str, ns: str, container: str, **more: str) -> dict[str, str]:
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{ns}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.plugins}:{REFERENCE}",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            **more,
        }

    def path(self, plugin: str) -> str:
        own = self.plugins / plugin
        return str(own if own.exists() else REFERENCE / plugin)

    def call(
        self, command: str, config: Json, ns: str, container: str = "c1", **more: str
    ) -> Answer:
        """Run one plugin in the node's namespace."""
        done = subprocess.run(
            self.enter(self.path(config["type"])),
            env=self.environ(command, ns, container, **more),
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=60,
        )
        return Answer(done)

    def chain(
        self,
        command: str,
        plugins: Sequence[Json],
        ns: str,
        container: str = "c1",
        previous: Mapping[str, Any] | None = None,
        **more: str,
    ) -> Json:
        """Run a chain as libcni does and return the last result; every plugin must succeed."""
        result = dict(previous) if previous else None
        for plugin in plugins if command != "DEL" else reversed(plugins):
            config = {**plugin, "prevResult": result} if result else plugin
            answer = self.call(command, config, ns, container, **more)
            if command == "ADD":
                result = answer.result
            assert answer.status == 0, (plugin["type"], answer.output, answer.stderr)
        return result or {}

    def held(self, network: str) -> dict[str, str]:
        """Return the leases of a network: owners by address."""
        place = self.leases / network
        return {
            path.name: path.read_bytes().decode()
            for path in (place.iterdir() if place.is_dir() else ())
            if path.name[0].isdigit() or ":" in path.name
        }

    def elements(self) -> list[str]:
        """Return the elements of our tables in the kernel, as text."""
        listing = self.run("nft", "-j", "list", "ruleset")
        found = []
        for item in json.loads(listing)["nftables"]:
            for kind in ("set", "map"):
                if kind in item and item[kind]["table"] == "phalanx_cni":
                    found += [f"{item[kind]['name']} {each}" for each in item[kind].get("elem", ())]
        return found
