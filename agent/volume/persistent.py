"""Persistent volumes: where they are, making them, and removing them for good (mesos §4.7)."""

import os
import shutil
from pathlib import Path, PurePosixPath

from phalanx.core.error import ContainerError
from phalanx.core.files import sync_directory
from phalanx.mesos.v1.mesos import Resource

ROLE_SEPARATOR = " "  # a role's slashes, in a directory's name


def path_of(resource: Resource, work: str) -> str:
    """Return the directory of a persistent volume; raise ContainerError for what is none.

    On a MOUNT disk it is the whole disk, else a directory below the disk's root or
    the agent's work directory.
    """
    disk = resource.disk
    if disk is None or disk.persistence is None:
        raise ContainerError("resource: is no persistent volume")
    name = disk.persistence.id
    if not name or "/" in name or "\0" in name or name in (".", ".."):
        raise ContainerError(f"disk.persistence.id: {name!r}: is not allowed")
    source = disk.source
    top = work
    if source is not None and source.type == "MOUNT":
        if source.mount is None or not source.mount.root:
            raise ContainerError("disk.source.mount: has no root")
        return str(PurePosixPath(work, source.mount.root))
    if source is not None and source.type == "PATH":
        root = source.path.root if source.path else None
        top = str(PurePosixPath(work, root or ""))
    elif source is not None:
        raise ContainerError(f"disk.source.type: {source.type!r}: is not supported")
    role = _role(resource).replace("/", ROLE_SEPARATOR)
    return str(PurePosixPath(top, "volumes", "roles", role, name))


def _role(resource: Resource) -> str:
    reservations = resource.reservations
    return (reservations[-1].role if reservations else resource.role) or "*"


def create_volume(resource: Resource, work: str) -> None:
    """Make a volume's directory, empty, and durable; one that is there stays.

    Raises ContainerError where it can't be made.
    """
    path = Path(path_of(resource, work))
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        for parent in (path, *path.parents[:2]):
            sync_directory(parent)
    except OSError as error:
        raise ContainerError(f"volume {str(path)!r}: {error.strerror}") from error


def destroy_volume(resource: Resource, work: str) -> None:
    """Remove a volume with all that is in it; one that is not there is fine.

    Of a MOUNT disk only the content goes. Raises ContainerError where anything stays.
    """
    path = Path(path_of(resource, work))
    source = resource.disk.source if resource.disk else None
    try:
        if source is not None and source.type == "MOUNT":
            for child in path.iterdir():
                _remove(child)
        elif path.exists():
            _remove(path)
            sync_directory(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ContainerError(f"volume {str(path)!r}: {error.strerror}") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)
