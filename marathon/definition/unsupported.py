"""What this build can't honour: it is refused, since ignoring it would change what happens."""

from collections.abc import Iterator, Mapping
from typing import Any

from phalanx.marathon.definition.problem import Problem

Json = Mapping[str, Any]

# Keys whose presence, with anything but an empty value, asks for what is not here.
_APP_KEYS = {
    "secrets": "secrets are not supported",
    "readinessChecks": "readiness checks are not supported",
    "check": "checks are not supported; use healthChecks",
    "resourceLimits": "resource limits are not supported",
    "executorResources": "custom executors are not supported",
    "tty": "terminals are not supported",
}
_DOCKER_KEYS = {
    "privileged": "is only supported by the Docker containerizer",
    "parameters": "is only supported by the Docker containerizer",
    "pullConfig": "secrets are not supported",
    "credential": "is no longer supported",
}
_VOLUME_KEYS = {
    "persistent": "persistent volumes are not supported",
    "external": "external volumes are not supported",
    "secret": "secrets are not supported",
}


def unsupported(raw: Json) -> Iterator[Problem]:
    """Yield a problem for everything in *raw* that this build can't honour."""
    yield from _present(raw, _APP_KEYS, "")
    if raw.get("gpus"):
        yield Problem("/gpus", "GPUs are not supported")
    if raw.get("executor") not in (None, "", "//cmd"):
        yield Problem("/executor", "custom executors are not supported")
    environment = raw.get("env")
    if isinstance(environment, dict):
        for name, value in environment.items():
            if isinstance(value, dict):
                yield Problem(f"/env/{name}", "secrets are not supported")
    container = raw.get("container")
    if isinstance(container, dict):
        yield from _in_container(container)


def _in_container(container: Json) -> Iterator[Problem]:
    docker = container.get("docker")
    kind = container.get("type", "DOCKER" if docker else "MESOS")
    if kind == "DOCKER":
        yield Problem("/container/type", "the Docker containerizer is not supported; use MESOS")
    elif kind != "MESOS":
        yield Problem("/container/type", f"{kind!r} is neither MESOS nor DOCKER")
    if isinstance(docker, dict):
        yield from _present(docker, _DOCKER_KEYS, "/container/docker")
    if container.get("linuxInfo"):
        yield Problem("/container/linuxInfo", "is not supported")
    volumes = container.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        if isinstance(volume, dict):
            yield from _present(volume, _VOLUME_KEYS, f"/container/volumes({index})")


def _present(raw: Json, keys: Mapping[str, str], at: str) -> Iterator[Problem]:
    for key, error in keys.items():
        if raw.get(key):
            yield Problem(f"{at}/{key}", error)
