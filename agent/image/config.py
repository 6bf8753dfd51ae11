"""What an image says of how it is run (OCI image configuration); pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phalanx.core.error import ContainerError


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The parts of an image's configuration that are honoured."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    working_dir: str | None = None
    user: str | None = None


def parse_config(raw: Mapping[str, Any]) -> ImageConfig:
    """Return the configuration that *raw*, parsed JSON, says; raise ContainerError."""
    found = raw.get("config") or {}
    if not isinstance(found, dict):
        raise ContainerError("image configuration: config: is not an object")
    pairs = (text.partition("=") for text in _words(found, "Env"))
    directory = found.get("WorkingDir") or None
    if directory is not None and not isinstance(directory, str):
        raise ContainerError(f"image configuration: WorkingDir: {directory!r}: is not a path")
    return ImageConfig(
        entrypoint=_words(found, "Entrypoint"),
        cmd=_words(found, "Cmd"),
        environment=tuple((name, value) for name, _, value in pairs if name),
        working_dir=directory,
        user=_user(found),
    )


def _user(found: Mapping[str, Any]) -> str | None:
    user = found.get("User") or None
    if user is not None and not isinstance(user, str):
        raise ContainerError(f"image configuration: User: {user!r}: is not a name")
    return user


def resolve_user(user: str, passwd: str, group: str) -> tuple[int, int]:
    """Return the ids of an image's User, ``NAME[:GROUP]``, by its own tables; pure.

    Raises ContainerError for a name that they don't have.
    """
    name, _, group_name = user.partition(":")
    accounts = [line.split(":") for line in passwd.splitlines()]
    entry = next((row for row in accounts if len(row) > 3 and name in (row[0], row[2])), None)
    if entry is None and not name.isdecimal():
        raise ContainerError(f"image configuration: User: {user!r}: is not in its /etc/passwd")
    uid = int(entry[2]) if entry is not None else int(name)
    gid = int(entry[3]) if entry is not None else 0
    if group_name:
        groups = [line.split(":") for line in group.splitlines()]
        found = next((r for r in groups if len(r) > 2 and group_name in (r[0], r[2])), None)
        if found is None and not group_name.isdecimal():
            raise ContainerError(f"image configuration: User: {user!r}: is not in its /etc/group")
        gid = int(found[2]) if found is not None else int(group_name)
    return uid, gid


def layer_digests(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the digests of an image's layers, lowest first; raise ContainerError."""
    rootfs = raw.get("rootfs")
    digests = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(digests, list) or not all(isinstance(item, str) for item in digests):
        raise ContainerError("image configuration: rootfs.diff_ids: names no layers")
    return tuple(digests)


def image_command(config: ImageConfig, arguments: tuple[str, ...]) -> list[str]:
    """Return the words to execute when a task names no command of its own (mesos §6.4).

    Arguments take the place of the image's Cmd; without an Entrypoint they follow its
    first word. Raises ContainerError when the image names no program either.
    """
    if config.entrypoint:
        return [*config.entrypoint, *(arguments or config.cmd)]
    if not config.cmd:
        raise ContainerError("command.value: is missing, and the image has no Entrypoint or Cmd")
    return [config.cmd[0], *(arguments or config.cmd[1:])]


def _words(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    words = found.get(key) or ()
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise ContainerError(f"image configuration: {key}: {words!r}: is not a list of words")
    return tuple(words)
