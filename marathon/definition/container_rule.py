"""The rules of containers, images and volumes (reference marathon §1.3)."""

import re
from collections.abc import Iterator

from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.definition.spec_rule import MOST, secret_problems
from phalanx.marathon.model.app import App, Image
from phalanx.marathon.model.volume import ExternalVolume, PersistentVolume, Volume
from phalanx.marathon.schedule.task import DRIVER_OPTION

DISK_TYPES = ("root", "path", "mount")


def container_problems(app: App) -> Iterator[Problem]:
    """Yield what is wrong with an app's container, its image and its volumes."""
    container = app.container
    if container is None:
        return
    for index, volume in enumerate(container.volumes):
        at = f"/container/volumes({index})"
        yield from _volume(volume, at)
        yield from secret_problems(volume.secret, app.secrets, at)
    if container.type not in ("DOCKER", "MESOS"):
        yield Problem("/container/type", f"{container.type!r} is neither MESOS nor DOCKER")
    image, linux = container.docker, container.linux_info
    if container.is_docker:
        if image is None:
            yield Problem("/container/docker", "must be set for type DOCKER")
        if len(app.networks) > 1:
            yield Problem("/networks", "a Docker container can be on one network only")
        if linux is not None:
            yield Problem("/container/linuxInfo", "is only supported by the Mesos containerizer")
    if image is not None:
        yield from _image(app, image)
    if linux is not None and linux.ipc_info is not None:
        if linux.ipc_info.mode not in ("PRIVATE", "SHARE_PARENT"):
            at = "/container/linuxInfo/ipcInfo/mode"
            yield Problem(at, "is neither PRIVATE nor SHARE_PARENT")
        elif linux.ipc_info.shm_size is not None and linux.ipc_info.mode != "PRIVATE":
            yield Problem("/container/linuxInfo/ipcInfo/shmSize", "needs the mode PRIVATE")
    if container.is_docker and container.persistent_volumes:
        yield Problem("/container/type", "persistent volumes need the Mesos containerizer")
    yield from _external(app)


def _image(app: App, image: Image) -> Iterator[Problem]:
    at = "/container/docker"
    is_docker = app.container is not None and app.container.is_docker
    if not image.image:
        yield Problem(f"{at}/image", "must not be empty")
    if not is_docker and (image.privileged or image.parameters):
        yield Problem(at, "privileged and parameters are only supported for type DOCKER")
    pull = image.pull_config
    if pull is None:
        return
    if is_docker:
        words = "pullConfig is not supported with DOCKER containerizer"
        yield Problem(f"{at}/pullConfig", words)
    yield from secret_problems(pull.secret, app.secrets, f"{at}/pullConfig/secret")


def _volume(volume: Volume, at: str) -> Iterator[Problem]:
    if volume.mode not in ("RO", "RW"):
        yield Problem(f"{at}/mode", "is neither RO nor RW")
    if not volume.container_path:
        yield Problem(f"{at}/containerPath", "must not be empty")
    given = (volume.host_path, volume.secret, volume.persistent, volume.external)
    if sum(part is not None for part in given) != 1:
        words = "must have either a hostPath, a secret, a persistent or an external volume"
        yield Problem(at, words)
    if volume.persistent is not None:
        if volume.mode != "RW":
            yield Problem(f"{at}/mode", "must be RW for a persistent volume")
        if "/" in volume.container_path:
            yield Problem(f"{at}/containerPath", "must not contain / for a persistent volume")
        yield from persistent_problems(volume.persistent, f"{at}/persistent")
    if volume.external is not None:
        yield from _provided(volume.external, f"{at}/external")


def persistent_problems(kept: PersistentVolume, at: str) -> Iterator[Problem]:
    """Yield what is wrong with a persistent volume of an app or a pod."""
    if not 0 < kept.size <= MOST:
        yield Problem(f"{at}/size", f"got {kept.size}, expected more than 0")
    if kept.type not in DISK_TYPES:
        yield Problem(f"{at}/type", f"{kept.type!r} is none of root, path and mount")
    if kept.max_size is not None:
        if kept.type != "mount":
            yield Problem(f"{at}/maxSize", "Only mount volumes can have maxSize")
        elif kept.max_size <= kept.size:
            yield Problem(f"{at}/maxSize", f"got {kept.max_size}, expected more than {kept.size}")
    if kept.profile_name is not None and kept.type != "mount":
        yield Problem(f"{at}/profileName", "Only mount volumes can have profileName")
    if kept.constraints and kept.type == "root":
        yield Problem(f"{at}/constraints", "Constraints on root volumes are not supported")
    for index, constraint in enumerate(kept.constraints):
        yield from (
            Problem(f"{at}/constraints({index})", error) for error in _disk_errors(constraint)
        )


def _disk_errors(constraint: tuple[str, ...]) -> Iterator[str]:
    if len(constraint) != 3 or constraint[0] != "path" or constraint[1] not in ("LIKE", "UNLIKE"):
        yield "must be path, LIKE or UNLIKE, and a regular expression"
        return
    try:
        re.compile(constraint[2])
    except re.error as error:
        yield f"'{constraint[2]}' is not a valid regular expression: {error}"


def _provided(volume: ExternalVolume, at: str) -> Iterator[Problem]:
    if volume.provider != "dvdi":
        yield Problem(f"{at}/provider", f"is unknown provider '{volume.provider}'")
    if not volume.name:
        yield Problem(f"{at}/name", "must not be empty")
    if not volume.options.get(DRIVER_OPTION):
        yield Problem(f"{at}/options", f"must contain the option {DRIVER_OPTION}")
    if volume.size is not None and not 0 < volume.size <= MOST:
        yield Problem(f"{at}/size", f"got {volume.size}, expected more than 0")


def _external(app: App) -> Iterator[Problem]:
    """Yield what external volumes ask of the whole app."""
    volumes = app.external_volumes
    own = [volume.name for volume in volumes if not volume.shared]
    yield from unique("/container/volumes", own)
    if own and app.instances > 1:
        words = "must not be greater than 1 with an external volume that is not shared"
        yield Problem("/instances", words)
    if volumes and app.upgrade_strategy.maximum_over_capacity != 0 and own:
        yield Problem("/upgradeStrategy/maximumOverCapacity", "must be 0 for external volumes")
    if volumes and app.container is not None and app.container.is_docker:
        if any(volume.size is not None for volume in volumes):
            yield Problem("/container/volumes", "size is not supported with DOCKER containerizer")
        if len({volume.options.get(DRIVER_OPTION) for volume in volumes}) > 1:
            yield Problem("/container/volumes", "a Docker container takes one volume driver only")
