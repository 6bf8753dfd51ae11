"""The directories of persistent volumes (reference mesos §4.7): made and removed."""

import os
import shutil
from pathlib import Path

from phalanx.agent.layout import checked_id
from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import Operation, Resource

MODE = 0o755


def volume_path(work: Path, volume: Resource) -> Path:
    """Return where a persistent volume lies; raise InvalidError for a resource that is none."""
    persistence = volume.disk.persistence if volume.disk is not None else None
    if volume.disk is None or persistence is None:
        raise InvalidError(f"resource {volume.name!r}: is no persistent volume")
    root, source = work, volume.disk.source
    if source is not None and source.type == "MOUNT" and source.mount is not None:
        return Path(source.mount.root or "/")
    if source is not None and source.type == "PATH" and source.path is not None:
        given = Path(source.path.root or ".")
        root = given if given.is_absolute() else work / given
    reserved = volume.reservations[-1].role if volume.reservations else volume.role
    role = (reserved or "*").replace("/", " ")
    return root / "volumes" / "roles" / checked_id(role) / checked_id(persistence.id)


def carry_out(work: Path, operation: Operation) -> None:
    """Make or remove the directories of an operation's volumes; raise OSError, InvalidError.

    A mounted disk stays, what is on it goes.
    """
    if operation.create is not None:
        for volume in operation.create.volumes:
            path = volume_path(work, volume)
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(MODE)
    if operation.destroy is not None:
        for volume in operation.destroy.volumes:
            _remove(volume_path(work, volume), is_mount=_is_mount(volume))


def _is_mount(volume: Resource) -> bool:
    source = volume.disk.source if volume.disk is not None else None
    return source is not None and source.type == "MOUNT"


def _remove(path: Path, *, is_mount: bool) -> None:
    if not path.is_dir():
        return
    if not is_mount:
        shutil.rmtree(path)
        return
    for child in os.scandir(path):
        if child.is_dir(follow_symlinks=False):
            shutil.rmtree(child.path)
        else:
            os.unlink(child.path)
