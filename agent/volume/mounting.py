"""Make a container's volumes ready, and say to runc how they are mounted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phalanx.agent.bundle.mount import PRIVATE, is_below
from phalanx.agent.bundle.secret import Secrets
from phalanx.agent.bundle.spec import User, escaped
from phalanx.agent.image.store import Images
from phalanx.agent.volume.plan import Wanted
from phalanx.core.error import ContainerError


@dataclass(frozen=True, slots=True)
class Volumes:
    """How this agent makes volumes ready."""

    images: Images
    secrets: Secrets
    forced: tuple[str, ...] = ()  # directories below which missing host paths are made

    async def ready(
        self, wanted: Sequence[Wanted], run: Path, user: User
    ) -> tuple[dict[str, Any], ...]:
        """Return the mounts of the volumes, in their order; raise ContainerError.

        What is made for them is below the run directory *run*.
        """
        found = []
        for number, volume in enumerate(wanted):
            found.append(await self._ready(volume, run / "volumes" / str(number), user))
        return tuple(found)

    async def _ready(self, volume: Wanted, place: Path, user: User) -> dict[str, Any]:
        if volume.kind == "image":
            return await self._image(volume, place)
        if volume.kind == "secret" and volume.secret is not None:
            return _bind(self._secret(volume, place, user), volume)
        if volume.kind == "host":
            self._host(volume)
        elif volume.kind == "sandbox":
            _own(volume, user)
        elif not os.path.isdir(volume.source):
            raise ContainerError(f"persistent volume {volume.source!r}: does not exist")
        elif not volume.is_shared and volume.mode == "rw":
            os.chown(volume.source, user.uid, user.gid)
        return _bind(volume.source, volume)

    async def _image(self, volume: Wanted, place: Path) -> dict[str, Any]:
        image = await self.images.provision(volume.source, is_cached=volume.is_cached)
        if volume.mode == "ro":
            return _bind(str(image.rootfs), volume)
        layers = {"lowerdir": str(image.rootfs)}
        for key, name in (("upperdir", "upper"), ("workdir", "work")):
            layers[key] = str(place / name)
            (place / name).mkdir(parents=True, exist_ok=True)
        options = [f"{key}={escaped(path)}" for key, path in layers.items()]
        return {
            "destination": volume.target,
            "type": "overlay",
            "source": "overlay",
            "options": options,
        }

    def _secret(self, volume: Wanted, place: Path, user: User) -> str:
        """Write a secret where only its user may read it."""
        if volume.secret is None:
            raise ContainerError(f"volume {volume.target!r}: source.secret: is missing")
        content = self.secrets.resolve(volume.secret)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, user.uid, user.gid)
            file.write(content)
        return str(place)

    def _host(self, volume: Wanted) -> None:
        """See to it that the host's path is there."""
        if os.path.exists(volume.source):
            return
        path = Path(volume.source)
        if not any(path.is_relative_to(top) for top in self.forced) or ".." in path.parts:
            raise ContainerError(
                f"volume {volume.target!r}: host path {volume.source!r}: does not exist"
            )
        path.mkdir(parents=True)


def check_targets(wanted: Sequence[Wanted], sandbox: str) -> None:
    """Raise ContainerError for a place that is not there in a root that is the host's.

    Below the sandbox it is made; anywhere else making it would change the host (reference
    mesos §6.2), and so it would where a link in the sandbox leads out of it.
    """
    top = os.path.realpath(sandbox)
    for volume in wanted:
        if not is_below(volume.target, (sandbox,)):
            if not is_below(volume.target, PRIVATE) and not os.path.exists(volume.target):
                raise ContainerError(f"volume {volume.target!r}: is not there on the host")
        elif os.path.commonpath([os.path.realpath(volume.target), top]) != top:
            raise ContainerError(f"volume {volume.target!r}: leads out of the sandbox")


def _own(volume: Wanted, user: User) -> None:
    """Make a directory of a sandbox unless it is there; a link out of the sandbox is refused."""
    top = os.path.realpath(volume.top)
    if os.path.commonpath([os.path.realpath(volume.source), top]) != top:
        raise ContainerError(f"volume {volume.target!r}: leads out of the sandbox")
    here = Path(top)
    for part in Path(volume.source).relative_to(volume.top).parts:
        here = here / part
        if not here.exists():
            here.mkdir()
            os.chown(here, user.uid, user.gid, follow_symlinks=False)


def _bind(source: str, volume: Wanted) -> dict[str, Any]:
    options = ["rbind", volume.mode]
    if volume.propagation is not None:
        options.append(volume.propagation)
    return {"destination": volume.target, "source": source, "type": "bind", "options": options}
