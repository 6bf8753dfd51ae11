"""What ``docker create`` is told of one container (reference mesos §6.6); pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    CommandInfo,
    ContainerInfo,
    DockerInfo,
    NetworkInfo,
    PortMapping,
    Scalar,
    Volume,
)

SANDBOX = "/mnt/mesos/sandbox"
PREFIX = "mesos-"
NETWORK_SUFFIX = ".network"
ENDED = ".ended-"  # before the name of a run directory that is kept for the delay
OWNER_LABEL = "phalanx.agent"
LEAST_SHARES = 2
SHARES_PER_CPU = 1024
PERIOD_MICROSECONDS = 100_000
LEAST_QUOTA_MICROSECONDS = 1000
MEGABYTE = 1024 * 1024
LEAST_MEMORY_BYTES = 32 * MEGABYTE
NETWORK_PARAMETERS = ("net", "network")

# Parameters that would take a container out of our hands.
REFUSED_PARAMETERS = frozenset({"name", "cidfile", "detach", "d", "rm", "restart", "help"})


@dataclass(frozen=True, slots=True)
class Joining:
    """Which networks a container joins: a mode of the engine, or CNI networks of ours."""

    mode: str  # "host", "none" or "cni"
    networks: tuple[NetworkInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Amounts:
    """What a container may use; None where nothing limits it."""

    cpu_shares: int
    cpu_quota: int | None  # microseconds in each period
    memory_bytes: int | None
    reserved_bytes: int | None = None


def container_name(container_id: str) -> str:
    """Return the engine's name of a container."""
    return PREFIX + container_id


def network_name(container_id: str) -> str:
    """Return the engine's name of the container that holds another's network."""
    return PREFIX + container_id + NETWORK_SUFFIX


def is_docker(container: ContainerInfo | None) -> bool:
    """Tell whether a container is for the Docker containerizer."""
    return container is not None and container.type == "DOCKER"


def check_request(request: ContainerRequest) -> DockerInfo:
    """Return what is asked of Docker; raise ContainerError for what can't be."""
    container = request.container
    docker = container.docker if container is not None else None
    if container is None or docker is None:
        raise ContainerError("container.docker: is missing")
    if request.parent is not None:
        raise ContainerError("nested containers are not supported by the Docker containerizer")
    if request.stdio == "session" or container.tty_info is not None:
        raise ContainerError("sessions are not supported by the Docker containerizer")
    if not docker.image:
        raise ContainerError("container.docker.image: is missing")
    for parameter in docker.parameters:
        if parameter.key.lstrip("-") in REFUSED_PARAMETERS or not parameter.key:
            raise ContainerError(f"container.docker.parameters: {parameter.key!r}: is refused")
    return docker


def joining(container: ContainerInfo, docker: DockerInfo) -> Joining:
    """Return the networks of a container; raise ContainerError for what can't be.

    The first parameter ``net`` or ``network`` beats the field. BRIDGE is the CNI
    network ``bridge`` unless one is named; every other name is a CNI network.
    """
    given = next((p.value for p in docker.parameters if p.key in NETWORK_PARAMETERS), None)
    asked = docker.network.lower() if given is None else given
    infos = container.network_infos
    if asked in ("host", "none"):
        if asked == "host" and container.hostname:
            raise ContainerError("container.hostname: can't be set with the network of the host")
        if docker.port_mappings:
            raise ContainerError(
                "container.docker.port_mappings: need a bridge or a network of the user"
            )
        return Joining(asked)
    if asked == "user":
        if len(infos) > 1:
            raise ContainerError("Only a single network can be defined in Docker run")
        if not infos or not infos[0].name:
            raise ContainerError("container.network_infos: No network name found in network info")
        return Joining("cni", (_mapped(infos[0], docker.port_mappings),))
    named = next((info for info in infos if info.name), None)
    if asked == "bridge" and named is not None:
        return Joining("cni", (_mapped(named, docker.port_mappings),))
    first = infos[0] if infos else NetworkInfo()
    base = NetworkInfo(
        name=asked,
        groups=first.groups,
        labels=first.labels,
        ip_addresses=first.ip_addresses,
        port_mappings=first.port_mappings,
    )
    return Joining("cni", (_mapped(base, docker.port_mappings),))


def _mapped(network: NetworkInfo, more: Sequence[object]) -> NetworkInfo:
    """Return a network that the ports of the DockerInfo are mapped on as well."""
    mappings = list(network.port_mappings)
    for mapping in more:
        port = PortMapping(
            host_port=getattr(mapping, "host_port", 0),
            container_port=getattr(mapping, "container_port", 0),
            protocol=getattr(mapping, "protocol", None),
        )
        if port not in mappings:
            mappings.append(port)
    return NetworkInfo(
        name=network.name,
        groups=network.groups,
        labels=network.labels,
        ip_addresses=network.ip_addresses,
        port_mappings=tuple(mappings),
    )


def check_ports(request: ContainerRequest, networks: Sequence[NetworkInfo]) -> None:
    """Raise ContainerError for a mapped port of the host that the task was not given."""
    spans = request.resources.ranges.get("ports", ())
    for network in networks:
        for mapping in network.port_mappings:
            port = mapping.host_port
            if not any(begin <= port <= end for begin, end in spans):
                raise ContainerError(f"Port [{port}] not included in resources")


def amounts_of(resources: Resources, limits: Mapping[str, Scalar], *, has_quota: bool) -> Amounts:
    """Return what a container may use, from what it asked for and its limits."""
    cpus, memory = resources.scalar("cpus"), resources.scalar("mem")
    limit = limits["cpus"].value if "cpus" in limits else (cpus if has_quota else math.inf)
    quota = None
    if not math.isinf(limit):
        quota = max(round(limit * PERIOD_MICROSECONDS), LEAST_QUOTA_MICROSECONDS)
    soft = max(round(memory * MEGABYTE), LEAST_MEMORY_BYTES)
    hard: int | None = soft
    if "mem" in limits:
        most = limits["mem"].value
        hard = None if math.isinf(most) else max(round(most * MEGABYTE), soft)
    return Amounts(
        cpu_shares=max(round(cpus * SHARES_PER_CPU), LEAST_SHARES),
        cpu_quota=quota,
        memory_bytes=hard,
        reserved_bytes=soft if hard != soft else None,
    )


def mount_of(volume: Volume, sandbox: str) -> tuple[str, str | None]:
    """Return a volume as ``-v`` takes it, and its volume driver; raise ContainerError."""
    mode = volume.mode.lower()
    point = volume.container_path
    if not point.startswith("/"):
        point = f"{SANDBOX}/{point}"
    source, driver, more = volume.host_path, None, ""
    if volume.image is not None:
        raise ContainerError("volumes of images are not supported by the Docker containerizer")
    if volume.source is not None:
        kind = volume.source
        if kind.docker_volume is not None:
            source, driver = kind.docker_volume.name, kind.docker_volume.driver
            return f"{source}:{point}:{mode}", driver
        if kind.host_path is not None:
            source = kind.host_path.path
            propagation = kind.host_path.mount_propagation
            if propagation is not None and propagation.mode == "BIDIRECTIONAL":
                more = ",rshared"
        elif kind.sandbox_path is not None and kind.sandbox_path.type != "PARENT":
            source = kind.sandbox_path.path
        else:
            raise ContainerError(
                f"volumes of type {kind.type!r} are not supported by the Docker containerizer"
            )
    if source is None:
        source = volume.container_path
        if source.startswith("/"):
            raise ContainerError(f"volume {source!r}: has no host_path")
    if not source.startswith("/"):
        source = f"{sandbox}/{source}"
    return f"{source}:{point}:{mode}{more}", None


def command_words(command: CommandInfo | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the options and the words of a command; raise ContainerError.

    A shell command replaces the image's entrypoint; any other is given to it.
    """
    if command is None:
        return (), ()
    if command.shell:
        if command.value is None:
            raise ContainerError("Shell specified but no command value provided")
        return ("--entrypoint", "/bin/sh"), ("-c", command.value)
    value = (command.value,) if command.value else ()
    return (), (*value, *command.arguments)


def environment(
    request: ContainerRequest, *, role: str | None = None, ip: str | None = None
) -> dict[str, str]:
    """Return what a container of Docker is told, its own variables over ours."""
    told = dict(request.environment)
    told["MESOS_SANDBOX"] = SANDBOX
    told["MESOS_CONTAINER_NAME"] = container_name(request.id)
    if role is not None:
        told["MESOS_ALLOCATION_ROLE"] = role
    if ip is not None:
        told["MESOS_CONTAINER_IP"] = ip
    own = request.command.environment if request.command is not None else None
    for variable in own.variables if own is not None else ():
        told[variable.name] = variable.value or ""
    return told


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an agent adds to what is asked of it."""

    owner: str
    joining: Joining
    environment: Mapping[str, str]
    has_quota: bool = False
    volume_driver: str | None = None
    files: Mapping[str, str] | None = None  # container path to host path
    mounts: tuple[str, ...] = ()  # more volumes, as ``-v`` takes them


def create_words(request: ContainerRequest, around: Surroundings) -> list[str]:
    """Return the words after ``docker create``; raise ContainerError."""
    docker = check_request(request)
    container = request.container
    words = ["--name", container_name(request.id), "--label", f"{OWNER_LABEL}={around.owner}"]
    if docker.privileged:
        words.append("--privileged")
    limit = amounts_of(request.resources, request.limits, has_quota=around.has_quota)
    words += ["--cpu-shares", str(limit.cpu_shares)]
    if limit.cpu_quota is not None:
        words += ["--cpu-period", str(PERIOD_MICROSECONDS), "--cpu-quota", str(limit.cpu_quota)]
    if limit.reserved_bytes is not None:
        words += ["--memory-reservation", str(limit.reserved_bytes)]
    if limit.memory_bytes is not None:
        words += ["--memory", str(limit.memory_bytes)]
    for name, value in around.environment.items():
        words += ["-e", f"{name}={value}"]
    driver = docker.volume_driver
    for volume in container.volumes if container is not None else ():
        mount, own_driver = mount_of(volume, str(request.sandbox))
        if own_driver is not None and driver not in (None, own_driver):
            raise ContainerError("Only one volume driver is supported")
        driver = own_driver or driver
        words += ["-v", mount]
    for mount in around.mounts:
        words += ["-v", mount]
    words += ["-v", f"{request.sandbox}:{SANDBOX}"]
    if driver is not None:
        words += ["--volume-driver", driver]
    words += _network_words(request, around)
    options, command = command_words(request.command)
    for parameter in docker.parameters:
        if parameter.key not in NETWORK_PARAMETERS:
            words.append(f"--{parameter.key}={parameter.value}")
    return [*words, *options, docker.image, *command]


def _network_words(request: ContainerRequest, around: Surroundings) -> list[str]:
    mode = around.joining.mode
    if mode != "cni":
        hostname = request.container.hostname if request.container is not None else None
        named = ["--hostname", hostname] if hostname and mode == "none" else []
        return ["--network", mode, *named]
    words = ["--network", f"container:{network_name(request.id)}"]
    for inside, outside in (around.files or {}).items():
        words += ["-v", f"{outside}:{inside}"]
    return words


def pause_words(request: ContainerRequest, *, owner: str, image: str, hostname: str) -> list[str]:
    """Return the words after ``docker create`` of the container that holds a network."""
    return [
        *("--name", network_name(request.id), "--label", f"{OWNER_LABEL}={owner}"),
        *("--network", "none", "--hostname", hostname, "--memory", str(LEAST_MEMORY_BYTES)),
        *("--log-driver", "none", image),
    ]
