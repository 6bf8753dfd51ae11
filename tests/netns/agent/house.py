"""A containerizer with directories and cgroups of its own, and no agent around it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from phalanx.agent.bundle.request import ContainerRequest, Kind, id_message
from phalanx.agent.bundle.secret import Secrets
from phalanx.agent.cleanup import remove_all
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.container.mesos import MesosContainerizer
from phalanx.agent.container.runtime import Containers
from phalanx.agent.container.spawner import Spawner
from phalanx.agent.container.way import Ways
from phalanx.agent.fetch.fetcher import Fetcher, FetchWays
from phalanx.agent.image.store import Images
from phalanx.agent.layout import Layout
from phalanx.agent.volume.mounting import Volumes
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import CommandInfo, ContainerInfo


class House:
    """A containerizer with directories and cgroups of its own, and no agent around it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.layout = Layout(base / "work", base / "run")
        self.cgroups = Cgroups(f"phxtest-{uuid4().hex[:8]}")
        self.bound = 0
        self.spawner = Spawner()
        self.images: Path | None = None
        self.engine = self.made({})

    def made(self, fetch: dict[str, Any], **ways: Any) -> MesosContainerizer:
        images = Images(self.images, self.layout.images)
        return MesosContainerizer(
            self.layout,
            Containers(self.layout, self.cgroups, spawner=self.spawner, most_output=self.bound),
            Networks(self.layout.networks, None, Plugins((), 10.0)),
            images,
            Fetcher(FetchWays(self.layout.work / "fetch", **fetch)),
            Volumes(images, Secrets(self.base / "secrets"), (str(self.base / "forced"),)),
            Ways(**{"ip": "127.0.0.1", "launches": 4, **ways}),
            time.time,
        )

    def sandbox(self, name: str) -> Path:
        first, *rest = name.split(".")
        return self.base / "sandboxes" / "/containers/".join([first, *rest])

    def request(
        self,
        name: str,
        command: str | dict[str, Any] | None,
        kind: Kind = "task",
        container: dict[str, Any] | None = None,
        **more: Any,
    ) -> ContainerRequest:
        if isinstance(command, str):
            command = {"value": command}
        info = {"type": "MESOS", **container} if container is not None else None
        return ContainerRequest(
            container_id=id_message(name),
            kind=kind,
            sandbox=self.sandbox(name),
            command=from_json(CommandInfo, command) if command is not None else None,
            container=from_json(ContainerInfo, info) if info is not None else None,
            **more,
        )

    async def start(self, *args: Any, **more: Any) -> int:
        return (await self.engine.launch(self.request(*args, **more))).pid

    async def said(self, name: str, *args: Any, **more: Any) -> str:
        """Run a container to its end and return what it wrote."""
        await self.start(name, *args, **more)
        exit = await self.engine.wait(name)
        assert exit.status == 0, (exit, (self.sandbox(name) / "stderr").read_text())
        return (self.sandbox(name) / "stdout").read_text()


@asynccontextmanager
async def living(tmp_path: Path) -> AsyncIterator[House]:
    """Give a house, and leave nothing of it."""
    made = House(tmp_path)
    try:
        yield made
    finally:
        await made.spawner.close()
        remove_all(made.layout.runtime, made.cgroups.root)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroups.root}"))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


async def eventually(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(60.0):
        while not holds():  # noqa: ASYNC110 - what is awaited happens in other processes
            await asyncio.sleep(0.01)
