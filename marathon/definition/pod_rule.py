"""The rules that a pod's definition must keep, each with its path (reference marathon §1.10)."""

import re
from collections.abc import Iterator

from phalanx.marathon.definition.container_rule import persistent_problems
from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.definition.spec_rule import (
    OF_POD,
    bounded,
    command_problems,
    environment_problems,
    limit_problems,
    secret_problems,
    spec_problems,
)
from phalanx.marathon.model.pod import Pod, PodCheck, PodContainer, PodHealthCheck

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROTOCOLS = ("tcp", "udp")


def pod_violations(pod: Pod) -> Iterator[Problem]:
    """Yield a problem for every rule that *pod* breaks."""
    yield from spec_problems(pod, OF_POD)
    if not pod.containers:
        yield Problem("/containers", "must not be empty")
    yield from unique("/containers", (c.name for c in pod.containers))
    for index, container in enumerate(pod.containers):
        yield from _container(pod, container, f"/containers({index})")
    yield from _endpoints(pod)
    yield from _volumes(pod)
    if pod.scaling.kind != "fixed":
        yield Problem("/scaling/kind", f"{pod.scaling.kind!r}: only fixed is supported")
    yield from environment_problems(pod.environment, pod.secrets, "/environment")


def _container(pod: Pod, container: PodContainer, at: str) -> Iterator[Problem]:
    if not _LABEL.fullmatch(container.name):
        yield Problem(f"{at}/name", f"must fully match regular expression '{_LABEL.pattern}'")
    if container.exec is None and container.image is None:
        yield Problem(at, "must have an exec or an image")
    if container.exec is not None:
        yield from command_problems(container.exec.command, f"{at}/exec/command")
    image = container.image
    if image is not None and image.kind != "DOCKER":
        yield Problem(f"{at}/image/kind", f"{image.kind!r}: only DOCKER is supported")
    if image is not None and not image.id:
        yield Problem(f"{at}/image/id", "must not be empty")
    pull = None if image is None else image.pull_config
    if pull is not None:
        yield from secret_problems(pull.secret, pod.secrets, f"{at}/image/pullConfig/secret")
    yield from _resources(pod, container, at)
    yield from environment_problems(container.environment, pod.secrets, f"{at}/environment")
    checks = (("healthCheck", container.health_check), ("check", container.check))
    for key, check in checks:
        if check is not None:
            yield from _check(container, check, f"{at}/{key}")
    volumes = {volume.name for volume in pod.volumes}
    for index, mount in enumerate(container.volume_mounts):
        here = f"{at}/volumeMounts({index})"
        if mount.name not in volumes:
            yield Problem(f"{here}/name", f"references the undeclared volume '{mount.name}'")
        if not mount.mount_path:
            yield Problem(f"{here}/mountPath", "must not be empty")
    for index, artifact in enumerate(container.artifacts):
        if not artifact.uri:
            yield Problem(f"{at}/artifacts({index})/uri", "must not be empty")
    lifecycle = container.lifecycle
    if lifecycle is not None and lifecycle.kill_grace_period_seconds is not None:
        key = f"{at}/lifecycle/killGracePeriodSeconds"
        yield from bounded(key, lifecycle.kill_grace_period_seconds)


def _resources(pod: Pod, container: PodContainer, at: str) -> Iterator[Problem]:
    asked = container.resources
    amounts = {"cpus": asked.cpus, "mem": asked.mem, "disk": asked.disk, "gpus": asked.gpus}
    for key, value in amounts.items():
        yield from bounded(f"{at}/resources/{key}", value)
    limits = container.resource_limits
    if limits is not None and pod.legacy_shared_cgroups:
        words = "limits need cgroups of each container's own, not legacySharedCgroups"
        yield Problem(f"{at}/resourceLimits", words)
    yield from limit_problems(limits, asked.cpus, asked.mem, f"{at}/resourceLimits")


def _check(container: PodContainer, check: PodHealthCheck | PodCheck, at: str) -> Iterator[Problem]:
    if sum(part is not None for part in (check.http, check.tcp, check.exec)) != 1:
        yield Problem(at, "must have exactly one of http, tcp and exec")
    names = {endpoint.name for endpoint in container.endpoints}
    for key, part in (("http", check.http), ("tcp", check.tcp)):
        if part is not None and part.endpoint not in names:
            yield Problem(f"{at}/{key}/endpoint", f"'{part.endpoint}' is no endpoint of it")
    if check.http is not None and check.http.scheme.upper() not in ("HTTP", "HTTPS"):
        yield Problem(f"{at}/http/scheme", "is neither HTTP nor HTTPS")
    if check.exec is not None:
        yield from command_problems(check.exec.command, f"{at}/exec/command")
    times = {
        "intervalSeconds": check.interval_seconds,
        "timeoutSeconds": check.timeout_seconds,
        "delaySeconds": check.delay_seconds,
    }
    if isinstance(check, PodHealthCheck):
        times["gracePeriodSeconds"] = check.grace_period_seconds
        times["maxConsecutiveFailures"] = check.max_consecutive_failures
        if check.timeout_seconds >= check.interval_seconds:
            yield Problem(f"{at}/timeoutSeconds", "must be less than intervalSeconds")
    for key, value in times.items():
        yield from bounded(f"{at}/{key}", value)


def _endpoints(pod: Pod) -> Iterator[Problem]:
    names = {network.name for network in pod.networks}
    for place, container in enumerate(pod.containers):
        for index, endpoint in enumerate(container.endpoints):
            at = f"/containers({place})/endpoints({index})"
            if not _LABEL.fullmatch(endpoint.name):
                text = f"must fully match regular expression '{_LABEL.pattern}'"
                yield Problem(f"{at}/name", text)
            if not pod.is_on_host_network and endpoint.container_port is None:
                yield Problem(f"{at}/containerPort", "is required when using container-mode")
            ports = {"containerPort": endpoint.container_port, "hostPort": endpoint.host_port}
            for key, port in ports.items():
                if port is not None and not 0 <= port < 65536:
                    yield Problem(f"{at}/{key}", f"{port} is not a port")
            for protocol in endpoint.protocol:
                if protocol not in _PROTOCOLS:
                    yield Problem(f"{at}/protocol", f"{protocol!r} is neither tcp nor udp")
            for name in endpoint.network_names:
                if name not in names:
                    yield Problem(f"{at}/networkNames", f"{name!r} is no network of the pod")
            has_choice = len(pod.networks) > 1 and endpoint.host_port is not None
            if has_choice and len(endpoint.network_names) != 1:
                yield Problem(f"{at}/networkNames", "must name one network when hostPort is set")
    yield from unique("/containers/endpoints/name", (e.name for e in pod.endpoints))
    at = "/containers/endpoints/containerPort"
    yield from unique(at, (e.container_port for e in pod.endpoints if e.container_port))
    at = "/containers/endpoints/hostPort"
    yield from unique(at, (e.host_port for e in pod.endpoints if e.host_port))


def _volumes(pod: Pod) -> Iterator[Problem]:
    mounted = {mount.name for container in pod.containers for mount in container.volume_mounts}
    yield from unique("/volumes", (volume.name for volume in pod.volumes))
    for index, volume in enumerate(pod.volumes):
        at = f"/volumes({index})"
        if not _LABEL.fullmatch(volume.name):
            yield Problem(f"{at}/name", f"must fully match regular expression '{_LABEL.pattern}'")
        if volume.name not in mounted:
            yield Problem(at, f"volume '{volume.name}' is not mounted by any container")
        given = (volume.host, volume.secret, volume.persistent)
        if sum(part is not None for part in given) > 1:
            yield Problem(at, "must have at most one of host, secret and persistent")
        if volume.persistent is not None:
            yield from persistent_problems(volume.persistent, f"{at}/persistent")
        if volume.host is not None and not volume.host:
            yield Problem(f"{at}/host", "must not be empty")
        if volume.secret is not None and volume.secret not in pod.secrets:
            yield Problem(at, f"references the undeclared secret '{volume.secret}'")
