"""The TaskInfo of an instance (reference marathon §1.8, §4.1)."""

import shlex
from collections.abc import Iterator, Mapping

import msgspec

from phalanx.marathon.model.app import App, Container
from phalanx.marathon.model.check import (
    Check,
    ExecCommand,
    HealthCheck,
    HealthProtocol,
    HttpCheck,
    TcpCheck,
)
from phalanx.marathon.model.network import NetworkMode, PortMapping
from phalanx.marathon.model.path import hostname_form
from phalanx.marathon.model.volume import ExternalVolume, Volume
from phalanx.marathon.schedule import draft
from phalanx.marathon.schedule.environment import task_environment
from phalanx.marathon.schedule.health import agent_run_check
from phalanx.marathon.schedule.message import Connection, Request, Target, policy_of
from phalanx.marathon.schedule.port import PortPlan
from phalanx.mesos.v1 import mesos

DRIVER_OPTION = "dvdi/driver"
_OPTION_PREFIX = "dvdi/"
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
    executor_resources: tuple[mesos.Resource, ...] = (),
    is_role_enforced: bool = False,
) -> mesos.TaskInfo:
    """Build the task of one instance on the agent of *offer*.

    An app with an executor of its own gives it the command and the container;
    *executor_resources* are what the executor itself takes. *is_role_enforced* tells whether
    its topmost group insists on its name as the role.
    """
    environment = task_environment(
        app,
        task_id=task_id,
        hostname=offer.hostname,
        ports=ports,
        is_role_enforced=is_role_enforced,
    )
    name = hostname_form(app.id)
    task = draft.Task(
        task_id=task_id,
        name=name,
        service=name,
        resources=resources,
        command=_command(app, environment),
        container=_container(app, ports, task_id),
        health_check=_health_check(app, ports),
        check=_check(app, ports),
        limits=app.resource_limits,
        grace_seconds=app.task_kill_grace_period_seconds,
        labels=app.labels,
        ports=tuple(_discovered(app, ports)),
        secrets=app.secrets,
    )
    info = draft.task_message(task, offer.agent_id)
    if not app.has_own_executor:
        return info
    executor = mesos.ExecutorInfo(
        type="CUSTOM",
        executor_id=mesos.ExecutorID(value=f"marathon-{task_id}"),
        framework_id=offer.framework_id,
        name=name,
        command=info.command,
        container=info.container,
        resources=executor_resources,
    )
    return msgspec.structs.replace(info, executor=executor, command=None, container=None)


def kill_policy(app: App) -> mesos.KillPolicy | None:
    """Return how long a task of *app* may take to end by itself; None for the agent's default."""
    return policy_of(app.task_kill_grace_period_seconds)


def _command(app: App, environment: Mapping[str, str]) -> draft.Command:
    secret = {name: value for name, value in app.env.items() if not isinstance(value, str)}
    has_image = app.container is not None and app.container.docker is not None
    is_shell, value, arguments = app.cmd is not None, app.cmd, app.args
    if app.has_own_executor:
        is_shell, value, arguments = True, _executor_line(app), ()
    elif value is None and not has_image:
        value = app.args[0]
    return draft.Command(
        fetch=app.fetch,
        environment={**environment, **secret},
        is_shell=is_shell,
        value=value,
        arguments=arguments,
        user=app.user,
    )


def _executor_line(app: App) -> str:
    """Return the line that starts an app's own executor, with the app's command behind it."""
    path = shlex.quote(app.executor)
    words = app.cmd if app.cmd is not None else " ".join(app.args)
    return f"chmod ug+rx {path} && exec {path} {words}".rstrip()


def _container(app: App, ports: PortPlan, task_id: str) -> draft.Container | None:
    container = app.container
    if container is None or (
        app.is_on_host_network
        and not container.docker
        and not container.volumes
        and not container.linux_info
    ):
        return draft.Container(has_tty=True) if app.tty else None
    is_docker = container.is_docker and container.docker is not None
    return draft.Container(
        docker=_docker(app, container, ports, task_id) if is_docker else None,
        root=None if is_docker else _root(container),
        # A persistent volume comes with its resource.
        volumes=tuple(_volume(v) for v in container.volumes if v.persistent is None),
        networks=tuple(_networks(app, ports)),
        linux=container.linux_info,
        has_tty=bool(app.tty),
    )


def _root(container: Container) -> draft.Root:
    image = container.docker
    if image is None:
        return draft.Root()
    return draft.Root(image.image, is_cached=not image.force_pull_image, pull=image.pull_config)


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


def _volume(volume: Volume) -> draft.Volume:
    return draft.Volume(
        path=volume.container_path,
        mode=volume.mode,
        host_path=volume.host_path,
        source=None if volume.external is None else _external(volume.external),
        secret=volume.secret,
    )


def _external(volume: ExternalVolume) -> mesos.VolumeSource:
    """Return a volume of a Docker volume driver; its options go to the driver."""
    options = {
        key.removeprefix(_OPTION_PREFIX): value
        for key, value in volume.options.items()
        if key.startswith(_OPTION_PREFIX) and key != DRIVER_OPTION
    }
    if volume.size is not None:
        options["size"] = str(volume.size)
    parameters = tuple(mesos.Parameter(key=k, value=v) for k, v in options.items())
    return mesos.VolumeSource(
        type="DOCKER_VOLUME",
        docker_volume=mesos.DockerVolume(
            driver=volume.options[DRIVER_OPTION],
            name=volume.name,
            driver_options=mesos.Parameters(parameter=parameters) if parameters else None,
        ),
    )


def _networks(app: App, ports: PortPlan) -> Iterator[draft.Network]:
    is_docker = app.container is not None and app.container.is_docker
    for network in app.networks:
        # The engine's own networks need no name, and its port mappings are its own.
        if network.mode is NetworkMode.HOST or (is_docker and network.mode is NetworkMode.BRIDGE):
            continue
        yield draft.Network(
            name=None if network.mode is NetworkMode.BRIDGE else network.name,
            labels=network.labels,
            mappings=tuple(_mapped(app, network.name, ports)),
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


def _discovered(app: App, ports: PortPlan) -> Iterator[draft.Port]:
    if app.is_on_host_network:
        for definition, number in zip(app.port_definitions or (), ports.told, strict=True):
            protocols = definition.protocol.each
            yield draft.Port(definition.name, protocols, definition.labels, number)
        return
    for mapping, host, told in zip(app.mappings, ports.host, ports.told, strict=True):
        yield draft.Port(
            mapping.name,
            mapping.protocol.each,
            mapping.labels,
            inner=told,
            host=host,
            networks=_networks_of(app, mapping),
        )


def _networks_of(app: App, mapping: PortMapping) -> tuple[str, ...]:
    names = app.network_names
    return tuple(name for name in names if name in mapping.network_names) or names


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


def _health_check(app: App, ports: PortPlan) -> tuple[HealthCheck, Target] | None:
    index = agent_run_check(app)
    if index is None:
        return None
    check = app.health_checks[index]
    if check.command is not None:
        return check, ExecCommand(shell=check.command.value)
    port = check_port(app, check, ports.host, ports.told)
    if check.protocol is HealthProtocol.MESOS_TCP:
        return check, Connection(port, check.ip_protocol)
    scheme = "https" if check.protocol is HealthProtocol.MESOS_HTTPS else "http"
    return check, Request(port, check.path, scheme, check.ip_protocol)


def _check(app: App, ports: PortPlan) -> tuple[Check, Target] | None:
    check = app.check
    if check is None:
        return None
    if check.exec is not None:
        return check, check.exec.command
    if check.http is not None:
        port = check_port(app, check.http, ports.host, ports.told)
        return check, Request(port, check.http.path)
    assert check.tcp is not None  # the definition has one of the three
    return check, Connection(check_port(app, check.tcp, ports.host, ports.told))
