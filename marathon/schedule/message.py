"""The parts of messages that apps and pods say alike (reference marathon §1.7, §1.8)."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from phalanx.marathon.model.app import (
    EnvSecret,
    Fetch,
    LinuxSettings,
    PullConfig,
    ResourceLimits,
    SecretSource,
)
from phalanx.marathon.model.check import Check, ExecCommand, HealthCheck
from phalanx.marathon.model.pod import PodCheck, PodHealthCheck
from phalanx.mesos.v1 import mesos

Secrets = Mapping[str, SecretSource]

MOST_FAILURES = 2**32 - 1  # in a row that an agent counts to


@dataclass(frozen=True, slots=True)
class Request:
    """A request that a check makes where the task listens."""

    port: int
    path: str | None
    scheme: str = "http"
    protocol: str = "IPv4"


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection that a check tries where the task listens."""

    port: int
    protocol: str = "IPv4"


Target = Request | Connection | ExecCommand


def health_message(check: HealthCheck | PodHealthCheck, target: Target) -> mesos.HealthCheck:
    """Return a health check that the agent runs against *target*."""
    kinds = mesos.HealthCheckType
    command, http, tcp, kind = None, None, None, kinds.COMMAND
    if isinstance(target, ExecCommand):
        command = _command_of(target)
    elif isinstance(target, Request):
        kind, path = kinds.HTTP, target.path or "/"
        http = mesos.CheckHttp(
            protocol=target.protocol, scheme=target.scheme, port=target.port, path=path
        )
    else:
        kind = kinds.TCP
        tcp = mesos.CheckTcp(protocol=target.protocol, port=target.port)
    return mesos.HealthCheck(
        delay_seconds=check.delay_seconds,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        consecutive_failures=failures_of(check.max_consecutive_failures),
        grace_period_seconds=check.grace_period_seconds,
        type=kind,
        command=command,
        http=http,
        tcp=tcp,
    )


def check_message(check: Check | PodCheck, target: Target) -> mesos.CheckInfo:
    """Return a check that the agent runs against *target* and only tells of."""
    command, http, tcp = None, None, None
    if isinstance(target, ExecCommand):
        command = mesos.CheckInfoCommand(command=_command_of(target))
    elif isinstance(target, Request):
        http = mesos.CheckInfoHttp(port=target.port, path=target.path or "/")
    else:
        tcp = mesos.CheckInfoTcp(port=target.port)
    return mesos.CheckInfo(
        type="COMMAND" if command else "HTTP" if http else "TCP",
        command=command,
        http=http,
        tcp=tcp,
        delay_seconds=check.delay_seconds,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
    )


def failures_of(limit: int) -> int:
    """Return at how many failures in a row an agent kills; *limit* 0 means never.

    To Mesos 0 is at the first one (d2iq-archive/marathon#3828).
    """
    return limit or MOST_FAILURES


def _command_of(command: ExecCommand) -> mesos.CommandInfo:
    if command.shell is not None:
        return mesos.CommandInfo(value=command.shell)
    return mesos.CommandInfo(shell=False, value=command.argv[0], arguments=command.argv)


def variables_of(
    environment: Mapping[str, str | EnvSecret], secrets: Secrets
) -> Iterator[mesos.Variable]:
    """Yield variables, those that are secrets as references."""
    for name, value in environment.items():
        if isinstance(value, str):
            yield mesos.Variable(name=name, value=value)
        else:
            secret = secret_of(secrets, value.secret)
            yield mesos.Variable(name=name, type="SECRET", secret=secret)


def secret_of(secrets: Secrets, name: str) -> mesos.Secret:
    """Return the secret that a definition calls *name*."""
    source = secrets[name].source
    return mesos.Secret(type="REFERENCE", reference=mesos.SecretReference(name=source))


def uris_of(files: Iterable[Fetch]) -> tuple[mesos.URI, ...]:
    """Return the files that an agent is to fetch."""
    return tuple(
        mesos.URI(
            value=file.uri,
            executable=file.executable,
            extract=file.extract,
            cache=file.cache,
            output_file=file.dest_path,
        )
        for file in files
    )


def image_of(
    name: str, *, is_cached: bool, pull: PullConfig | None, secrets: Secrets
) -> mesos.Image:
    """Return an image for the Mesos containerizer; *pull* names what its registry asks for."""
    config = None if pull is None else secret_of(secrets, pull.secret)
    docker = mesos.DockerImage(name=name, config=config)
    return mesos.Image(type="DOCKER", docker=docker, cached=is_cached)


def secret_volume(path: str, mode: str, secret: mesos.Secret) -> mesos.Volume:
    """Return a secret as a file of the container."""
    source = mesos.VolumeSource(type="SECRET", secret=secret)
    return mesos.Volume(mode=mode, container_path=path, source=source)


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


def policy_of(grace: float | None) -> mesos.KillPolicy | None:
    """Return the policy of a grace in seconds; None for the agent's default."""
    if grace is None:
        return None
    return mesos.KillPolicy(grace_period=mesos.DurationInfo(nanoseconds=round(grace * 1e9)))


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


def labels_of(labels: Mapping[str, str]) -> mesos.Labels | None:
    """Return labels as messages have them; None for none."""
    if not labels:
        return None
    return mesos.Labels(labels=tuple(mesos.Label(key=k, value=v) for k, v in labels.items()))


def port_message(
    number: int, name: str | None, protocol: str, labels: Mapping[str, str]
) -> mesos.Port:
    """Return a port of a DiscoveryInfo."""
    return mesos.Port(number=number, name=name, protocol=protocol, labels=labels_of(labels))


def scoped_ports(
    name: str | None,
    protocols: Iterable[str],
    labels: Mapping[str, str],
    *,
    host: int | None,
    inner: int,
    networks: Iterable[str],
) -> Iterator[mesos.Port]:
    """Yield a port off the host's network as VIPs need it: where it is to be reached.

    One with a port of the *host* is reached there, any other by its *inner* number on each
    of *networks*.
    """
    for protocol in protocols:
        if host is not None:
            yield port_message(host, name, protocol, {**labels, "network-scope": "host"})
            continue
        for network in networks:
            scope = {"network-scope": "container", "network-name": network}
            yield port_message(inner, name, protocol, {**labels, **scope})
