"""From a request to the OCI configuration that runc is given; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from phalanx.agent.bundle.privilege import (
    Granted,
    capabilities,
    oom_score,
    rlimits,
    seccomp,
)
from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.image.config import ImageConfig, image_command
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import CommandInfo, Scalar

CFS_PERIOD_MICROSECONDS = 100_000
LEAST_QUOTA_MICROSECONDS = 1_000
LEAST_MEMORY_MEGABYTES = 32
LEAST_SHARES = 2

# The container's init must not be the command: the kernel keeps signals without a
# handler from the first process of a pid namespace, so SIGTERM would never end it.
INIT = ("/bin/sh", "-c", '"$@"; exit $?', "init")

# What a container without a command does: it waits for ever, and reaps what is left to it.
PAUSE = ("/bin/sh", "-c", "while :; do sleep 2147483647 & wait; done", "pause")

UMASK = 0o022
SHM_OPTIONS = "nosuid,noexec,nodev,mode=1777"
IMAGE_SANDBOX = "/mnt/mesos/sandbox"


@dataclass(frozen=True, slots=True)
class User:
    """Who a container's command runs as."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """The root of a container that is made of an image: nothing written reaches *lower*."""

    lower: str
    upper: str
    work: str
    config: ImageConfig
    has_shell: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container's parts lie on the host."""

    sandbox: str
    cgroup: str
    hostname: str | None  # None keeps the host's
    network: str | None  # path of its network namespace; None shares the agent's
    files: Mapping[str, str]  # files bound over the root file system's, by their path in it
    host_mounts: tuple[str, ...] = ("/",)
    is_writable: bool = True  # as far as its user may write on the host
    temporary: tuple[str, ...] = ("/tmp",)  # the host's directories that are writable anyway
    image: ImageRoot | None = None  # instead of the host's mounts
    joined: Mapping[str, str] = field(default_factory=dict)  # namespaces by kind, as paths
    shared: frozenset[str] = frozenset()  # kinds of namespaces that stay the agent's
    volumes: tuple[Mapping[str, Any], ...] = ()  # mounts, as runc is told them
    shm: str | None = None  # what is bound as /dev/shm; None makes one
    shm_bytes: int = 64 * 1024 * 1024

    @property
    def inside(self) -> str:
        """Return where the container has its sandbox."""
        return self.sandbox if self.image is None else IMAGE_SANDBOX


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the host that a container may use."""

    path: str
    kind: str  # c or b
    major: int
    minor: int
    access: str  # of rwm


@dataclass(frozen=True, slots=True)
class Terms:
    """What the operator's settings say of every container."""

    has_quota: bool = False
    limits_swap: bool = False
    pids: int = 0  # 0 is no limit
    granted: Granted = field(default_factory=Granted)
    no_new_privileges: bool = False
    machine_bytes: int = 1
    devices: tuple[Device, ...] = ()
    seccomp: Mapping[str, Any] | None = None
    machine: str = "SCMP_ARCH_X86_64"


def check_request(request: ContainerRequest) -> None:
    """Raise ContainerError for a request that this containerizer can't carry out."""
    container = request.container
    if container is None:
        return
    if container.docker is not None or container.type == "DOCKER":
        image = container.docker.image if container.docker else ""
        raise ContainerError(
            f"container.docker.image: {image!r}: type DOCKER is not supported, MESOS is"
        )
    asked = container.mesos.image if container.mesos else None
    if asked is not None and (asked.type != "DOCKER" or asked.docker is None):
        raise ContainerError(f"container.mesos.image: {asked.type!r}: only DOCKER is supported")


def asked_image(request: ContainerRequest) -> str | None:
    """Return the name of the image that a container wants its root from."""
    mesos = request.container.mesos if request.container else None
    image = mesos.image if mesos else None
    return image.docker.name if image and image.docker else None


def is_cached(request: ContainerRequest) -> bool:
    """Tell whether an image that looks unchanged need not be read again."""
    mesos = request.container.mesos if request.container else None
    return mesos is None or mesos.image is None or mesos.image.cached


def command_line(command: CommandInfo) -> list[str]:
    """Return the words to execute; raise ContainerError when there are none."""
    if command.value is None:
        raise ContainerError("command.value: is missing")
    if command.shell:
        return ["/bin/sh", "-c", command.value]
    # arguments[0] is what the program sees as its own name (argv[0]), as in Mesos
    return [command.value, *command.arguments[1:]]


def oci_config(
    request: ContainerRequest,
    place: Place,
    environment: Mapping[str, str],
    *,
    user: User = User(),
    terms: Terms = Terms(),
) -> dict[str, Any]:
    """Return the whole of ``config.json``."""
    check_request(request)
    linux = request.container.linux_info if request.container else None
    held = capabilities(linux, terms.granted, user.uid)
    config: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            **terminal_of(request),
            "user": {
                "uid": user.uid,
                "gid": user.gid,
                "additionalGids": list(user.groups),
                "umask": UMASK,
            },
            "args": _arguments(request.command, place.image),
            "env": [f"{name}={value}" for name, value in sorted(environment.items())],
            "cwd": _directory(place),
            "capabilities": held,
            "rlimits": rlimits(request.container.rlimit_info if request.container else None),
            "noNewPrivileges": terms.no_new_privileges,
            "oomScoreAdj": _oom_score(request, terms),
        },
        "root": {"path": "rootfs"},
        "mounts": [*_root(place), *_own(place), *_files(place), *place.volumes],
        "linux": {
            "namespaces": _namespaces(place),
            "cgroupsPath": place.cgroup,
            "resources": _limits(request, terms),
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }
    if terms.devices:
        config["linux"]["devices"] = [_device(device) for device in terms.devices]
    if terms.seccomp is not None:
        config["linux"]["seccomp"] = seccomp(terms.seccomp, terms.machine, held["effective"])
    modes = {mode for volume in place.volumes for mode in volume["options"]}
    propagation = next((mode for mode in ("rshared", "rslave") if mode in modes), None)
    if propagation is not None:
        config["linux"]["rootfsPropagation"] = propagation
    if place.hostname is not None:
        config["hostname"] = place.hostname
    return config


def terminal_of(request: ContainerRequest) -> dict[str, Any]:
    """Return whether a container's process has a terminal, and of what size."""
    tty = request.container.tty_info if request.container else None
    if tty is None:
        return {"terminal": False}
    if tty.window_size is None:
        return {"terminal": True}
    rows, columns = tty.window_size.rows, tty.window_size.columns
    return {"terminal": True, "consoleSize": {"height": rows, "width": columns}}


def _namespaces(place: Place) -> list[dict[str, str]]:
    """Return which namespaces are new and which are joined; what is not there is the agent's."""
    kinds = [kind for kind in ("pid", "mount", "ipc", "uts") if kind not in place.shared]
    found = {kind: place.joined.get(kind) for kind in kinds}
    if place.network is not None:
        found["network"] = place.network
    return [{"type": kind, **({"path": path} if path else {})} for kind, path in found.items()]


def _limits(request: ContainerRequest, terms: Terms) -> dict[str, Any]:
    devices: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for device in terms.devices:
        rule = {"type": device.kind, "major": device.major, "minor": device.minor}
        devices.append({"allow": True, **rule, "access": device.access})
    if not request.has_own_cgroup:
        return {"devices": devices}
    return {**resource_limits(request.resources, request.limits, terms), "devices": devices}


def _device(device: Device) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": 0o666,
    }


def _oom_score(request: ContainerRequest, terms: Terms) -> int:
    asked = request.resources.scalar("mem")
    limit = request.limits["mem"].value if "mem" in request.limits else None
    if limit is None or not asked:
        return 0
    most = None if limit == float("inf") else memory_bytes(limit)
    return oom_score(memory_bytes(asked), most, terms.machine_bytes)


def resource_limits(asked: Resources, limits: Mapping[str, Scalar], terms: Terms) -> dict[str, Any]:
    """Return what the cgroup holds a container to (reference mesos §6.2)."""
    cpus, megabytes = asked.scalar("cpus"), asked.scalar("mem")
    cpu: dict[str, int] = {"shares": max(int(1024 * cpus), LEAST_SHARES)}
    cap = limits["cpus"].value if "cpus" in limits else cpus if terms.has_quota else None
    if cap is not None:
        quota = -1 if cap == float("inf") else int(CFS_PERIOD_MICROSECONDS * cap)
        cpu["period"] = CFS_PERIOD_MICROSECONDS
        cpu["quota"] = quota if quota < 0 else max(quota, LEAST_QUOTA_MICROSECONDS)
    held: dict[str, Any] = {"cpu": cpu}
    hard = limits["mem"].value if "mem" in limits else megabytes
    if hard and hard != float("inf"):
        held["memory"] = {
            "limit": memory_bytes(hard),
            "reservation": memory_bytes(min(megabytes, hard) or hard),
        }
        if terms.limits_swap:
            held["memory"]["swap"] = held["memory"]["limit"]
    elif hard and megabytes:
        held["memory"] = {"reservation": memory_bytes(megabytes)}
    if terms.pids:
        held["pids"] = {"limit": terms.pids}
    return held


def memory_bytes(megabytes: float) -> int:
    """Return a memory limit in bytes, never less than a process needs to start."""
    return int(max(megabytes, LEAST_MEMORY_MEGABYTES) * 1024 * 1024)


def _bind(source: str, destination: str, mode: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "source": source,
        "type": "bind",
        "options": ["bind", mode],
    }


def _arguments(command: CommandInfo | None, image: ImageRoot | None) -> list[str]:
    """Return the words of the first process; without a shell there it is the command itself."""
    if command is None:
        if image is not None and not image.has_shell:
            raise ContainerError("command: is missing, and the image has no /bin/sh to wait with")
        return [*PAUSE]
    if image is None or command.shell or command.value is not None:
        words = command_line(command)
    else:
        words = image_command(image.config, command.arguments)
    if image is not None and not image.has_shell:
        if command.shell:
            raise ContainerError("command.shell: the image has no /bin/sh")
        return words
    return [*INIT, *words]


def _directory(place: Place) -> str:
    """Return where the command starts."""
    if place.image is None or place.image.config.working_dir is None:
        return place.inside
    return str(PurePosixPath("/", place.image.config.working_dir))


def _root(place: Place) -> list[dict[str, Any]]:
    """Return the root; runc makes an overlay in the container's own mount namespace only."""
    if place.image is not None:
        image = place.image
        layers = (("lowerdir", image.lower), ("upperdir", image.upper), ("workdir", image.work))
        options = [f"{name}={escaped(path)}" for name, path in layers]
        return [{"destination": "/", "type": "overlay", "source": "overlay", "options": options}]
    mode = "rw" if place.is_writable else "ro"
    return [_bind(point, point, mode) for point in place.host_mounts]


def escaped(path: str) -> str:
    """Return a path as a mount option: overlay takes colons and commas for its own."""
    return re.sub(r"([\\:,])", r"\\\1", path)


def _own(place: Place) -> list[dict[str, Any]]:
    """Return what a container has for itself instead of the host's."""
    rows = (
        ("/proc", "proc", "proc", "nosuid,noexec,nodev"),
        ("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        ("/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620"),
        ("/dev/shm", "tmpfs", "shm", f"{SHM_OPTIONS},size={place.shm_bytes}"),
        ("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        ("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        ("/tmp", "tmpfs", "tmpfs", "nosuid,nodev,mode=1777"),
        ("/run", "tmpfs", "tmpfs", "nosuid,nodev,mode=755"),
    )
    mounts = {
        point: {"destination": point, "type": kind, "source": source, "options": options.split(",")}
        for point, kind, source, options in rows
    }
    if place.image is not None:
        del mounts["/run"]  # an image may have files there
    else:
        # what anybody may write is the host's, as in Mesos: programs find their files there
        del mounts["/tmp"]
        mounts |= {point: _bind(point, point, "rw") for point in place.temporary}
    if place.shm is not None:
        mounts["/dev/shm"] = _bind(place.shm, "/dev/shm", "rw")
    return list(mounts.values())


def _files(place: Place) -> list[dict[str, Any]]:
    sandbox = _bind(place.sandbox, place.inside, "rw")
    return [sandbox, *(_bind(source, point, "ro") for point, source in place.files.items())]
