"""The Mesos containerizer: images, networks, cgroups and supervisors around runc."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phalanx.agent.bundle.environment import SEARCH_PATH, Surroundings, container_environment
from phalanx.agent.bundle.request import ContainerRequest, descendants, lineage
from phalanx.agent.bundle.spec import (
    User,
    asked_image,
    check_request,
    command_line,
    is_cached,
    oci_config,
    terminal_of,
)
from phalanx.agent.cni.attach import Networks
from phalanx.agent.container.containerizer import Exit, Found, Running
from phalanx.agent.container.gauge import Gauge
from phalanx.agent.container.placing import Placing
from phalanx.agent.container.record import Records
from phalanx.agent.container.runtime import Containers, Ends
from phalanx.agent.container.sandbox import link_latest
from phalanx.agent.container.user import run_as, user_of
from phalanx.agent.container.way import Ways
from phalanx.agent.fetch.fetcher import Fetcher
from phalanx.agent.files import read_json
from phalanx.agent.image.store import Image, Images
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import release_mount
from phalanx.agent.session.process_io import terminal
from phalanx.agent.volume.mounting import Volumes
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    ResourceStatistics,
    Scalar,
)


@dataclass(slots=True)
class _Launch:
    is_unwanted: bool = False
    fetching: asyncio.Task[None] | None = None


@dataclass(slots=True)
class MesosContainerizer:
    """A Containerizer of ContainerInfos of type MESOS, and of requests without one."""

    layout: Layout
    containers: Containers
    networks: Networks
    images: Images
    fetcher: Fetcher
    volumes: Volumes
    ways: Ways
    clock: Callable[[], float]
    records: Records = field(init=False)
    placing: Placing = field(init=False)
    gauge: Gauge = field(init=False)
    _slots: asyncio.Semaphore = field(init=False)
    _launches: dict[str, _Launch] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make its parts, and room for as many launches at a time as the settings say."""
        self.records = records = Records(self.layout)
        parts = self.layout, self.containers, self.networks
        self.placing = Placing(*parts, self.volumes, records, self.ways)
        self.gauge = Gauge(*parts, records, self.ways, self.clock)
        self._slots = asyncio.Semaphore(self.ways.launches)

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words."""
        launch = self._launches.setdefault(request.id, _Launch())
        try:
            check_request(request)
            name = asked_image(request)
            image = None
            if name is not None:
                image = await self.images.provision(name, is_cached=is_cached(request))
            user = run_as(request, image, self.ways)
            await self._fetch(request, user, launch)
            async with self._slots:
                return await self._launch(request, image, user, launch)
        except (OSError, InvalidError) as error:
            raise ContainerError(str(error)) from error
        finally:
            self._launches.pop(request.id, None)

    async def _fetch(self, request: ContainerRequest, user: User, launch: _Launch) -> None:
        """Make the sandbox and bring into it what the command needs."""
        if request.kind == "debug":
            return
        _make_sandbox(request.sandbox, user)
        uris = request.command.uris if request.command else ()
        if not uris:
            return
        _refuse_unwanted(launch)
        name = request.user or "root"
        work = self.fetcher.fetch(request.id, uris, request.sandbox, name, user)
        launch.fetching = asyncio.create_task(work)
        try:
            await launch.fetching
        except asyncio.CancelledError:
            launch.fetching.cancel()
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            _refuse_unwanted(launch)
            raise

    async def _launch(
        self, request: ContainerRequest, image: Image | None, user: User, launch: _Launch
    ) -> Running:
        """Make everything that the container needs, then the container."""
        if request.kind == "debug":
            return await self._debug(request, launch)
        _refuse_unwanted(launch)
        terms = await self.placing.terms(request)
        networks, place = await self.placing.place(request, image, user)
        _refuse_unwanted(launch)
        addresses = networks[0].ip_addresses if networks else ()
        around = Surroundings(
            agent_ip=self.ways.ip,
            sandbox=place.inside,
            directory=place.sandbox,
            container_ip=(addresses[0].ip_address or "") if addresses else "",
            has_own_network=place.network is not None,
            search_path=self.ways.search_path if image is None else SEARCH_PATH,
        )
        preset = dict(image.config.environment) if image else {}
        variables = self.volumes.secrets.variables(request.command)
        environment = container_environment(request, around, preset, variables)
        config = oci_config(request, place, environment, user=user, terms=terms)
        self.records.note(request, networks)
        try:
            init = await self.containers.launch(
                request.id,
                config,
                request.sandbox,
                has_image=image is not None,
                ends=_ends(request),
            )
        except ContainerError as error:
            if image is None:
                raise
            raise ContainerError(f"image {image.name!r}: {error}") from error
        _refuse_unwanted(launch)
        return Running(init.pid, networks)

    async def _debug(self, request: ContainerRequest, launch: _Launch) -> Running:
        """Start a process in all namespaces of the nearest ancestor that is a container."""
        if request.command is None:
            raise ContainerError("command: is missing")
        host = next(
            (name for name in lineage(request.id) if self.records.facts(name).kind != "debug"), None
        )
        if host is None or self.containers.find(host).init is None:
            raise ContainerError(f"parent container {request.parent!r}: does not run")
        config = read_json(self.layout.run(host) / "config.json")
        if config is None:
            raise ContainerError(f"parent container {request.parent!r}: is gone")
        process: dict[str, Any] = config["process"]
        own = process["user"]
        user = User(own["uid"], own["gid"], tuple(own.get("additionalGids", ())))
        if request.user is not None:
            user = user_of(request.user, self.ways)
        environment = dict(word.split("=", 1) for word in process["env"])
        environment |= request.environment
        environment |= self.volumes.secrets.variables(request.command)
        process = {
            **process,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
            **terminal_of(request),
            "args": command_line(request.command),
            "env": [f"{name}={value}" for name, value in sorted(environment.items())],
        }
        _make_sandbox(request.sandbox, user)
        networks = self.find(host).networks
        self.records.note(request, networks)
        _refuse_unwanted(launch)
        init = await self.containers.enter(
            request.id, host, process, request.sandbox, ends=_ends(request)
        )
        _refuse_unwanted(launch)
        return Running(init.pid, networks)

    def find(self, container_id: str) -> Found:
        """Read what is known of a container."""
        run = self.containers.find(container_id)
        facts = self.records.facts(container_id)
        ended = self.records.exit(container_id, run.exit) if run.exit is not None else None
        return Found(run.init, ended, run.started, facts.networks)

    def known(self) -> tuple[str, ...]:
        """Return every container that has a run directory or a network."""
        return tuple(sorted({*self.containers.known(), *self.networks.known()}))

    def network(self, container_id: str) -> Path | None:
        """Return the network namespace that a container is in; None for the agent's."""
        holder = self.placing.holder(container_id)
        return self.networks.namespace(holder) if holder is not None else None

    async def wait(self, container_id: str) -> Exit:
        """Wait for a container's end and return how it was."""
        return self.records.exit(container_id, await self.containers.wait(container_id))

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to every process of a container but the init that waits for it."""
        self.containers.signal(container_id, number)

    def terminate(self, container_id: str) -> None:
        """Ask every process of a container to end."""
        self.signal(container_id, signal.SIGTERM)

    def kill(self, container_id: str) -> None:
        """Kill a container with those nested in it; one being launched fails at its next step."""
        launching = tuple(self._launches)
        for name in (*descendants(container_id, launching), container_id):
            if name in self._launches:
                self._launches[name].is_unwanted = True
                if (fetching := self._launches[name].fetching) is not None:
                    fetching.cancel()
        for name in (*descendants(container_id, self.containers.known()), container_id):
            self.containers.kill(name)

    async def close(self) -> None:
        """End what is ours alone; containers go on."""
        if self.containers.spawner is not None:
            await self.containers.spawner.close()

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside a container; return its status."""
        return await self.containers.execute(container_id, command, timeout_seconds=timeout_seconds)

    async def remove(self, container_id: str) -> None:
        """Remove a container and those nested in it, then their networks."""
        for name in (*descendants(container_id, self.known()), container_id):
            await asyncio.to_thread(release_mount, self.layout.run(name) / "shm")
            await self.containers.remove(name)
            await self.networks.detach(name)

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        return await self.gauge.statistics(container_id)

    async def watch_disks(self) -> None:
        """Measure the disk that containers use, for ever; end those that use too much."""
        await self.gauge.watch(self.kill)

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts; raise ContainerError."""
        await self.containers.update(container_id, resources, limits, self.ways.terms)
        self.records.amend(container_id, resources, limits)


def _ends(request: ContainerRequest) -> Ends | None:
    """Return who holds the container's input and output; None where they are files."""
    tty = request.container.tty_info if request.container else None
    if request.stdio == "files" and tty is None:
        return None
    return Ends(terminal(tty), waits=request.stdio == "session")


def _make_sandbox(sandbox: Path, user: User) -> None:
    """Make a sandbox with its two outputs, all of them the user's."""
    sandbox.mkdir(parents=True, exist_ok=True)
    link_latest(sandbox)
    os.chown(sandbox, user.uid, user.gid, follow_symlinks=False)
    for name in ("stdout", "stderr"):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(sandbox / name, flags, 0o644)
        os.fchown(descriptor, user.uid, user.gid)
        os.close(descriptor)


def _refuse_unwanted(launch: _Launch) -> None:
    if launch.is_unwanted:
        raise ContainerError("the container was killed while it was launched")
