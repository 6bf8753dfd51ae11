"""What this build can't honour: it is refused, since ignoring it would change what happens."""

from collections.abc import Iterator, Mapping
from typing import Any

from phalanx.marathon.definition.problem import Problem

Json = Mapping[str, Any]

# Keys whose presence, with anything but an empty value, asks for what is not here.
_APP_KEYS = {
    "executorResources": "custom executors are not supported",
}
_DOCKER_KEYS = {
    "pullConfig": "images come from the agents' own directory; they need no credentials",
    "credential": "is no longer supported",
}
_VOLUME_KEYS = {
    "external": "feature external_volumes is not enabled: external volumes are not supported",
}


def unsupported(raw: Json) -> Iterator[Problem]:
    """Yield a problem for everything in *raw* that this build can't honour."""
    yield from _present(raw, _APP_KEYS, "")
    if raw.get("executor") not in (None, "", "//cmd"):
        yield Problem("/executor", "custom executors are not supported")
    container = raw.get("container")
    if isinstance(container, dict):
        yield from _in_container(container)


def _in_container(container: Json) -> Iterator[Problem]:
    docker = container.get("docker")
    if isinstance(docker, dict):
        yield from _present(docker, _DOCKER_KEYS, "/container/docker")
    volumes = container.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        if isinstance(volume, dict):
            yield from _present(volume, _VOLUME_KEYS, f"/container/volumes({index})")


def _present(raw: Json, keys: Mapping[str, str], at: str) -> Iterator[Problem]:
    for key, error in keys.items():
        if raw.get(key):
            yield Problem(f"{at}/{key}", error)
