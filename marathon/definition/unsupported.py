"""What this build can't honour: it is refused, since ignoring it would change what happens."""

from collections.abc import Iterator, Mapping
from typing import Any

from phalanx.marathon.definition.problem import Problem

Json = Mapping[str, Any]

_CSI = "provider csi is not supported: agents here have no storage plug-ins"


def unsupported(raw: Json) -> Iterator[Problem]:
    """Yield a problem for everything in *raw* that this build can't honour."""
    container = raw.get("container")
    if not isinstance(container, dict):
        return
    docker = container.get("docker")
    if isinstance(docker, dict) and docker.get("credential"):
        yield Problem("/container/docker/credential", "is no longer supported")
    volumes = container.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        external = volume.get("external") if isinstance(volume, dict) else None
        if isinstance(external, dict) and external.get("provider") == "csi":
            yield Problem(f"/container/volumes({index})/external/provider", _CSI)
