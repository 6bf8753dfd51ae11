"""The executor and the task group of a pod's instance (reference marathon §1.8, §1.10, §4.1)."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

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
from phalanx.marathon.schedule.demand import executor_amounts, task_amounts
from phalanx.marathon.schedule.message import (
    Connection,
    Request,
    Target,
    check_message,
    command_of,
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
from phalanx.marathon.schedule.port import PortPlan
from phalanx.marathon.schedule.task import BRIDGE
from phalanx.mesos.v1 import mesos

Take = Callable[[Mapping[str, int], Iterable[int]], tuple[mesos.Resource, ...]]

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
    task_id = instance.member_id(container.name)
    lifecycle = container.lifecycle
    return mesos.TaskInfo(
        name=container.name,
        task_id=mesos.TaskID(value=task_id),
        agent_id=offer.agent_id,
        resources=take(task_amounts(container.resources), taken),
        command=_command(pod, container, _environment(pod, container, instance, offer, bound)),
        container=_container(pod, container),
        health_check=_health_check(container.health_check, bound),
        check=_check(container.check, bound),
        limits=limits_of(container.resource_limits),
        kill_policy=policy_of(None if lifecycle is None else lifecycle.kill_grace_period_seconds),
        labels=labels_of({**pod.labels, **container.labels}),
        discovery=mesos.DiscoveryInfo(
            visibility="FRAMEWORK",
            name=hostname_form(pod.id),
            ports=mesos.Ports(ports=tuple(_discovered(pod, container.endpoints, bound))),
        ),
    )


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
) -> mesos.CommandInfo:
    variables = tuple(variables_of(environment, pod.secrets))
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
    return mesos.CommandInfo(
        uris=uris_of(container.artifacts),
        environment=mesos.Environment(variables=variables),
        shell=given is not None and given.shell is not None,
        value=value,
        arguments=argv,
        user=container.user or pod.user,
    )


# Containers, volumes and networks


def _container(pod: Pod, container: PodContainer) -> mesos.ContainerInfo | None:
    image = container.image
    volumes = {volume.name: volume for volume in pod.volumes}
    mounts = tuple(_mount(pod, volumes[mount.name], mount) for mount in container.volume_mounts)
    linux = _own_cgroups(pod, linux_of(container.linux_info))
    if image is None and not mounts and linux is None and not container.tty:
        return None
    info = None
    if image is not None:
        info = mesos.MesosInfo(
            image=image_of(
                image.id,
                is_cached=not image.force_pull,
                pull=image.pull_config,
                secrets=pod.secrets,
            )
        )
    return mesos.ContainerInfo(
        type="MESOS",
        mesos=info,
        volumes=mounts,
        linux_info=linux,
        tty_info=mesos.TTYInfo() if container.tty else None,
    )


def _own_cgroups(pod: Pod, linux: mesos.LinuxInfo | None) -> mesos.LinuxInfo | None:
    """Return Linux settings that give a container cgroups of its own, if the pod wants that.

    It does if it says so, or if one of its containers has limits, which need them. All
    containers of a group must agree.
    """
    has_limits = any(container.resource_limits is not None for container in pod.containers)
    if pod.legacy_shared_cgroups is not False and not has_limits:
        return linux
    return msgspec.structs.replace(linux or mesos.LinuxInfo(), share_cgroups=False)


def _mount(pod: Pod, volume: PodVolume, mount: VolumeMount) -> mesos.Volume:
    """Return where a container sees a volume of its pod.

    One of the pod's own lies in the pod's sandbox, and so does one that outlives the pod.
    """
    mode = "RO" if mount.read_only else "RW"
    if volume.host is not None:
        return mesos.Volume(mode=mode, container_path=mount.mount_path, host_path=volume.host)
    if volume.secret is not None:
        return secret_volume(mount.mount_path, mode, secret_of(pod.secrets, volume.secret))
    path = mesos.SandboxPath(type="PARENT", path=volume.name)
    source = mesos.VolumeSource(type="SANDBOX_PATH", sandbox_path=path)
    return mesos.Volume(mode=mode, container_path=mount.mount_path, source=source)


def _shared(pod: Pod, bound: _Bound) -> mesos.ContainerInfo | None:
    """Return what the containers of an instance share: their networks and Linux settings."""
    networks = tuple(_network(pod, n, bound) for n in pod.networks if n.mode != NetworkMode.HOST)
    if not networks and pod.linux_info is None:
        return None
    return mesos.ContainerInfo(
        type="MESOS", network_infos=networks, linux_info=linux_of(pod.linux_info)
    )


def _network(pod: Pod, network: Network, bound: _Bound) -> mesos.NetworkInfo:
    mappings = tuple(
        mesos.PortMapping(host_port=host, container_port=bound.inner[e.name], protocol=protocol)
        for e in pod.endpoints
        if (host := bound.host[e.name]) is not None
        and (not e.network_names or network.name in e.network_names)
        for protocol in e.protocol
    )
    name = BRIDGE if network.mode is NetworkMode.BRIDGE else network.name
    return mesos.NetworkInfo(name=name, labels=labels_of(network.labels), port_mappings=mappings)


def _discovered(pod: Pod, endpoints: Sequence[PodEndpoint], bound: _Bound) -> Iterator[mesos.Port]:
    for endpoint in endpoints:
        host, inner = bound.host[endpoint.name], bound.inner[endpoint.name]
        if pod.is_on_host_network:
            for protocol in endpoint.protocol:
                yield port_message(inner, endpoint.name, protocol, endpoint.labels)
            continue
        yield from scoped_ports(
            endpoint.name,
            endpoint.protocol,
            endpoint.labels,
            host=host,
            inner=inner,
            networks=endpoint.network_names or pod.network_names,
        )


# Checks


def _health_check(check: PodHealthCheck | None, bound: _Bound) -> mesos.HealthCheck | None:
    return None if check is None else health_message(check, _target(check, bound))


def _check(check: PodCheck | None, bound: _Bound) -> mesos.CheckInfo | None:
    return None if check is None else check_message(check, _target(check, bound))


def _target(check: PodHealthCheck | PodCheck, bound: _Bound) -> Target:
    if check.exec is not None:
        return command_of(check.exec.command)
    if check.http is not None:
        port = bound.inner[check.http.endpoint]
        return Request(port, check.http.path, check.http.scheme.lower())
    assert check.tcp is not None  # the definition has one of the three
    return Connection(bound.inner[check.tcp.endpoint])
