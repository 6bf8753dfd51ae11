"""The Mesos containerizer: images, networks, cgroups and supervisors around runc."""

import asyncio
import os
import pwd
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from phalanx.agent.cni.attach import Networks, named
from phalanx.agent.container.containerizer import Exit, Found, Limitation, Running
from phalanx.agent.container.environment import Surroundings, container_environment
from phalanx.agent.container.mount import host_mounts
from phalanx.agent.container.request import ContainerRequest, descendants, lineage
from phalanx.agent.container.runtime import Containers, Ended, Ends
from phalanx.agent.container.spec import (
    ImageRoot,
    Place,
    User,
    asked_image,
    check_request,
    command_line,
    oci_config,
    terminal_of,
)
from phalanx.agent.fetch.fetcher import Fetcher
from phalanx.agent.files import read_json, write_whole
from phalanx.agent.image.store import Image, Images
from phalanx.agent.layout import Layout
from phalanx.agent.session.process_io import terminal
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    IPAddress,
    NetworkInfo,
    Resource,
    ResourceStatistics,
    Scalar,
)

log = structlog.get_logger()

FACTS = "facts.json"
RESOLV_CONF = "/etc/resolv.conf"
HOST_FILES = ("/etc/hosts", "/etc/hostname", RESOLV_CONF)
MEGABYTE = 1024 * 1024


class Facts(Message, frozen=True, kw_only=True):
    """What is kept of a container in its run directory, beside what runc is told."""

    kind: str
    sandbox: str
    resources: tuple[Resource, ...] = ()
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)
    networks: tuple[NetworkInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Ways:
    """How this agent treats containers, as its settings say."""

    ip: str
    launches: int
    resolv_conf: Path | None = None
    has_quota: bool = False
    switches_user: bool = True


@dataclass(slots=True)
class _Launch:
    is_unwanted: bool = False
    fetching: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class MesosContainerizer:
    """A Containerizer of ContainerInfos of type MESOS, and of requests without one."""

    layout: Layout
    containers: Containers
    networks: Networks
    images: Images
    fetcher: Fetcher
    ways: Ways
    clock: Callable[[], float]
    _slots: asyncio.Semaphore = field(init=False)
    _launches: dict[str, _Launch] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make room for as many launches at a time as the settings say."""
        object.__setattr__(self, "_slots", asyncio.Semaphore(self.ways.launches))

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words."""
        launch = self._launches.setdefault(request.id, _Launch())
        try:
            check_request(request)
            name = asked_image(request)
            image = await self.images.provision(name) if name is not None else None
            await self._fetch(request, launch)
            async with self._slots:
                return await self._launch(request, image, launch)
        except (OSError, InvalidError) as error:
            raise ContainerError(str(error)) from error
        finally:
            self._launches.pop(request.id, None)

    async def _fetch(self, request: ContainerRequest, launch: _Launch) -> None:
        """Make the sandbox and bring into it what the command needs."""
        if request.kind == "debug":
            return
        user = self._user(request.user)
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
        self, request: ContainerRequest, image: Image | None, launch: _Launch
    ) -> Running:
        """Make everything that the container needs, then the container."""
        if request.kind == "debug":
            return await self._debug(request, launch)
        user = self._user(request.user)
        _refuse_unwanted(launch)
        networks, place = await self._place(request, image)
        _refuse_unwanted(launch)
        addresses = networks[0].ip_addresses if networks else ()
        around = Surroundings(
            agent_ip=self.ways.ip,
            sandbox=place.inside,
            directory=place.sandbox,
            container_ip=(addresses[0].ip_address or "") if addresses else "",
            has_own_network=place.network is not None,
        )
        preset = dict(image.config.environment) if image else {}
        environment = container_environment(request, around, preset)
        config = oci_config(request, place, environment, user=user, has_quota=self.ways.has_quota)
        self._note(request, networks)
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

    async def _place(
        self, request: ContainerRequest, image: Image | None
    ) -> tuple[tuple[NetworkInfo, ...], Place]:
        """Attach a container to its networks and say where its parts lie."""
        asked = named(request.container.network_infos if request.container else ())
        given = request.container.hostname if request.container else None
        hostname = given or request.hostname or request.container_id.value
        joined: dict[str, str] = {}
        holder: str | None = None  # whose network it is
        if request.parent is not None:
            joined = self._joined(request)
        if asked:
            networks = await self.networks.attach(request.id, asked, hostname)
            holder = request.id
            joined.pop("uts", None)
        elif request.parent is not None:
            holder = self._holder(request.id)
            networks = self.find(request.parent).networks
        else:
            networks = (NetworkInfo(ip_addresses=(IPAddress(ip_address=self.ways.ip),)),)
        home = self.layout.networks / holder if holder else None
        return networks, Place(
            sandbox=str(request.sandbox),
            cgroup=self.containers.cgroups.path_of(request.id),
            hostname=hostname if asked else None,
            network=str(self.networks.namespace(holder)) if holder else None,
            files=self._files(home),
            host_mounts=host_mounts(Path("/proc/self/mountinfo").read_text()),
            image=self._root(request.id, image) if image else None,
            joined=joined,
        )

    def _joined(self, request: ContainerRequest) -> dict[str, str]:
        """Return the namespaces that a nested container shares with its parent."""
        parent = self.containers.find(request.parent or "").init
        if parent is None:
            raise ContainerError(f"parent container {request.parent!r}: does not run")
        linux = request.container.linux_info if request.container else None
        kinds = {"uts": "uts", "ipc": "ipc"}
        if linux is not None and linux.ipc_mode == "PRIVATE":
            del kinds["ipc"]
        if linux is not None and linux.share_pid_namespace:
            kinds["pid"] = "pid"
        return {kind: f"/proc/{parent.pid}/ns/{name}" for kind, name in kinds.items()}

    def _holder(self, container_id: str) -> str | None:
        """Return which container, this one or an ancestor, has the network that it is on."""
        for name in (container_id, *lineage(container_id)):
            if self.networks.namespace(name).exists():
                return name
        return None

    def _files(self, home: Path | None) -> dict[str, str]:
        """Return what is bound over the root's files, from a container's own files in *home*."""
        found = {}
        for point in HOST_FILES:
            source = os.path.realpath(point)
            own = home / Path(point).name if home is not None else None
            if own is not None and own.exists():
                source = str(own)
            elif point == RESOLV_CONF and self.ways.resolv_conf is not None:
                source = str(self.ways.resolv_conf)
            if os.path.exists(point) and os.path.exists(source):
                found[point] = source
        return found

    def _root(self, container_id: str, image: Image) -> ImageRoot:
        upper, work = self.layout.image_layers(container_id)
        lower = str(image.rootfs)
        return ImageRoot(lower, str(upper), str(work), image.config, image.has_shell)

    def _user(self, name: str | None) -> User:
        if name is None or not self.ways.switches_user:
            return User(os.getuid(), os.getgid(), tuple(os.getgroups()))
        return find_user(name)

    async def _debug(self, request: ContainerRequest, launch: _Launch) -> Running:
        """Start a process in all namespaces of the nearest ancestor that is a container."""
        if request.command is None:
            raise ContainerError("command: is missing")
        host = next(
            (name for name in lineage(request.id) if self._facts(name).kind != "debug"), None
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
            user = self._user(request.user)
        environment = dict(word.split("=", 1) for word in process["env"])
        environment |= request.environment
        asked = request.command.environment
        environment |= {v.name: v.value or "" for v in (asked.variables if asked else ())}
        process = {
            **process,
            "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
            **terminal_of(request),
            "args": command_line(request.command),
            "env": [f"{name}={value}" for name, value in sorted(environment.items())],
        }
        _make_sandbox(request.sandbox, user)
        networks = self.find(host).networks
        self._note(request, networks)
        _refuse_unwanted(launch)
        init = await self.containers.enter(
            request.id, host, process, request.sandbox, ends=_ends(request)
        )
        _refuse_unwanted(launch)
        return Running(init.pid, networks)

    def _note(self, request: ContainerRequest, networks: tuple[NetworkInfo, ...]) -> None:
        facts = Facts(
            kind=request.kind,
            sandbox=str(request.sandbox),
            resources=request.resources.messages(),
            limits=dict(request.limits),
            networks=networks,
        )
        place = self.layout.run(request.id)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(place / FACTS, encode(facts))

    def _facts(self, container_id: str) -> Facts:
        try:
            return decode(Facts, (self.layout.run(container_id) / FACTS).read_bytes())
        except (OSError, InvalidError):
            return Facts(kind="", sandbox="")

    def find(self, container_id: str) -> Found:
        """Read what is known of a container."""
        run = self.containers.find(container_id)
        facts = self._facts(container_id)
        ended = _exit(run.exit, facts) if run.exit is not None else None
        return Found(run.init, ended, run.started, facts.networks)

    def known(self) -> tuple[str, ...]:
        """Return every container that has a run directory or a network."""
        return tuple(sorted({*self.containers.known(), *self.networks.known()}))

    def network(self, container_id: str) -> Path | None:
        """Return the network namespace that a container is in; None for the agent's."""
        holder = self._holder(container_id)
        return self.networks.namespace(holder) if holder is not None else None

    async def wait(self, container_id: str) -> Exit:
        """Wait for a container's end and return how it was."""
        return _exit(await self.containers.wait(container_id), self._facts(container_id))

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

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside a container; return its status."""
        return await self.containers.execute(container_id, command, timeout_seconds=timeout_seconds)

    async def remove(self, container_id: str) -> None:
        """Remove a container and those nested in it, then their networks."""
        for name in (*descendants(container_id, self.known()), container_id):
            await self.containers.remove(name)
            await self.networks.detach(name)

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        usage = self.containers.cgroups.usage(container_id)
        facts = self._facts(container_id)
        asked = Resources.of(facts.resources)
        cpus = facts.limits["cpus"].value if "cpus" in facts.limits else asked.scalar("cpus")
        return ResourceStatistics(
            timestamp=self.clock(),
            cpus_limit=cpus,
            cpus_soft_limit=asked.scalar("cpus"),
            cpus_user_time_secs=usage.cpu_user_seconds,
            cpus_system_time_secs=usage.cpu_system_seconds,
            mem_limit_bytes=usage.memory_limit_bytes,
            mem_rss_bytes=usage.memory_bytes,
        )

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts; raise ContainerError."""
        await self.containers.update(container_id, resources, limits, has_quota=self.ways.has_quota)
        facts = msgspec.structs.replace(
            self._facts(container_id), resources=resources.messages(), limits=dict(limits)
        )
        with suppress(OSError):
            write_whole(self.layout.run(container_id) / FACTS, encode(facts))


def find_user(name: str) -> User:
    """Return who a name of this machine is; raise ContainerError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise ContainerError(f"user: {name!r}: is not known on this machine") from error
    return User(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)))


def _ends(request: ContainerRequest) -> Ends | None:
    """Return who holds the container's input and output; None where they are files."""
    tty = request.container.tty_info if request.container else None
    if request.stdio == "files" and tty is None:
        return None
    return Ends(terminal(tty), waits=request.stdio == "session")


def _make_sandbox(sandbox: Path, user: User) -> None:
    sandbox.mkdir(parents=True, exist_ok=True)
    os.chown(sandbox, user.uid, user.gid)


def _refuse_unwanted(launch: _Launch) -> None:
    if launch.is_unwanted:
        raise ContainerError("the container was killed while it was launched")


def _exit(ended: Ended, facts: Facts) -> Exit:
    """Return how a container ended, as its supervisor and its limits tell."""
    limitation = None
    if ended.oom_kills:
        asked = Resources.of(facts.resources).scalar("mem")
        limit = facts.limits["mem"].value if "mem" in facts.limits else asked
        used = ended.memory_used / MEGABYTE
        limitation = Limitation(
            "REASON_CONTAINER_LIMITATION_MEMORY",
            f"Memory limit exceeded: Requested: {limit:g}MB Maximum Used: {used:g}MB",
            Resources.make({"mem": round(used * 1000)}).messages(),
        )
    return Exit(ended.status, ended.error, limitation, ended.finished)
