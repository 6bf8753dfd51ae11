"""The executor and the task group of a pod's instance (reference marathon §1.8, §1.10, §4.1)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from phalanx.marathon.model.app import EnvSecret
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.model.network import Network, NetworkMode
from phalanx.marathon.model.path import hostname_form
from phalanx.marathon.model.pod import (
    Pod,
    PodCheck,
    PodContainer,
    PodEndpoint,
    PodHealthCheck,
    PodVolume,
    VolumeMount,
)
from phalanx.marathon.schedule import draft
from phalanx.marathon.schedule.demand import executor_amounts, task_amounts
from phalanx.marathon.schedule.message import Connection, Request, Target, labels_of
from phalanx.marathon.schedule.port import PortPlan
from phalanx.mesos.v1 import mesos

Take = Callable[[Mapping[str, int], Iterable[int]], tuple[mesos.Resource, ...]]

AnyCheck = TypeVar("AnyCheck", PodCheck, PodHealthCheck)

_OTHER = re.compile(r"[^A-Z0-9_]+")


class _Bound:
    """The endpoints of a pod with the ports that one instance has for them."""

    def __init__(self, pod: Pod, ports: PortPlan, *, is_role_enforced: bool) -> None:
        self.is_role_enforced = is_role_enforced
        self.host: dict[str, int | None] = {}
        self.inner: dict[str, int] = {}
        for endpoint, host, told in zip(pod.endpoints, ports.host, ports.told, strict=True):
            self.host[endpoint.name] = host
            # On networks of their own containers listen on the port that they declare.
            own = None if pod.is_on_host_network else endpoint.container_port
            self.inner[endpoint.name] = own or host or told


def pod_launch(
    pod: Pod,
    instance: Instance,
    *,
    offer: mesos.Offer,
    ports: PortPlan,
    take: Take,
    is_role_enforced: bool = False,
) -> tuple[mesos.ExecutorInfo, tuple[mesos.TaskInfo, ...]]:
    """Build the executor and the tasks of one instance on the agent of *offer*.

    *take* takes thousandths of scalars, and ports, away from the offer.
    """
    bound = _Bound(pod, ports, is_role_enforced=is_role_enforced)
    executor = mesos.ExecutorInfo(
        type="DEFAULT",
        executor_id=mesos.ExecutorID(value=instance.executor_id),
        framework_id=offer.framework_id,
        name=hostname_form(pod.id),
        resources=take(executor_amounts(pod), ()),
        container=_shared(pod, bound),
        labels=labels_of(pod.labels),
    )
    tasks = tuple(
        _task(pod, container, instance, offer, bound, take) for container in pod.containers
    )
    return executor, tasks


def _task(
    pod: Pod,
    container: PodContainer,
    instance: Instance,
    offer: mesos.Offer,
    bound: _Bound,
    take: Take,
) -> mesos.TaskInfo:
    taken = [port for e in container.endpoints if (port := bound.host[e.name]) is not None]
    lifecycle = container.lifecycle
    task = draft.Task(
        task_id=instance.member_id(container.name),
        name=container.name,
        service=hostname_form(pod.id),
        resources=take(task_amounts(container.resources), taken),
        command=_command(pod, container, _environment(pod, container, instance, offer, bound)),
        container=_container(pod, container),
        health_check=_aimed(container.health_check, bound),
        check=_aimed(container.check, bound),
        limits=container.resource_limits,
        grace_seconds=None if lifecycle is None else lifecycle.kill_grace_period_seconds,
        labels={**pod.labels, **container.labels},
        ports=tuple(_discovered(pod, container.endpoints, bound)),
        secrets=pod.secrets,
    )
    return draft.task_message(task, offer.agent_id)


# The environment


def _environment(
    pod: Pod, container: PodContainer, instance: Instance, offer: mesos.Offer, bound: _Bound
) -> Mapping[str, str | EnvSecret]:
    resources = container.resources
    variables: dict[str, str] = {
        "MESOS_TASK_ID": instance.member_id(container.name),
        "MESOS_EXECUTOR_ID": instance.executor_id,
        "MARATHON_APP_ID": pod.id,
        "MARATHON_APP_VERSION": pod.version,
        "MARATHON_CONTAINER_ID": container.name,
        "MARATHON_CONTAINER_RESOURCE_CPUS": str(resources.cpus),
        "MARATHON_CONTAINER_RESOURCE_MEM": str(resources.mem),
        "MARATHON_CONTAINER_RESOURCE_DISK": str(resources.disk),
        "MARATHON_CONTAINER_RESOURCE_GPUS": str(resources.gpus),
        "MARATHON_APP_ENFORCE_GROUP_ROLE": str(bound.is_role_enforced).upper(),
        "HOST": offer.hostname,
    }
    for endpoint in pod.endpoints:
        name = _OTHER.sub("_", endpoint.name.upper())
        host, inner = bound.host[endpoint.name], bound.inner[endpoint.name]
        variables[f"ENDPOINT_{name}"] = str(
            host if pod.is_on_host_network and host is not None else inner
        )
        if host is not None:
            variables[f"EP_HOST_{name}"] = str(host)
        if not pod.is_on_host_network:
            variables[f"EP_CONTAINER_{name}"] = str(inner)
    return {**variables, **pod.environment, **container.environment}


def _command(
    pod: Pod, container: PodContainer, environment: Mapping[str, str | EnvSecret]
) -> draft.Command:
    given = None if container.exec is None else container.exec.command
    argv = () if given is None else given.argv
    keeps_entrypoint = (
        container.image is not None
        and container.exec is not None
        and container.exec.override_entrypoint is False
    )
    value = None if given is None else given.shell
    if argv and not keeps_entrypoint:
        value = argv[0]
    return draft.Command(
        fetch=container.artifacts,
        environment=environment,
        is_shell=given is not None and given.shell is not None,
        value=value,
        arguments=argv,
        user=container.user or pod.user,
    )


# Containers, volumes and networks


def _container(pod: Pod, container: PodContainer) -> draft.Container | None:
    image = container.image
    volumes = {volume.name: volume for volume in pod.volumes}
    told = draft.Container(
        root=None
        if image is None
        else draft.Root(image.id, is_cached=not image.force_pull, pull=image.pull_config),
        volumes=tuple(_mount(volumes[mount.name], mount) for mount in container.volume_mounts),
        linux=container.linux_info,
        has_own_cgroups=_has_own_cgroups(pod),
        has_tty=bool(container.tty),
    )
    return None if told == draft.Container() else told


def _has_own_cgroups(pod: Pod) -> bool:
    """Tell whether a container has cgroups of its own: if its pod says so, or has limits.

    Those need them, and all containers of a group must agree.
    """
    has_limits = any(container.resource_limits is not None for container in pod.containers)
    return pod.legacy_shared_cgroups is False or has_limits


def _mount(volume: PodVolume, mount: VolumeMount) -> draft.Volume:
    """Return where a container sees a volume of its pod.

    One of the pod's own lies in the pod's sandbox, and so does one that outlives the pod.
    """
    mode = "RO" if mount.read_only else "RW"
    if volume.host is not None or volume.secret is not None:
        return draft.Volume(mount.mount_path, mode, volume.host, secret=volume.secret)
    path = mesos.SandboxPath(type="PARENT", path=volume.name)
    source = mesos.VolumeSource(type="SANDBOX_PATH", sandbox_path=path)
    return draft.Volume(mount.mount_path, mode, source=source)


def _shared(pod: Pod, bound: _Bound) -> mesos.ContainerInfo | None:
    """Return what the containers of an instance share: their networks and Linux settings."""
    networks = tuple(_network(pod, n, bound) for n in pod.networks if n.mode != NetworkMode.HOST)
    if not networks and pod.linux_info is None:
        return None
    return draft.container_message(
        draft.Container(networks=networks, linux=pod.linux_info), pod.secrets
    )


def _network(pod: Pod, network: Network, bound: _Bound) -> draft.Network:
    mappings = tuple(
        mesos.PortMapping(host_port=host, container_port=bound.inner[e.name], protocol=protocol)
        for e in pod.endpoints
        if (host := bound.host[e.name]) is not None
        and (not e.network_names or network.name in e.network_names)
        for protocol in e.protocol
    )
    name = None if network.mode is NetworkMode.BRIDGE else network.name
    return draft.Network(name, network.labels, mappings)


def _discovered(pod: Pod, endpoints: Sequence[PodEndpoint], bound: _Bound) -> Iterator[draft.Port]:
    for endpoint in endpoints:
        names = None if pod.is_on_host_network else endpoint.network_names or pod.network_names
        yield draft.Port(
            endpoint.name,
            endpoint.protocol,
            endpoint.labels,
            inner=bound.inner[endpoint.name],
            host=bound.host[endpoint.name],
            networks=names,
        )


# Checks


def _aimed(check: AnyCheck | None, bound: _Bound) -> tuple[AnyCheck, Target] | None:
    """Return a check with what it looks at, if there is one."""
    return None if check is None else (check, _target(check, bound))


def _target(check: PodHealthCheck | PodCheck, bound: _Bound) -> Target:
    if check.exec is not None:
        return check.exec.command
    if check.http is not None:
        port = bound.inner[check.http.endpoint]
        return Request(port, check.http.path, check.http.scheme.lower())
    assert check.tcp is not None  # the definition has one of the three
    return Connection(bound.inner[check.tcp.endpoint])
