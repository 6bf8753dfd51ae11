"""Who a container's command runs as."""

import os
import pwd
from pathlib import Path

from phalanx.agent.bundle.request import ContainerRequest
from phalanx.agent.bundle.spec import User
from phalanx.agent.container.way import Ways
from phalanx.agent.image.config import resolve_user
from phalanx.agent.image.scope import resolve
from phalanx.agent.image.store import Image
from phalanx.core.error import ContainerError


def run_as(request: ContainerRequest, image: Image | None, ways: Ways) -> User:
    """Return who a container's command runs as; an image's User only where that is set."""
    is_named = request.command is not None and request.command.user is not None
    if image is None or image.config.user is None or is_named or not ways.takes_image_user:
        return user_of(request.user, ways)
    tables = [_table(image.rootfs, name) for name in ("passwd", "group")]
    return User(*resolve_user(image.config.user, *tables))


def user_of(name: str | None, ways: Ways) -> User:
    """Return who *name* is, or the agent's own user where that is not to be switched."""
    if name is None or not ways.switches_user:
        return User(os.getuid(), os.getgid(), tuple(os.getgroups()))
    return find_user(name)


def find_user(name: str) -> User:
    """Return who a name of this machine is; raise ContainerError."""
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise ContainerError(f"user: {name!r}: is not known on this machine") from error
    return User(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid)))


def _table(root: Path, name: str) -> str:
    """Return a table of an image's accounts; none there is empty."""
    place = resolve(root, ("etc",)) / name
    try:
        return "" if place.is_symlink() else place.read_text(errors="replace")
    except OSError:
        return ""
