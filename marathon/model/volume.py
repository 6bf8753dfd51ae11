"""Volumes of apps and pods (reference marathon §1.3)."""

import msgspec


class PersistentVolume(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A directory of the agent's that outlives its task; *size* and *max_size* in MiB.

    *type* is ``root``, ``path`` or ``mount``; *constraints* choose the disk by its path.
    """

    size: int
    type: str = "root"
    max_size: int | None = None
    profile_name: str | None = None
    constraints: tuple[tuple[str, ...], ...] = ()


class ExternalVolume(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A volume of a storage provider; *size* in GiB, *options* are the provider's own.

    One that is *shared* may be used by several instances and apps at a time.
    """

    name: str = ""
    provider: str = "dvdi"
    size: int | None = None
    options: dict[str, str] = {}
    shared: bool = False


class Volume(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is at a place of the container: one of the host's directories, a secret, a volume."""

    container_path: str
    host_path: str | None = None
    secret: str | None = None
    persistent: PersistentVolume | None = None
    external: ExternalVolume | None = None
    mode: str = "RW"
