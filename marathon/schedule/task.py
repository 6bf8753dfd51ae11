"""The TaskInfo of an instance (reference marathon §1.8, §4.1)."""

from collections.abc import Iterator, Mapping

from phalanx.marathon.model.app import App, HealthCheck, HealthProtocol, NetworkMode, PortMapping
from phalanx.marathon.model.path import hostname_form
from phalanx.marathon.schedule.environment import task_environment
from phalanx.marathon.schedule.health import agent_run_check
from phalanx.marathon.schedule.port import PortPlan
from phalanx.mesos.resources import Resources, Span
from phalanx.mesos.v1 import mesos

BRIDGE = "mesos-bridge"


def needed(app: App, ports: PortPlan) -> Resources:
    """Return the resources that a task of *app* takes."""
    amounts = {"cpus": app.cpus, "mem": app.mem, "disk": app.disk}
    scalars = {name: round(amount * 1000) for name, amount in amounts.items() if amount > 0}
    spans: tuple[Span, ...] = tuple((port, port) for port in sorted(ports.taken))
    return Resources.make(scalars, {"ports": spans})


def task_info(
    app: App, *, task_id: str, offer: mesos.Offer, role: str, ports: PortPlan
) -> mesos.TaskInfo:
    """Build the task of one instance on the agent of *offer*."""
    environment = task_environment(app, task_id=task_id, hostname=offer.hostname, ports=ports)
    return mesos.TaskInfo(
        name=hostname_form(app.id),
        task_id=mesos.TaskID(value=task_id),
        agent_id=offer.agent_id,
        resources=needed(app, ports).messages(role=role),
        command=_command(app, environment),
        container=_container(app, ports),
        health_check=_health_check(app, ports),
        kill_policy=kill_policy(app),
        labels=_labels(app.labels),
        discovery=mesos.DiscoveryInfo(
            visibility="FRAMEWORK",
            name=hostname_form(app.id),
            ports=mesos.Ports(ports=tuple(_discovered(app, ports))),
        ),
    )


def kill_policy(app: App) -> mesos.KillPolicy | None:
    """Return how long a task of *app* may take to end by itself; None for the agent's default."""
    grace = app.task_kill_grace_period_seconds
    if grace is None:
        return None
    return mesos.KillPolicy(grace_period=mesos.DurationInfo(nanoseconds=round(grace * 1e9)))


def _command(app: App, environment: Mapping[str, str]) -> mesos.CommandInfo:
    variables = tuple(mesos.Variable(name=k, value=v) for k, v in environment.items())
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
        environment=mesos.Environment(variables=variables),
        shell=app.cmd is not None,
        value=value,
        arguments=app.args,
        user=app.user,
    )


def _container(app: App, ports: PortPlan) -> mesos.ContainerInfo | None:
    container = app.container
    if container is None or (
        app.is_on_host_network and not container.docker and not container.volumes
    ):
        return None
    image = None
    if container.docker is not None:
        image = mesos.Image(
            type="DOCKER",
            docker=mesos.DockerImage(name=container.docker.image),
            cached=not container.docker.force_pull_image,
        )
    return mesos.ContainerInfo(
        type="MESOS",
        mesos=mesos.MesosInfo(image=image),
        volumes=tuple(
            mesos.Volume(mode=v.mode, container_path=v.container_path, host_path=v.host_path)
            for v in container.volumes
        ),
        network_infos=tuple(_network_infos(app, ports)),
    )


def _network_infos(app: App, ports: PortPlan) -> Iterator[mesos.NetworkInfo]:
    for network in app.networks:
        if network.mode is NetworkMode.HOST:
            continue
        mapped = tuple(
            mesos.PortMapping(
                host_port=host, container_port=mapping.container_port or host, protocol=protocol
            )
            for mapping, host in zip(app.mappings, ports.host, strict=True)
            if host is not None
            and (not mapping.network_names or network.name in mapping.network_names)
            for protocol in mapping.protocol.each
        )
        yield mesos.NetworkInfo(
            name=BRIDGE if network.mode is NetworkMode.BRIDGE else network.name,
            labels=_labels(network.labels),
            port_mappings=mapped,
        )


def _discovered(app: App, ports: PortPlan) -> Iterator[mesos.Port]:
    if app.is_on_host_network:
        for definition, number in zip(app.port_definitions or (), ports.told, strict=True):
            for protocol in definition.protocol.each:
                yield _port(number, definition.name, protocol, definition.labels)
        return
    for mapping, host, told in zip(app.mappings, ports.host, ports.told, strict=True):
        for protocol in mapping.protocol.each:
            if host is not None:
                labels = {**mapping.labels, "network-scope": "host"}
                yield _port(host, mapping.name, protocol, labels)
                continue
            for network in _networks_of(app, mapping):
                scope = {"network-scope": "container", "network-name": network}
                yield _port(told, mapping.name, protocol, {**mapping.labels, **scope})


def _networks_of(app: App, mapping: PortMapping) -> tuple[str, ...]:
    names = tuple(network.name for network in app.networks if network.name)
    return tuple(name for name in names if name in mapping.network_names) or names


def _port(number: int, name: str | None, protocol: str, labels: Mapping[str, str]) -> mesos.Port:
    return mesos.Port(number=number, name=name, protocol=protocol, labels=_labels(labels))


def _labels(labels: Mapping[str, str]) -> mesos.Labels | None:
    if not labels:
        return None
    return mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items()))


def check_port(
    app: App, check: HealthCheck, host: tuple[int | None, ...], told: tuple[int, ...]
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
