"""A task as apps and pods say it alike, in Marathon's words, and as Mesos is told it.

Both kinds of definition make a Task here; what each part of it becomes is said here once
(reference marathon §1.7, §1.8).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from phalanx.marathon.model.app import (
    EnvSecret,
    Fetch,
    LinuxSettings,
    PullConfig,
    ResourceLimits,
    SecretSource,
)
from phalanx.marathon.model.check import Check, HealthCheck
from phalanx.marathon.model.pod import PodCheck, PodHealthCheck
from phalanx.marathon.schedule.message import (
    Target,
    check_message,
    health_message,
    image_of,
    labels_of,
    limits_of,
    linux_of,
    policy_of,
    port_message,
    scoped_ports,
    secret_of,
    secret_volume,
    uris_of,
    variables_of,
)
from phalanx.mesos.v1 import mesos

BRIDGE = "mesos-bridge"


@dataclass(frozen=True, slots=True)
class Command:
    """What runs, as whom, with which files and variables."""

    fetch: tuple[Fetch, ...]
    environment: Mapping[str, str | EnvSecret]
    is_shell: bool
    value: str | None
    arguments: tuple[str, ...]
    user: str | None


@dataclass(frozen=True, slots=True)
class Root:
    """A container's root for the Mesos containerizer: an image, or without one the agent's own."""

    image: str | None = None
    is_cached: bool = False
    pull: PullConfig | None = None


@dataclass(frozen=True, slots=True)
class Volume:
    """What a container sees at *path*: of the agent, of a *source*, or the secret of a name."""

    path: str
    mode: str
    host_path: str | None = None
    source: mesos.VolumeSource | None = None
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network that a container joins; without a name the agent's bridge."""

    name: str | None
    labels: Mapping[str, str]
    mappings: tuple[mesos.PortMapping, ...]


@dataclass(frozen=True, slots=True)
class Container:
    """A container; one of the Docker containerizer has *docker*."""

    root: Root | None = None
    docker: mesos.DockerInfo | None = None
    volumes: tuple[Volume, ...] = ()
    networks: tuple[Network, ...] = ()
    linux: LinuxSettings | None = None
    has_own_cgroups: bool = False
    has_tty: bool = False


@dataclass(frozen=True, slots=True)
class Port:
    """A port that is told of: on the *host*, or as *inner* on each of *networks*.

    Without *networks* (None) the container is on the host's own: *inner* is all there is.
    """

    name: str | None
    protocols: tuple[str, ...]
    labels: Mapping[str, str]
    inner: int
    host: int | None = None
    networks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A task: of an app's instance, or of one container of a pod's."""

    task_id: str
    name: str
    service: str  # what it is discovered as
    resources: tuple[mesos.Resource, ...]
    command: Command
    container: Container | None
    health_check: tuple[HealthCheck | PodHealthCheck, Target] | None
    check: tuple[Check | PodCheck, Target] | None
    limits: ResourceLimits | None
    grace_seconds: float | None
    labels: Mapping[str, str]
    ports: tuple[Port, ...]
    secrets: Mapping[str, SecretSource]  # by the names that the parts use


def task_message(draft: Task, agent_id: mesos.AgentID) -> mesos.TaskInfo:
    """Return the task for one agent."""
    return mesos.TaskInfo(
        name=draft.name,
        task_id=mesos.TaskID(value=draft.task_id),
        agent_id=agent_id,
        resources=draft.resources,
        command=_command(draft.command, draft.secrets),
        container=None
        if draft.container is None
        else container_message(draft.container, draft.secrets),
        health_check=None if draft.health_check is None else health_message(*draft.health_check),
        check=None if draft.check is None else check_message(*draft.check),
        limits=limits_of(draft.limits),
        kill_policy=policy_of(draft.grace_seconds),
        labels=labels_of(draft.labels),
        discovery=mesos.DiscoveryInfo(
            visibility="FRAMEWORK",
            name=draft.service,
            ports=mesos.Ports(ports=tuple(p for port in draft.ports for p in _ports(port))),
        ),
    )


def _command(draft: Command, secrets: Mapping[str, SecretSource]) -> mesos.CommandInfo:
    variables = tuple(variables_of(draft.environment, secrets))
    return mesos.CommandInfo(
        uris=uris_of(draft.fetch),
        environment=mesos.Environment(variables=variables),
        shell=draft.is_shell,
        value=draft.value,
        arguments=draft.arguments,
        user=draft.user,
    )


def container_message(draft: Container, secrets: Mapping[str, SecretSource]) -> mesos.ContainerInfo:
    """Return a container, that of a task or what those of a pod share."""
    linux = linux_of(draft.linux)
    if draft.has_own_cgroups:
        linux = msgspec.structs.replace(linux or mesos.LinuxInfo(), share_cgroups=False)
    return mesos.ContainerInfo(
        type="MESOS" if draft.docker is None else "DOCKER",
        docker=draft.docker,
        mesos=None if draft.root is None else mesos.MesosInfo(image=_image(draft.root, secrets)),
        volumes=tuple(_volume(volume, secrets) for volume in draft.volumes),
        network_infos=tuple(
            mesos.NetworkInfo(
                name=network.name or BRIDGE,
                labels=labels_of(network.labels),
                port_mappings=network.mappings,
            )
            for network in draft.networks
        ),
        linux_info=linux,
        tty_info=mesos.TTYInfo() if draft.has_tty else None,
    )


def _image(root: Root, secrets: Mapping[str, SecretSource]) -> mesos.Image | None:
    if root.image is None:
        return None
    return image_of(root.image, is_cached=root.is_cached, pull=root.pull, secrets=secrets)


def _volume(volume: Volume, secrets: Mapping[str, SecretSource]) -> mesos.Volume:
    if volume.secret is not None:
        return secret_volume(volume.path, volume.mode, secret_of(secrets, volume.secret))
    return mesos.Volume(
        mode=volume.mode,
        container_path=volume.path,
        host_path=volume.host_path,
        source=volume.source,
    )


def _ports(port: Port) -> Iterator[mesos.Port]:
    if port.networks is None:
        for protocol in port.protocols:
            yield port_message(port.inner, port.name, protocol, port.labels)
        return
    yield from scoped_ports(
        port.name,
        port.protocols,
        port.labels,
        host=port.host,
        inner=port.inner,
        networks=port.networks,
    )
