"""The TaskInfo of an instance (reference marathon §1.8, §4.1)."""

import math
from collections.abc import Iterator, Mapping

from phalanx.marathon.model.app import (
    App,
    Container,
    EnvSecret,
    HealthCheck,
    HealthProtocol,
    HttpCheck,
    LinuxSettings,
    NetworkMode,
    PortMapping,
    ResourceLimits,
    SecretSource,
    TcpCheck,
    Volume,
)
from phalanx.marathon.model.path import hostname_form
from phalanx.marathon.schedule.environment import task_environment
from phalanx.marathon.schedule.health import agent_run_check
from phalanx.marathon.schedule.port import PortPlan
from phalanx.mesos.v1 import mesos

BRIDGE = "mesos-bridge"
_DOCKER_NETWORKS: Mapping[NetworkMode, str] = {
    NetworkMode.HOST: "HOST",
    NetworkMode.BRIDGE: "BRIDGE",
    NetworkMode.CONTAINER: "USER",
}


def task_info(
    app: App,
    *,
    task_id: str,
    offer: mesos.Offer,
    resources: tuple[mesos.Resource, ...],
    ports: PortPlan,
) -> mesos.TaskInfo:
    """Build the task of one instance on the agent of *offer*."""
    environment = task_environment(app, task_id=task_id, hostname=offer.hostname, ports=ports)
    return mesos.TaskInfo(
        name=hostname_form(app.id),
        task_id=mesos.TaskID(value=task_id),
        agent_id=offer.agent_id,
        resources=resources,
        command=_command(app, environment),
        container=_container(app, ports, task_id),
        health_check=_health_check(app, ports),
        check=_check(app, ports),
        limits=limits_of(app.resource_limits),
        kill_policy=kill_policy(app),
        labels=labels_of(app.labels),
        discovery=mesos.DiscoveryInfo(
            visibility="FRAMEWORK",
            name=hostname_form(app.id),
            ports=mesos.Ports(ports=tuple(_discovered(app, ports))),
        ),
    )


def kill_policy(app: App) -> mesos.KillPolicy | None:
    """Return how long a task of *app* may take to end by itself; None for the agent's default."""
    return policy_of(app.task_kill_grace_period_seconds)


def policy_of(grace: float | None) -> mesos.KillPolicy | None:
    """Return the policy of a grace in seconds; None for the agent's default."""
    if grace is None:
        return None
    return mesos.KillPolicy(grace_period=mesos.DurationInfo(nanoseconds=round(grace * 1e9)))


def _command(app: App, environment: Mapping[str, str]) -> mesos.CommandInfo:
    plain = (mesos.Variable(name=k, value=v) for k, v in environment.items())
    secret = (
        mesos.Variable(name=name, type="SECRET", secret=secret_of(app.secrets, value.secret))
        for name, value in app.env.items()
        if isinstance(value, EnvSecret)
    )
    uris = tuple(
        mesos.URI(
            value=fetch.uri,
            executable=fetch.executable,
            extract=fetch.extract,
            cache=fetch.cache,
            output_file=fetch.dest_path,
        )
        for fetch in app.fetch
    )
    has_image = app.container is not None and app.container.docker is not None
    value = app.cmd if app.cmd is not None else (None if has_image else app.args[0])
    return mesos.CommandInfo(
        uris=uris,
        environment=mesos.Environment(variables=(*plain, *secret)),
        shell=app.cmd is not None,
        value=value,
        arguments=app.args,
        user=app.user,
    )


def secret_of(secrets: Mapping[str, SecretSource], name: str) -> mesos.Secret:
    """Return the secret that a definition calls *name*."""
    source = secrets[name].source
    return mesos.Secret(type="REFERENCE", reference=mesos.SecretReference(name=source))


def limits_of(asked: ResourceLimits | None) -> dict[str, mesos.Scalar]:
    """Return limits as a task has them."""
    if asked is None:
        return {}
    pairs = {"cpus": asked.cpus, "mem": asked.mem}
    return {
        name: mesos.Scalar(value=math.inf if isinstance(value, str) else value)
        for name, value in pairs.items()
        if value is not None
    }


def _container(app: App, ports: PortPlan, task_id: str) -> mesos.ContainerInfo | None:
    container = app.container
    if container is None or (
        app.is_on_host_network
        and not container.docker
        and not container.volumes
        and not container.linux_info
    ):
        return mesos.ContainerInfo(type="MESOS", tty_info=mesos.TTYInfo()) if app.tty else None
    is_docker = container.is_docker and container.docker is not None
    return mesos.ContainerInfo(
        type="DOCKER" if is_docker else "MESOS",
        docker=_docker(app, container, ports, task_id) if is_docker else None,
        mesos=None if is_docker else mesos.MesosInfo(image=_image(container)),
        # A persistent volume comes with its resource.
        volumes=tuple(_volume(app, v) for v in container.volumes if v.persistent is None),
        network_infos=tuple(_network_infos(app, ports)),
        linux_info=linux_of(container.linux_info),
        tty_info=mesos.TTYInfo() if app.tty else None,
    )


def _image(container: Container) -> mesos.Image | None:
    image = container.docker
    if image is None:
        return None
    return mesos.Image(
        type="DOCKER",
        docker=mesos.DockerImage(name=image.image),
        cached=not image.force_pull_image,
    )


def _docker(app: App, container: Container, ports: PortPlan, task_id: str) -> mesos.DockerInfo:
    image = container.docker
    assert image is not None  # the definition has one
    mode = app.networks[0].mode
    given = (mesos.Parameter(key=item.key, value=item.value) for item in image.parameters)
    label = mesos.Parameter(key="label", value=f"MESOS_TASK_ID={task_id}")
    return mesos.DockerInfo(
        image=image.image,
        network=_DOCKER_NETWORKS[mode],
        port_mappings=tuple(_mapped(app, app.networks[0].name, ports)),
        privileged=image.privileged,
        parameters=(*given, label),
        force_pull_image=image.force_pull_image,
    )


def _volume(app: App, volume: Volume) -> mesos.Volume:
    source = None
    if volume.secret is not None:
        source = mesos.VolumeSource(type="SECRET", secret=secret_of(app.secrets, volume.secret))
    return mesos.Volume(
        mode=volume.mode,
        container_path=volume.container_path,
        host_path=volume.host_path,
        source=source,
    )


def linux_of(settings: LinuxSettings | None) -> mesos.LinuxInfo | None:
    """Return Linux settings as messages have them."""
    if settings is None:
        return None
    seccomp, ipc = settings.seccomp, settings.ipc_info
    return mesos.LinuxInfo(
        seccomp=None
        if seccomp is None
        else mesos.SeccompInfo(profile_name=seccomp.profile_name, unconfined=seccomp.unconfined),
        ipc_mode=None if ipc is None else ipc.mode,
        shm_size=None if ipc is None else ipc.shm_size,
    )


def _network_infos(app: App, ports: PortPlan) -> Iterator[mesos.NetworkInfo]:
    is_docker = app.container is not None and app.container.is_docker
    for network in app.networks:
        # The engine's own networks need no name, and its port mappings are its own.
        if network.mode is NetworkMode.HOST or (is_docker and network.mode is NetworkMode.BRIDGE):
            continue
        yield mesos.NetworkInfo(
            name=BRIDGE if network.mode is NetworkMode.BRIDGE else network.name,
            labels=labels_of(network.labels),
            port_mappings=tuple(_mapped(app, network.name, ports)),
        )


def _mapped(app: App, network: str | None, ports: PortPlan) -> Iterator[mesos.PortMapping]:
    """Yield the mappings of host ports into one network."""
    for mapping, host in zip(app.mappings, ports.host, strict=not app.is_on_host_network):
        if host is None or (mapping.network_names and network not in mapping.network_names):
            continue
        for protocol in mapping.protocol.each:
            yield mesos.PortMapping(
                host_port=host, container_port=mapping.container_port or host, protocol=protocol
            )


def _discovered(app: App, ports: PortPlan) -> Iterator[mesos.Port]:
    if app.is_on_host_network:
        for definition, number in zip(app.port_definitions or (), ports.told, strict=True):
            for protocol in definition.protocol.each:
                yield port_message(number, definition.name, protocol, definition.labels)
        return
    for mapping, host, told in zip(app.mappings, ports.host, ports.told, strict=True):
        for protocol in mapping.protocol.each:
            if host is not None:
                labels = {**mapping.labels, "network-scope": "host"}
                yield port_message(host, mapping.name, protocol, labels)
                continue
            for network in _networks_of(app, mapping):
                scope = {"network-scope": "container", "network-name": network}
                yield port_message(told, mapping.name, protocol, {**mapping.labels, **scope})


def _networks_of(app: App, mapping: PortMapping) -> tuple[str, ...]:
    names = tuple(network.name for network in app.networks if network.name)
    return tuple(name for name in names if name in mapping.network_names) or names


def port_message(
    number: int, name: str | None, protocol: str, labels: Mapping[str, str]
) -> mesos.Port:
    """Return a port of a DiscoveryInfo."""
    return mesos.Port(number=number, name=name, protocol=protocol, labels=labels_of(labels))


def labels_of(labels: Mapping[str, str]) -> mesos.Labels | None:
    """Return labels as messages have them; None for none."""
    if not labels:
        return None
    return mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items()))


def check_port(
    app: App,
    check: HealthCheck | HttpCheck | TcpCheck,
    host: tuple[int | None, ...],
    told: tuple[int, ...],
) -> int:
    """Return the port that *check* is for, as seen where the task listens."""
    if check.port is not None:
        return check.port
    index = check.port_index or 0
    mappings = app.mappings
    if mappings and mappings[index].container_port:
        return mappings[index].container_port
    return host[index] or told[index]


def _health_check(app: App, ports: PortPlan) -> mesos.HealthCheck | None:
    index = agent_run_check(app)
    if index is None:
        return None
    check = app.health_checks[index]
    kinds = mesos.HealthCheckType
    command, http, tcp = None, None, None
    if check.command is not None:
        kind, command = kinds.COMMAND, mesos.CommandInfo(value=check.command.value)
    elif check.protocol is HealthProtocol.MESOS_TCP:
        kind = kinds.TCP
        tcp = mesos.CheckTcp(port=check_port(app, check, ports.host, ports.told))
    else:
        kind = kinds.HTTP
        http = mesos.CheckHttp(
            scheme="https" if check.protocol is HealthProtocol.MESOS_HTTPS else "http",
            port=check_port(app, check, ports.host, ports.told),
            path=check.path or "/",
        )
    return mesos.HealthCheck(
        delay_seconds=check.delay_seconds,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        consecutive_failures=check.max_consecutive_failures,
        grace_period_seconds=check.grace_period_seconds,
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
    )


def _check(app: App, ports: PortPlan) -> mesos.CheckInfo | None:
    check = app.check
    if check is None:
        return None
    command, http, tcp = None, None, None
    if check.exec is not None:
        given = check.exec.command
        command = mesos.CheckInfoCommand(
            command=mesos.CommandInfo(value=given.shell)
            if given.shell is not None
            else mesos.CommandInfo(shell=False, value=given.argv[0], arguments=given.argv)
        )
    elif check.http is not None:
        port = check_port(app, check.http, ports.host, ports.told)
        http = mesos.CheckInfoHttp(port=port, path=check.http.path or "/")
    elif check.tcp is not None:
        tcp = mesos.CheckInfoTcp(port=check_port(app, check.tcp, ports.host, ports.told))
    return mesos.CheckInfo(
        type="COMMAND" if command else "HTTP" if http else "TCP",
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=check.delay_seconds,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
    )
