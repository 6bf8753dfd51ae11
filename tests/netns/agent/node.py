"""An agent as a process, and the tasks that tests give it."""

import asyncio
import json
import os
import random
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from tests.netns.agent.lead import AGENT, FRAMEWORK, PATIENCE_SECONDS

from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode, from_json
from phalanx.mesos.v1.mesos import (
    TaskInfo,
)

RUN = "import sys; from phalanx.agent.app import main; sys.exit(main(sys.argv[1:]))"

PLUGIN = """#!/bin/sh
# A CNI plugin: each container gets an address of its own on lo of its namespace.
given=$(cat)
if [ "$CNI_COMMAND" = ADD ]; then
  count=$(( $(cat "BASE/count" 2>/dev/null || echo 0) + 1 )); echo $count > "BASE/count"
  while [ -e "BASE/hold-$count" ]; do sleep 0.05; done
  nsenter --net="$CNI_NETNS" ip address add "9.9.9.$count/32" dev lo
  echo "{\\"cniVersion\\": \\"1.0.0\\", \\"ips\\": [{\\"address\\": \\"9.9.9.$count/24\\"}]}"
fi
echo "$CNI_COMMAND $CNI_CONTAINERID" >> "BASE/calls"
"""

STATIC_PLUGIN = """#!/bin/sh
# A CNI plugin that gives an address of the loopback range inside the namespace, and keeps a log.
given=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS:-none}" >> "LOG/calls"
echo "$given" > "LOG/$CNI_COMMAND.json"
if [ "$CNI_COMMAND" = DEL ] && [ -e "LOG/refuse_delete" ]; then
  echo '{"code": 11, "msg": "try again later"}'; exit 1
fi
if [ "$CNI_COMMAND" = ADD ] && [ -e "LOG/refuse_add" ]; then
  echo '{"code": 100, "msg": "no addresses left", "details": "pool 9.0.1.0/24"}'; exit 1
fi
while [ "$CNI_COMMAND" = ADD ] && [ -e "LOG/hang_add" ]; do sleep 0.05; done
if [ "$CNI_COMMAND" = ADD ]; then
  nsenter --net="$CNI_NETNS" ip address add 9.9.9.9/32 dev lo
  echo '{"cniVersion": "1.0.0", "ips": [{"address": "9.9.9.9/24"}],
         "dns": {"nameservers": ["198.51.100.1"], "search": ["example"]}}'
fi
"""

CONFIG: dict[str, object] = {
    "cniVersion": "1.0.0",
    "name": "dcos",
    "type": "static",
    "capabilities": {"portMappings": True},
}


@dataclass
class Node:
    """One agent process and where its things are."""

    base: Path
    port: int
    cgroups: str
    flags: list[str] = field(default_factory=list)
    prefix: tuple[str, ...] = ()
    resources: str = "cpus:4;mem:4096;ports:[31000-32000]"
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        for name in ("configs", "plugins", "work", "net"):
            (self.base / name).mkdir()
        plugin = self.base / "plugins" / "own"
        plugin.write_text(PLUGIN.replace("BASE", str(self.base / "net")))
        plugin.chmod(0o755)
        config = {"cniVersion": "1.0.0", "name": "net", "type": "own"}
        (self.base / "configs" / "net.conf").write_text(json.dumps(config))

    @property
    def log(self) -> Path:
        return self.base / "agent.log"

    @property
    def runtime(self) -> Path:
        return self.base / "runtime"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *masters: int, more: Sequence[str] = ()) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix,
                sys.executable,
                "-c",
                RUN,
                f"--master={','.join(f'127.0.0.1:{port}' for port in masters)}",
                "--ip=127.0.0.1",
                f"--port={self.port}",
                f"--work-dir={self.base / 'work'}",
                f"--runtime-dir={self.runtime}",
                f"--network-cni-config-dir={self.base / 'configs'}",
                f"--network-cni-plugins-dir={self.base / 'plugins'}",
                f"--cgroups-root={self.cgroups}",
                f"--resources={self.resources}",
                *self.flags,
                *more,
                stderr=log,
            )

    async def end(self, number: int) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.process.wait()

    async def named(self) -> None:
        """Wait until the agent has written down the id that it was given."""
        latest = self.base / "work" / "meta" / "slaves" / "latest"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not latest.is_symlink():  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.02)

    def containers(self) -> list[str]:
        return sorted(path.name for path in (self.runtime / "containers").glob("*"))

    def sandbox(self, executor: str) -> Path:
        executors = self.base / "work" / "slaves" / AGENT.value / "frameworks" / FRAMEWORK.value
        found = (executors / "executors" / executor / "runs" / "latest").resolve(strict=True)
        return found

    async def emptied(self) -> None:
        """Wait until no container, network or checkpoint of a task is left."""
        meta = self.base / "work" / "meta" / "slaves" / AGENT.value
        networks = self.runtime / "isolators" / "network" / "cni"
        places = ((meta, "frameworks/*/executors/*"), (networks, "*"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            # Other processes remove them.
            while self.containers() or any(any(top.glob(text)) for top, text in places):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def call(self, kind: str, **parts: Any) -> tuple[int, Any]:
        """Make an operator call; return the status and what was answered."""
        body = {"type": kind, kind.lower(): parts}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1", json=body) as response,
        ):
            if response.content_type == "application/json" and response.status == 200:
                raw = await response.read()
                return response.status, json.loads(raw) if raw else None
            return response.status, await response.text()


@dataclass
class Agent(Node):
    """A Node whose plugin may refuse or hang, and that has a directory of images."""

    resources: str = "cpus:2;mem:2048;ports:[31000-32000]"

    def __post_init__(self) -> None:
        for name in ("configs", "plugins", "calls", "images"):
            (self.base / name).mkdir()
        self.flags += [f"--docker-registry={self.images}", "--attributes=rack:r1"]

    @property
    def images(self) -> Path:
        return self.base / "images"

    @property
    def calls(self) -> Path:
        return self.base / "calls"

    def add_plugin(self, config: Mapping[str, object]) -> None:
        plugin = self.base / "plugins" / "static"
        plugin.write_text(STATIC_PLUGIN.replace("LOG", str(self.calls)))
        plugin.chmod(0o755)
        (self.base / "configs" / "net.conf").write_text(json.dumps(config))

    def run_directories(self) -> list[Path]:
        return sorted((self.runtime / "containers").glob("*"))

    def init(self) -> int:
        [place] = self.run_directories()
        return int(json.loads((place / "started").read_text())["pid"])


def free_port() -> int:
    """Find a port that nobody listens on, where the kernel gives none to anybody else."""
    for port in random.Random().sample(range(20000, 25000), 50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def shell(
    name: str,
    script: str,
    *,
    cpus: float = 0.1,
    mem: float = 64.0,
    **more: Any,
) -> TaskInfo:
    return from_json(
        TaskInfo,
        {
            "name": name,
            "task_id": {"value": name},
            "agent_id": {"value": AGENT.value},
            "resources": [
                json.loads(encode(resource))
                for resource in Resources.parse(f"cpus:{cpus};mem:{mem}").messages()
            ],
            "command": {"value": script},
            **more,
        },
    )


def output(agent: Agent, name: str) -> str:
    [file] = (agent.base / "work" / "slaves").glob(
        f"*/frameworks/*/executors/{name}/runs/latest/stdout"
    )
    return file.read_text()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def networked(name: str, command: str, **more: Any) -> TaskInfo:
    info = {
        "name": "dcos",
        "labels": {"labels": [{"key": "app", "value": name}]},
        "port_mappings": [{"host_port": 31000, "container_port": 80, "protocol": "tcp"}],
    }
    return shell(name, command, container={"type": "MESOS", "network_infos": [info]}, **more)
