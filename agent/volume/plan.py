"""From what a container asks for to the volumes that it gets (reference mesos §6.2); pure."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.volume.persistent import path_of
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import Resource, Secret, Volume

PROPAGATIONS = {"HOST_TO_CONTAINER": "rslave", "BIDIRECTIONAL": "rshared"}

Kind = Literal["host", "sandbox", "image", "secret", "persistent"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One volume: where it is in the container, and what is there.

    *source* is a path of the host, or the name of an image. A sandbox's volume
    must not lead out of *top*.
    """

    kind: Kind
    target: str
    mode: str  # ro or rw
    source: str = ""
    propagation: str | None = None
    secret: Secret | None = None
    top: str = ""
    is_shared: bool = False
    is_cached: bool = True


def wanted_volumes(request: ContainerRequest, inside: str, work: str) -> tuple[Wanted, ...]:
    """Return a container's volumes; raise ContainerError for what can't be one.

    *inside* is the sandbox as the container sees it, *work* the agent's directory.
    """
    asked = request.container.volumes if request.container else ()
    found = [
        _of_parent(volume, request, inside, work) or _wanted(volume, request, inside)
        for volume in asked
    ]
    found += [
        _persistent(resource, inside, work) for resource in request.resources.volumes.messages()
    ]
    return tuple(found)


def _of_parent(volume: Volume, request: ContainerRequest, inside: str, work: str) -> Wanted | None:
    """Return a persistent volume of the parent that a path of its sandbox names; None for others.

    It is mounted only in the parent, so that the sandbox itself has an empty directory there.
    """
    own = volume.source.sandbox_path if volume.source is not None else None
    if own is None or own.type != "PARENT":
        return None
    for resource in request.parent_volumes.messages():
        kept = resource.disk.volume if resource.disk else None
        if kept is not None and PurePosixPath(kept.container_path) == PurePosixPath(own.path):
            mode = _mode(volume) if kept.mode == "RW" else "ro"
            return Wanted("persistent", _target(volume, inside), mode, path_of(resource, work))
    return None


def _wanted(volume: Volume, request: ContainerRequest, inside: str) -> Wanted:
    target, mode = _target(volume, inside), _mode(volume)
    sandbox = str(request.sandbox)
    source = volume.source
    given = sum(item is not None for item in (volume.host_path, volume.image, source))
    if given != 1:
        raise _refusal(volume, "needs one of host_path, image and source")
    if volume.host_path is not None:
        return _of_path(volume.host_path, target, mode, sandbox)
    if volume.image is not None:
        image = volume.image
        if image.docker is None:
            raise _refusal(volume, f"image: {image.type!r}: only DOCKER is supported")
        return Wanted("image", target, mode, image.docker.name, is_cached=image.cached)
    if source is not None and source.host_path is not None:
        host = source.host_path
        asked = host.mount_propagation.mode if host.mount_propagation else None
        propagation = PROPAGATIONS.get(asked or "")
        path = PurePosixPath(host.path)
        if not path.is_absolute() and propagation is not None:
            raise _refusal(volume, "source.host_path: is relative, so it can't be propagated")
        found = _of_path(host.path, target, mode, sandbox)
        return Wanted(found.kind, target, mode, found.source, propagation, top=found.top)
    if source is not None and source.sandbox_path is not None:
        own = source.sandbox_path
        if PurePosixPath(own.path).is_absolute() or ".." in PurePosixPath(own.path).parts:
            raise _refusal(volume, f"source.sandbox_path.path: {own.path!r}: is not in a sandbox")
        if own.type == "PARENT":
            if request.parent is None:
                raise _refusal(volume, "source.sandbox_path: PARENT: there is no parent")
            sandbox = str(PurePosixPath(sandbox).parent.parent)
        elif own.type != "SELF":
            raise _refusal(volume, f"source.sandbox_path.type: {own.type!r}: is unknown")
        return Wanted("sandbox", target, mode, str(PurePosixPath(sandbox, own.path)), top=sandbox)
    if source is not None and source.secret is not None:
        return Wanted("secret", target, "ro", secret=source.secret)
    if source is not None and source.docker_volume is not None:
        driver = source.docker_volume.driver
        words = "only the Docker containerizer mounts volumes of drivers"
        raise _refusal(volume, f"source.docker_volume: driver {driver!r}: {words}")
    kind = source.type if source is not None else None
    raise _refusal(volume, f"source: {kind!r}: is not supported")


def _of_path(path: str, target: str, mode: str, sandbox: str) -> Wanted:
    """Return a volume of the host; a relative path is one in the sandbox."""
    if PurePosixPath(path).is_absolute():
        return Wanted("host", target, mode, path)
    return Wanted("sandbox", target, mode, str(PurePosixPath(sandbox, path)), top=sandbox)


def _persistent(resource: Resource, inside: str, work: str) -> Wanted:
    disk = resource.disk
    volume = disk.volume if disk else None
    if volume is None:
        raise ContainerError("resources: a persistent volume has no disk.volume")
    source = path_of(resource, work)
    is_shared = resource.shared is not None
    target, mode = _target(volume, inside), _mode(volume)
    return Wanted("persistent", target, mode, source, is_shared=is_shared)


def _target(volume: Volume, inside: str) -> str:
    path = PurePosixPath(volume.container_path)
    if not volume.container_path or ".." in path.parts or path == PurePosixPath("/"):
        raise _refusal(volume, "container_path: is not allowed")
    return str(PurePosixPath(inside, path))


def _mode(volume: Volume) -> str:
    if volume.mode not in ("RO", "RW"):
        raise _refusal(volume, f"mode: {volume.mode!r}: is neither RO nor RW")
    return volume.mode.lower()


def _refusal(volume: Volume, words: str) -> ContainerError:
    return ContainerError(f"volume {volume.container_path!r}: {words}")
