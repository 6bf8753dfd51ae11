"""The Docker containerizer: a Containerizer over a Docker engine (reference mesos §6.6)."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.bundle.spec import User, command_line
from phalanx.agent.cni.attach import Networks, named
from phalanx.agent.container.containerizer import Exit, Found, Running
from phalanx.agent.container.placing import own_network
from phalanx.agent.container.sandbox import link_latest
from phalanx.agent.container.user import find_user
from phalanx.agent.docker import attendant
from phalanx.agent.docker.gauge import statistics_of
from phalanx.agent.docker.record import Records
from phalanx.agent.docker.request import (
    ENDED,
    PERIOD_MICROSECONDS,
    SANDBOX,
    Joining,
    Surroundings,
    amounts_of,
    check_ports,
    check_request,
    container_name,
    create_words,
    environment,
    is_docker,
    joining,
    network_name,
    pause_words,
)
from phalanx.agent.exec import supervise
from phalanx.agent.fetch.fetcher import Fetcher
from phalanx.agent.layout import Layout
from phalanx.agent.process import Process, ended, is_alive, kill
from phalanx.agent.volume.persistent import path_of
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    NetworkInfo,
    ResourceStatistics,
    Scalar,
)

if TYPE_CHECKING:  # its package takes long to import; only an agent with an engine pays for it
    from phalanx.agent.docker.engine import Engine

log = structlog.get_logger()

ATTENDANT = Path(attendant.__file__)
START_SECONDS = 120.0
NET_FILES = ("hosts", "hostname", "resolv.conf")


@dataclass(frozen=True, slots=True)
class DockerWays:
    """How this agent treats containers of Docker, as its settings say."""

    ip: str
    owner: str  # what tells this agent's containers from everybody else's
    ip6: str | None = None
    has_quota: bool = False
    switches_user: bool = True
    remove_delay_seconds: float = 6 * 3600.0
    kills_orphans: bool = True
    config: Path | None = None  # directory of Docker's own config.json


@dataclass(frozen=True, slots=True)
class DockerContainerizer:
    """A Containerizer of ContainerInfos of type DOCKER."""

    layout: Layout
    engine: "Engine"
    networks: Networks
    ways: DockerWays
    clock: Callable[[], float]
    fetcher: Fetcher
    _unwanted: set[str] = field(init=False, default_factory=set)
    _launching: set[str] = field(init=False, default_factory=set)

    @property
    def _records(self) -> Records:
        """Return what is kept of the containers."""
        return Records(self.layout, str(self.engine.socket))

    def takes(self, request: ContainerRequest) -> bool:
        """Tell whether a container is for Docker."""
        return is_docker(request.container)

    def has(self, container_id: str) -> bool:
        """Tell whether a container is one of ours."""
        return container_id in self._launching or self._run(container_id).is_dir()

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words."""
        self._launching.add(request.id)
        try:
            return await self._launch(request)
        except (OSError, InvalidError) as error:
            raise ContainerError(str(error)) from error
        finally:
            self._launching.discard(request.id)
            self._unwanted.discard(request.id)

    async def _launch(self, request: ContainerRequest) -> Running:
        docker = check_request(request)
        container = request.container
        if container is None:
            raise ContainerError("container: is missing")
        join = joining(container, docker)
        named(join.networks)
        check_ports(request, join.networks)
        user = self._make_sandbox(request)
        place = self._run(request.id)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._records.note(request, join, ())
        if docker.force_pull_image or not await self.engine.has_image(docker.image):
            await self.engine.pull(docker.image, self.ways.config)
        self._refuse_unwanted(request.id)
        uris = request.command.uris if request.command is not None else ()
        if uris:
            name = request.user or "root"
            await self.fetcher.fetch(request.id, uris, request.sandbox, name, user)
        self._refuse_unwanted(request.id)
        networks = await self._join(request, join)
        self._records.note(request, join, networks)
        self._refuse_unwanted(request.id)
        around = Surroundings(
            owner=self.ways.owner,
            joining=join,
            environment=environment(request, ip=_first_address(networks)),
            has_quota=self.ways.has_quota,
            files=self._files(request.id) if join.mode == "cni" else {},
            mounts=persistent_mounts(request, self.layout.work),
        )
        await self.engine.create(create_words(request, around))
        self._refuse_unwanted(request.id)
        init = await self._attend(request.id, request.sandbox)
        facts = await self.engine.inspect(container_name(request.id)) or {}
        self._records.note(request, join, networks, _stop_signal(facts))
        return Running(init.pid, networks, json.dumps([facts]).encode())

    async def _join(self, request: ContainerRequest, join: Joining) -> tuple[NetworkInfo, ...]:
        """Make a container's network before the container; return what its status says of it."""
        if join.mode == "host":
            return (own_network(self.ways.ip, self.ways.ip6),)
        if join.mode == "none":
            return ()
        given = request.container.hostname if request.container else None
        hostname = given or request.hostname or request.container_id.value
        image = await self.engine.ensure_pause()
        name = network_name(request.id)
        words = pause_words(request, owner=self.ways.owner, image=image, hostname=hostname)
        await self.engine.create(words)
        await self.engine.start(name)
        facts = await self.engine.inspect(name)
        if facts is None or not facts["State"]["Pid"]:
            raise ContainerError("docker: the process that holds the network ended")
        pid = int(facts["State"]["Pid"])
        return await self.networks.attach(request.id, join.networks, hostname, pid=pid)

    async def _attend(self, container_id: str, sandbox: Path) -> Process:
        """Start the process that starts a container, or follows it; return the container's."""
        arguments = [str(self._run(container_id)), str(self.engine.socket)]
        arguments += [container_name(container_id), str(sandbox / "stdout")]
        arguments.append(str(sandbox / "stderr"))
        try:
            line = await supervise(arguments, timeout_seconds=START_SECONDS, program=ATTENDANT)
        except TimeoutError as error:
            raise ContainerError(f"docker: did not start in {START_SECONDS:g} s") from error
        try:
            told = json.loads(line)
        except ValueError as error:
            raise ContainerError("docker: the attendant ended without a word") from error
        if "exit" in told:
            raise ContainerError(str(told["exit"]["error"]))
        init = self.find(container_id).init
        if init is None:
            raise ContainerError("docker: the container has no process")
        return init

    def _make_sandbox(self, request: ContainerRequest) -> User:
        """Make the sandbox and return whose it is."""
        request.sandbox.mkdir(parents=True, exist_ok=True)
        link_latest(request.sandbox)
        user = User(os.getuid(), os.getgid(), tuple(os.getgroups()))
        if request.user is not None and self.ways.switches_user:
            user = find_user(request.user)
        os.chown(request.sandbox, user.uid, user.gid)
        return user

    def _files(self, container_id: str) -> dict[str, str]:
        home = self.layout.networks / container_id
        return {f"/etc/{name}": str(home / name) for name in NET_FILES if (home / name).exists()}

    def _refuse_unwanted(self, container_id: str) -> None:
        if container_id in self._unwanted:
            raise ContainerError("the container was killed while it was launched")

    def _run(self, container_id: str) -> Path:
        return self.layout.docker / container_id

    def find(self, container_id: str) -> Found:
        """Read what is known of a container."""
        return self._records.find(container_id)

    def known(self) -> tuple[str, ...]:
        """Return every container that has a run directory."""
        return self._records.known()

    def network(self, container_id: str) -> Path | None:
        """Return the network namespace that a container is in; None for the agent's."""
        facts = self._records.facts(container_id)
        if facts.mode == "cni":
            return self.networks.namespace(container_id)
        init = self.find(container_id).init
        if facts.mode == "none" and init is not None:
            return Path(f"/proc/{init.pid}/ns/net")
        return None

    async def wait(self, container_id: str) -> Exit:
        """Wait for a container's end, following it anew when nobody does."""
        while True:
            found = self.find(container_id)
            if found.exit is not None:
                return found.exit
            attending = self._records.attendant(container_id)
            if attending is not None and is_alive(attending):
                await ended(attending)
                continue
            if not (self._run(container_id) / "started").exists():
                return Exit(error="the container was not started")
            log.warning("attendant_lost", container=container_id)
            await self._attend(container_id, Path(self._records.facts(container_id).sandbox))

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to a container's first process, whose business the others are."""
        init = self.find(container_id).init
        if init is not None:
            kill(init, number)

    def terminate(self, container_id: str) -> None:
        """Ask a container to end, by the signal that its image asks for."""
        self.signal(container_id, self._records.facts(container_id).stop_signal)

    def kill(self, container_id: str) -> None:
        """Kill a container; one being launched fails at its next step."""
        if container_id in self._launching:
            self._unwanted.add(container_id)
        self.signal(container_id, signal.SIGKILL)

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside; one that takes too long is killed with all that it started."""
        name = container_name(container_id)
        execution = await self.engine.execute(name, command_line(command))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await execution.run()
        except BaseException:
            with suppress(ContainerError):
                _kill_tree(await execution.pid())
            raise

    async def remove(self, container_id: str) -> None:
        """End a container and let go of its networks; the engine keeps it for the delay."""
        place = self._run(container_id)
        self.kill(container_id)
        attending = self._records.attendant(container_id)
        is_ended = (place / "exit").exists()
        if not is_ended or not self.ways.remove_delay_seconds:
            await self.engine.remove(container_name(container_id))
            is_ended = False
        if attending is not None:
            await ended(attending)
        await self.networks.detach(container_id)
        await self.engine.remove(network_name(container_id))
        if not place.is_dir():
            return
        if is_ended:
            kept = place.with_name(ENDED + container_id)
            place.rename(kept)
            os.utime(kept, (self.clock(), self.clock()))
        else:
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def remove_old(self) -> None:
        """Remove containers that ended longer ago than the delay."""
        for kept in sorted(self.layout.docker.glob(ENDED + "*")):
            if kept.stat().st_mtime + self.ways.remove_delay_seconds <= self.clock():
                await self.engine.remove(container_name(kept.name.removeprefix(ENDED)))
                await asyncio.to_thread(shutil.rmtree, kept, ignore_errors=True)

    async def remove_orphans(self) -> None:
        """Remove the containers of this agent that it knows nothing of any more."""
        if not self.ways.kills_orphans:
            return
        ids = [*self.known(), *self._launching]
        ids += [path.name.removeprefix(ENDED) for path in self.layout.docker.glob(ENDED + "*")]
        ours = {name for id in ids for name in (container_name(id), network_name(id))}
        for name in await self.engine.owned(self.ways.owner):
            if name not in ours:
                log.info("orphan_found", container=name)
                await self.engine.remove(name)

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        found = await self.engine.statistics(container_name(container_id))
        facts = self._records.facts(container_id)
        asked = Resources.of(facts.resources)
        return statistics_of(found, asked, facts.limits, now=self.clock())

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts; raise ContainerError."""
        amounts = amounts_of(resources, limits, has_quota=self.ways.has_quota)
        wanted = {"cpu_shares": amounts.cpu_shares}
        if amounts.cpu_quota is not None:
            wanted |= {"cpu_quota": amounts.cpu_quota, "cpu_period": PERIOD_MICROSECONDS}
        if amounts.memory_bytes is not None:
            wanted |= {"mem_limit": amounts.memory_bytes}
            wanted |= {"memswap_limit": 2 * amounts.memory_bytes}  # as without any word on it
        await self.engine.update(container_name(container_id), wanted)
        self._records.amend(container_id, resources, limits)


def persistent_mounts(request: ContainerRequest, work: Path) -> tuple[str, ...]:
    """Return the persistent volumes among what a container has, as ``-v`` takes them."""
    mounts = []
    for resource in request.resources.volumes.messages():
        asked = resource.disk.volume if resource.disk is not None else None
        if asked is not None:
            point = asked.container_path
            inside = point if point.startswith("/") else f"{SANDBOX}/{point}"
            mounts.append(f"{path_of(resource, str(work))}:{inside}:{asked.mode.lower()}")
    return tuple(mounts)


def _first_address(networks: tuple[NetworkInfo, ...]) -> str | None:
    addresses = networks[0].ip_addresses if networks else ()
    return addresses[0].ip_address if addresses else None


def _stop_signal(facts: Mapping[str, Any]) -> int:
    """Return the signal that an image wants to be stopped by."""
    text = str(facts.get("Config", {}).get("StopSignal") or "SIGTERM")
    if text.isdecimal():
        return int(text)
    name = text if text.startswith("SIG") else f"SIG{text}"
    return int(getattr(signal, name, signal.SIGTERM))


def _kill_tree(pid: int) -> None:
    """Kill a process of a container with all that it started."""
    if not pid:
        return
    children = Path(f"/proc/{pid}/task/{pid}/children")
    with suppress(OSError):
        for child in children.read_text().split():
            _kill_tree(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
