"""The Mesos containerizer: images, networks, cgroups and supervisors around runc."""

import asyncio
import os
import pwd
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import structlog

from phalanx.agent.bundle.environment import SEARCH_PATH, Surroundings, container_environment
from phalanx.agent.bundle.mount import TEMPORARY, host_mounts
from phalanx.agent.bundle.request import ContainerRequest, descendants, lineage
from phalanx.agent.bundle.spec import (
    IMAGE_SANDBOX,
    ImageRoot,
    Place,
    Terms,
    User,
    asked_image,
    check_request,
    command_line,
    is_cached,
    oci_config,
    terminal_of,
)
from phalanx.agent.cni.attach import Networks, named
from phalanx.agent.container.containerizer import Exit, Found, Limitation, Running
from phalanx.agent.container.disk import disk_quotas, rendered, used_bytes
from phalanx.agent.container.runtime import Containers, Ended, Ends
from phalanx.agent.container.sandbox import link_latest
from phalanx.agent.container.traffic import network_statistics
from phalanx.agent.fetch.fetcher import Fetcher
from phalanx.agent.files import read_json
from phalanx.agent.image.config import resolve_user
from phalanx.agent.image.scope import resolve
from phalanx.agent.image.store import Image, Images
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import make_memory_disk, release_mount
from phalanx.agent.session.process_io import terminal
from phalanx.agent.volume.mounting import Volumes, check_targets
from phalanx.agent.volume.plan import wanted_volumes
from phalanx.core.error import ContainerError, InvalidError
from phalanx.core.files import write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    IPAddress,
    LinuxInfo,
    NetworkInfo,
    Resource,
    ResourceStatistics,
    Scalar,
)

log = structlog.get_logger()

FACTS = "facts.json"
LIMITED = "limited.json"
RESOLV_CONF = "/etc/resolv.conf"
HOST_FILES = ("/etc/hosts", "/etc/hostname", RESOLV_CONF)
MEGABYTE = 1024 * 1024


class Limited(Message, frozen=True, kw_only=True):
    """Which limit ended a container, kept until it is told."""

    reason: str
    message: str
    resources: tuple[Resource, ...] = ()


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
    ip6: str | None = None
    resolv_conf: Path | None = None
    switches_user: bool = True
    takes_image_user: bool = False
    search_path: str = SEARCH_PATH  # for containers without an image
    terms: Terms = field(default_factory=Terms)
    profiles: Path | None = None  # where seccomp profiles are
    profile: str | None = None
    shm_bytes: int = 64 * 1024**2
    is_host_writable: bool = True  # for containers without an image
    keeps_ipc: bool = False  # for itself
    keeps_pid: bool = False
    disk_seconds: float = 15.0
    enforces_disk: bool = False


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
    volumes: Volumes
    ways: Ways
    clock: Callable[[], float]
    _slots: asyncio.Semaphore = field(init=False)
    _launches: dict[str, _Launch] = field(init=False, default_factory=dict)
    _disks: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Make room for as many launches at a time as the settings say."""
        object.__setattr__(self, "_slots", asyncio.Semaphore(self.ways.launches))

    async def launch(self, request: ContainerRequest) -> Running:
        """Start a container; raise ContainerError in plain words."""
        launch = self._launches.setdefault(request.id, _Launch())
        try:
            check_request(request)
            name = asked_image(request)
            image = None
            if name is not None:
                image = await self.images.provision(name, is_cached=is_cached(request))
            user = self._run_as(request, image)
            await self._fetch(request, user, launch)
            async with self._slots:
                return await self._launch(request, image, user, launch)
        except (OSError, InvalidError) as error:
            raise ContainerError(str(error)) from error
        finally:
            self._launches.pop(request.id, None)

    def _run_as(self, request: ContainerRequest, image: Image | None) -> User:
        """Return who a container's command runs as; an image's User only where that is set."""
        is_named = request.command is not None and request.command.user is not None
        if image is None or image.config.user is None or is_named:
            return self._user(request.user)
        if not self.ways.takes_image_user:
            return self._user(request.user)
        tables = [_table(image.rootfs, name) for name in ("passwd", "group")]
        return User(*resolve_user(image.config.user, *tables))

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
        terms = await self._terms(request)
        networks, place = await self._place(request, image, user)
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
        self, request: ContainerRequest, image: Image | None, user: User
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
            networks = (own_network(self.ways.ip, self.ways.ip6),)
        home = self.layout.networks / holder if holder else None
        linux = (request.container.linux_info if request.container else None) or LinuxInfo()
        shared = self._shared(request, linux)
        inside = str(request.sandbox) if image is None else IMAGE_SANDBOX
        wanted = wanted_volumes(request, inside, str(self.layout.work))
        if image is None:
            check_targets(wanted, inside)
        run = self.layout.run(request.id)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        return networks, Place(
            sandbox=str(request.sandbox),
            cgroup=self.containers.cgroups.path_of(request.id),
            hostname=hostname if asked else None,
            network=str(self.networks.namespace(holder)) if holder else None,
            files=self._files(home),
            host_mounts=host_mounts(Path("/proc/self/mountinfo").read_text()),
            temporary=tuple(point for point in TEMPORARY if Path(point).is_dir()),
            image=self._root(request.id, image) if image else None,
            joined=joined,
            shared=shared,
            is_writable=self.ways.is_host_writable,
            volumes=await self.volumes.ready(wanted, run, user),
            shm=await self._shm(request, linux, joined, shared),
            shm_bytes=(linux.shm_size or 0) * MEGABYTE or self.ways.shm_bytes,
        )

    async def _terms(self, request: ContainerRequest) -> Terms:
        """Return what holds for a container, its seccomp profile read."""
        linux = request.container.linux_info if request.container else None
        asked = linux.seccomp if linux else None
        name = self.ways.profile
        if asked is not None and asked.unconfined:
            if asked.profile_name is not None:
                raise ContainerError("seccomp: has both profile_name and unconfined")
            name = None
        elif asked is not None and asked.profile_name is not None:
            name = asked.profile_name
        if name is None:
            return self.ways.terms
        if self.ways.profiles is None or "/" in name or name in (".", ".."):
            raise ContainerError(f"seccomp: profile {name!r}: there is none of this name")
        profile = await asyncio.to_thread(read_json, self.ways.profiles / name)
        if profile is None or "defaultAction" not in profile:
            raise ContainerError(f"seccomp: profile {name!r}: there is none of this name")
        return replace(self.ways.terms, seccomp=profile)

    def _shared(self, request: ContainerRequest, linux: LinuxInfo) -> frozenset[str]:
        """Return which of the agent's namespaces a container of the top level keeps."""
        if request.parent is not None:
            return frozenset()
        found = set()
        if linux.share_pid_namespace:
            if self.ways.keeps_pid:
                raise ContainerError("Sharing agent pid namespace with container is disallowed")
            found.add("pid")
        if linux.ipc_mode == "SHARE_PARENT":
            if self.ways.keeps_ipc:
                raise ContainerError("Sharing agent IPC namespace with container is disallowed")
            found.add("ipc")
        if "ipc" in found and linux.shm_size is not None:
            raise ContainerError("linux_info.shm_size: the parent's /dev/shm is shared")
        return frozenset(found)

    async def _shm(
        self,
        request: ContainerRequest,
        linux: LinuxInfo,
        joined: Mapping[str, str],
        shared: frozenset[str],
    ) -> str | None:
        """Return what is bound as /dev/shm: the parent's, the host's, one for children; or None."""
        if "ipc" in shared:
            return "/dev/shm"
        if "ipc" in joined:
            for name in lineage(request.id):
                place = self.layout.run(name) / "shm"
                if place.is_dir():
                    return str(place)
            return None
        if request.kind in ("task", "debug"):
            return None
        place = self.layout.run(request.id) / "shm"
        place.mkdir(exist_ok=True)
        size = (linux.shm_size or 0) * MEGABYTE or self.ways.shm_bytes
        await asyncio.to_thread(make_memory_disk, place, size)
        return str(place)

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
        ended = self._exit(container_id, run.exit) if run.exit is not None else None
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
        return self._exit(container_id, await self.containers.wait(container_id))

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
        facts = self._facts(container_id)
        asked = Resources.of(facts.resources)
        cpus = facts.limits["cpus"].value if "cpus" in facts.limits else asked.scalar("cpus")
        init = self.containers.find(container_id).init
        own = self.networks.namespace(container_id).exists()
        disk = self._disks.get(container_id)
        limit = asked.scalar("disk")
        found: dict[str, Any] = self.containers.cgroups.statistics(container_id)
        if own and init is not None:
            found |= network_statistics(init.pid)
        return ResourceStatistics(
            timestamp=self.clock(),
            cpus_limit=cpus,
            cpus_soft_limit=asked.scalar("cpus"),
            disk_limit_bytes=int(limit * MEGABYTE) if limit else None,
            disk_used_bytes=disk,
            **found,
        )

    async def watch_disks(self) -> None:
        """Measure the disk that containers use, for ever; end those that use too much."""
        while True:
            await asyncio.sleep(self.ways.disk_seconds)
            known = self.containers.known()
            for container_id in known:
                await self._measure(container_id)
            for container_id in self._disks.keys() - set(known):
                self._disks.pop(container_id, None)

    async def _measure(self, container_id: str) -> None:
        facts = self._facts(container_id)
        if not facts.sandbox or facts.kind in ("nested", "debug"):
            return
        work = str(self.layout.work)
        quotas = disk_quotas(Resources.of(facts.resources), facts.sandbox, work)
        for path, quota in quotas.items():
            used = await asyncio.to_thread(used_bytes, path)
            if path == facts.sandbox:
                self._disks[container_id] = used
            if self.ways.enforces_disk and quota is not None and used > quota:
                log.warning("disk_quota_exceeded", container=container_id, path=path, bytes=used)
                limitation = Limited(
                    reason="REASON_CONTAINER_LIMITATION_DISK",
                    message=f"Disk usage ({rendered(used)}) exceeds quota ({rendered(quota)})",
                    resources=Resources.make({"disk": used * 1000 // MEGABYTE}).messages(),
                )
                write_whole(self.layout.run(container_id) / LIMITED, encode(limitation))
                self.kill(container_id)
                return

    def _exit(self, container_id: str, ended: Ended) -> Exit:
        """Return how a container ended, as its supervisor and its limits tell."""
        limitation = None
        try:
            raw = (self.layout.run(container_id) / LIMITED).read_bytes()
            limited = decode(Limited, raw)
            limitation = Limitation(limited.reason, limited.message, limited.resources)
        except (OSError, InvalidError):
            if ended.oom_kills:
                limitation = out_of_memory(ended, self._facts(container_id))
        return Exit(ended.status, ended.error, limitation, ended.finished)

    async def update(
        self, container_id: str, resources: Resources, limits: Mapping[str, Scalar]
    ) -> None:
        """Hold a running container to other amounts; raise ContainerError."""
        await self.containers.update(container_id, resources, limits, self.ways.terms)
        facts = msgspec.structs.replace(
            self._facts(container_id), resources=resources.messages(), limits=dict(limits)
        )
        with suppress(OSError):
            write_whole(self.layout.run(container_id) / FACTS, encode(facts))


def own_network(ip: str, ip6: str | None = None) -> NetworkInfo:
    """Return what the status of a container in the agent's own network says."""
    addresses = [IPAddress(protocol="IPv4", ip_address=ip)]
    if ip6 is not None:
        addresses.append(IPAddress(protocol="IPv6", ip_address=ip6))
    return NetworkInfo(ip_addresses=tuple(addresses))


def find_user(name: str) -> User:
    """Return who a name of this machine is; raise ContainerError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise ContainerError(f"user: {name!r}: is not known on this machine") from error
    return User(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)))


def _table(root: Path, name: str) -> str:
    """Return a table of an image's accounts; none there is empty."""
    place = resolve(root, ("etc",)) / name
    try:
        return "" if place.is_symlink() else place.read_text(errors="replace")
    except OSError:
        return ""


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


def out_of_memory(ended: Ended, facts: Facts) -> Limitation:
    """Return what is told of a container that the memory limit ended, as Mesos words it."""
    asked = Resources.of(facts.resources).scalar("mem")
    limit = facts.limits["mem"].value if "mem" in facts.limits else asked
    used = ended.memory_used / MEGABYTE
    lines = [f"Memory limit exceeded: Requested: {limit:g}MB Maximum Used: {used:g}MB"]
    if ended.memory_stat:
        lines += ["", "MEMORY STATISTICS: ", *ended.memory_stat]
    return Limitation(
        "REASON_CONTAINER_LIMITATION_MEMORY",
        "\n".join(lines),
        Resources.make({"mem": round(used * 1000)}).messages(),
    )
