"""The rules that a pod's definition must keep, each with its path (reference marathon §1.10)."""

import re
from collections.abc import Iterator

from phalanx.marathon.definition.check_rule import MOST
from phalanx.marathon.definition.container_rule import persistent_problems
from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.definition.rule import MOST_INSTANCES, constraint_errors
from phalanx.marathon.model.app import EnvSecret, UnreachableStrategy
from phalanx.marathon.model.check import ExecCommand
from phalanx.marathon.model.network import NetworkMode
from phalanx.marathon.model.path import errors_of, top_of
from phalanx.marathon.model.pod import Pod, PodCheck, PodContainer, PodHealthCheck

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PROTOCOLS = ("tcp", "udp")


def pod_violations(pod: Pod) -> Iterator[Problem]:
    """Yield a problem for every rule that *pod* breaks."""
    yield from (Problem("/id", error) for error in errors_of(pod.id))
    if not pod.containers:
        yield Problem("/containers", "must not be empty")
    yield from unique("/containers", (c.name for c in pod.containers))
    for index, container in enumerate(pod.containers):
        yield from _container(pod, container, f"/containers({index})")
    yield from _networks(pod)
    yield from _endpoints(pod)
    yield from _volumes(pod)
    yield from _scheduling(pod)
    if pod.is_resident:
        yield from _resident(pod)
    yield from _environment(pod, pod.environment, "/environment")
    for name, secret in pod.secrets.items():
        if not name or not secret.source:
            yield Problem(f"/secrets/{name}", "needs a name and a source")
    extra = pod.executor_resources
    for key, value in (("cpus", extra.cpus), ("mem", extra.mem), ("disk", extra.disk)):
        yield from _bounded(f"/executorResources/{key}", value)
    if pod.role not in ("*", top_of(pod.id)):
        yield Problem("/role", f"{pod.role!r} is neither '*' nor the group's")


def _container(pod: Pod, container: PodContainer, at: str) -> Iterator[Problem]:
    if not _LABEL.fullmatch(container.name):
        yield Problem(f"{at}/name", f"must fully match regular expression '{_LABEL.pattern}'")
    if container.exec is None and container.image is None:
        yield Problem(at, "must have an exec or an image")
    if container.exec is not None:
        yield from _command(container.exec.command, f"{at}/exec/command")
    image = container.image
    if image is not None and image.kind != "DOCKER":
        yield Problem(f"{at}/image/kind", f"{image.kind!r}: only DOCKER is supported")
    if image is not None and not image.id:
        yield Problem(f"{at}/image/id", "must not be empty")
    pull = None if image is None else image.pull_config
    if pull is not None and pull.secret not in pod.secrets:
        words = f"references the undeclared secret '{pull.secret}'"
        yield Problem(f"{at}/image/pullConfig/secret", words)
    yield from _resources(pod, container, at)
    yield from _environment(pod, container.environment, f"{at}/environment")
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
        yield from _bounded(key, lifecycle.kill_grace_period_seconds)


def _resources(pod: Pod, container: PodContainer, at: str) -> Iterator[Problem]:
    asked = container.resources
    amounts = {"cpus": asked.cpus, "mem": asked.mem, "disk": asked.disk, "gpus": asked.gpus}
    for key, value in amounts.items():
        yield from _bounded(f"{at}/resources/{key}", value)
    limits = container.resource_limits
    if limits is None:
        return
    if pod.legacy_shared_cgroups:
        words = "limits need cgroups of each container's own, not legacySharedCgroups"
        yield Problem(f"{at}/resourceLimits", words)
    for key, limit, request in (("cpus", limits.cpus, asked.cpus), ("mem", limits.mem, asked.mem)):
        where = f"{at}/resourceLimits/{key}"
        if isinstance(limit, str):
            if limit != "unlimited":
                yield Problem(where, "is neither a number nor 'unlimited'")
        elif limit is not None and not request <= limit <= MOST:
            yield Problem(where, f"got {limit:g}, expected {request:g} or more")


def _command(command: ExecCommand, at: str) -> Iterator[Problem]:
    if (not command.shell) == (not command.argv):
        yield Problem(at, "must have either a shell or an argv")


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
        yield from _command(check.exec.command, f"{at}/exec/command")
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
        yield from _bounded(f"{at}/{key}", value)


def _networks(pod: Pod) -> Iterator[Problem]:
    modes = {network.mode for network in pod.networks}
    if len(pod.networks) > 1 and modes != {NetworkMode.CONTAINER}:
        yield Problem(
            "/networks",
            "Must either contain a single host or container/bridge network, or one or more"
            " container networks",
        )
    for index, network in enumerate(pod.networks):
        at = f"/networks({index})"
        if network.mode is not NetworkMode.CONTAINER:
            if network.name is not None:
                yield Problem(f"{at}/name", "only a container network takes a name")
        elif not network.name:
            words = "Network name must be specified when container network is selected."
            yield Problem(at, words)
    yield from unique("/networks", (n.name for n in pod.networks if n.name))


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


def _resident(pod: Pod) -> Iterator[Problem]:
    if pod.role == "*":
        yield Problem("/role", "must not be '*' with persistent volumes, which are reserved")
    if pod.upgrade_strategy.maximum_over_capacity != 0:
        at = "/scheduling/upgrade/maximumOverCapacity"
        yield Problem(at, "must be 0 for persistent volumes")
    if len({*(pod.accepted_resource_roles or ())}) > 1:
        words = "must not mix reserved and unreserved resources with persistent volumes"
        yield Problem("/scheduling/placement/acceptedResourceRoles", words)


def _scheduling(pod: Pod) -> Iterator[Problem]:
    scheduling = pod.scheduling
    if pod.scaling.kind != "fixed":
        yield Problem("/scaling/kind", f"{pod.scaling.kind!r}: only fixed is supported")
    if not 0 <= pod.instances <= MOST_INSTANCES:
        yield Problem("/scaling/instances", f"got {pod.instances}, expected 0 to {MOST_INSTANCES}")
    for index, constraint in enumerate(pod.constraints):
        at = f"/scheduling/placement/constraints({index})"
        yield from (Problem(at, error) for error in constraint_errors(constraint))
    for role in pod.accepted_resource_roles or ():
        if role not in ("*", pod.role):
            at = "/scheduling/placement/acceptedResourceRoles"
            yield Problem(at, f"{role!r} is neither '*' nor {pod.role!r}")
    backoff, at = scheduling.backoff, "/scheduling/backoff"
    yield from _bounded(f"{at}/backoff", backoff.backoff)
    yield from _bounded(f"{at}/maxLaunchDelay", backoff.max_launch_delay)
    if not 1.0 <= backoff.backoff_factor < 1e6:
        yield Problem(
            f"{at}/backoffFactor", f"got {backoff.backoff_factor:g}, expected 1.0 or more"
        )
    upgrade = scheduling.upgrade
    shares = {
        "minimumHealthCapacity": upgrade.minimum_health_capacity,
        "maximumOverCapacity": upgrade.maximum_over_capacity,
    }
    for key, share in shares.items():
        if not 0 <= share <= 1:
            yield Problem(f"/scheduling/upgrade/{key}", f"got {share:g}, expected 0 to 1")
    strategy, at = scheduling.unreachable_strategy, "/scheduling/unreachableStrategy"
    if isinstance(strategy, str):
        if strategy != "disabled":
            yield Problem(at, "is neither an object nor 'disabled'")
    else:
        yield from _unreachable(strategy, at)


def _unreachable(strategy: UnreachableStrategy, at: str) -> Iterator[Problem]:
    if not 0 <= strategy.inactive_after_seconds <= strategy.expunge_after_seconds <= MOST:
        yield Problem(at, "inactiveAfterSeconds must be between 0 and expungeAfterSeconds")


def _environment(pod: Pod, environment: dict[str, str | EnvSecret], at: str) -> Iterator[Problem]:
    for name, value in environment.items():
        if isinstance(value, EnvSecret) and value.secret not in pod.secrets:
            yield Problem(f"{at}/{name}", f"references the undeclared secret '{value.secret}'")


def _bounded(path: str, value: float) -> Iterator[Problem]:
    if not 0 <= value <= MOST:
        yield Problem(path, f"got {value:g}, expected 0 to {MOST:g}")
