"""The definition of an app, complete and frozen (reference marathon §1.2 to §1.7).

Names in JSON are these in camel case. What this build can't honour has no
field here: ``definition.unsupported`` refuses it.
"""

import enum

import msgspec

from phalanx.marathon.model.check import Check, HealthCheck, ReadinessCheck
from phalanx.marathon.model.network import (
    Network,
    Networked,
    NetworkMode,
    PortDefinition,
    PortMapping,
)
from phalanx.marathon.model.volume import ExternalVolume, Volume

COMMAND_EXECUTOR = "//cmd"  # the other spelling of "", Mesos' own


class Parameter(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An argument of ``docker run``."""

    key: str
    value: str


class PullConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The secret with the credentials of an image's registry."""

    secret: str


class Image(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The image of a container (JSON key ``docker``, also for the Mesos containerizer)."""

    image: str
    force_pull_image: bool = False
    privileged: bool = False
    parameters: tuple[Parameter, ...] = ()
    pull_config: PullConfig | None = None


class Seccomp(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which system calls the container may make: a profile of the agent's, or all."""

    profile_name: str | None = None
    unconfined: bool | None = None


class Ipc(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The container's interprocess communication; *shm_size* in MiB."""

    mode: str
    shm_size: int | None = None


class LinuxSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What only Linux has (JSON key ``linuxInfo``)."""

    seccomp: Seccomp | None = None
    ipc_info: Ipc | None = None


class Container(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the app runs in."""

    type: str = "MESOS"
    docker: Image | None = None
    port_mappings: tuple[PortMapping, ...] | None = None
    volumes: tuple[Volume, ...] = ()
    linux_info: LinuxSettings | None = None

    @property
    def is_docker(self) -> bool:
        """Tell whether the Docker engine runs the container."""
        return self.type == "DOCKER"

    @property
    def persistent_volumes(self) -> tuple[Volume, ...]:
        """Return the volumes that outlive their task."""
        return tuple(volume for volume in self.volumes if volume.persistent is not None)

    @property
    def external_volumes(self) -> tuple[ExternalVolume, ...]:
        """Return the volumes of storage providers."""
        return tuple(v.external for v in self.volumes if v.external is not None)


class SecretSource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where the agent finds a secret in its store."""

    source: str


class EnvSecret(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A variable whose value is a secret that the app declares."""

    secret: str


class ExecutorResources(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What an executor takes beside its tasks; *mem* and *disk* in MiB."""

    cpus: float = 0.1
    mem: float = 32.0
    disk: float = 10.0


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How much more than it asked for a task may use: a number, or ``unlimited``."""

    cpus: float | str | None = None
    mem: float | str | None = None


class Fetch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A file that the agent fetches into the sandbox."""

    uri: str
    extract: bool = True
    executable: bool = False
    cache: bool = False
    dest_path: str | None = None


class UpgradeStrategy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How far capacity may go down and up while instances are replaced."""

    minimum_health_capacity: float = 1.0
    maximum_over_capacity: float = 1.0


class UnreachableStrategy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When an instance on a lost agent is replaced, and when it is forgotten."""

    inactive_after_seconds: int = 0
    expunge_after_seconds: int = 0


class KillSelection(enum.StrEnum):
    """Which instance goes first."""

    YOUNGEST_FIRST = "YOUNGEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


class VersionInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """When the app was last scaled, and last changed otherwise."""

    last_scaling_at: str
    last_config_change_at: str


class App(Networked, msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One app, with every default filled in."""

    id: str
    cmd: str | None = None
    args: tuple[str, ...] = ()
    user: str | None = None
    container: Container | None = None
    instances: int = 1
    cpus: float = 1.0
    mem: float = 128.0
    disk: float = 0.0
    gpus: int = 0
    executor: str = ""
    executor_resources: ExecutorResources | None = None
    env: dict[str, str | EnvSecret] = {}
    secrets: dict[str, SecretSource] = {}
    resource_limits: ResourceLimits | None = None
    tty: bool | None = None
    check: Check | None = None
    labels: dict[str, str] = {}
    role: str = "*"
    accepted_resource_roles: tuple[str, ...] | None = None
    constraints: tuple[tuple[str, ...], ...] = ()
    fetch: tuple[Fetch, ...] = ()
    dependencies: tuple[str, ...] = ()
    networks: tuple[Network, ...] = (Network(mode=NetworkMode.HOST),)
    port_definitions: tuple[PortDefinition, ...] | None = None
    require_ports: bool = False
    health_checks: tuple[HealthCheck, ...] = ()
    readiness_checks: tuple[ReadinessCheck, ...] = ()
    backoff_seconds: float = 1.0
    backoff_factor: float = 1.15
    max_launch_delay_seconds: float = 300.0
    upgrade_strategy: UpgradeStrategy = UpgradeStrategy()
    kill_selection: KillSelection = KillSelection.YOUNGEST_FIRST
    unreachable_strategy: UnreachableStrategy | str = UnreachableStrategy()
    task_kill_grace_period_seconds: float | None = None
    version: str = ""
    version_info: VersionInfo | None = None

    @property
    def mappings(self) -> tuple[PortMapping, ...]:
        """Return the port mappings; none in host mode."""
        container = self.container
        return () if container is None else container.port_mappings or ()

    @property
    def persistent_volumes(self) -> tuple[Volume, ...]:
        """Return the volumes that outlive a task."""
        return () if self.container is None else self.container.persistent_volumes

    @property
    def external_volumes(self) -> tuple[ExternalVolume, ...]:
        """Return the volumes of storage providers."""
        return () if self.container is None else self.container.external_volumes

    @property
    def has_own_executor(self) -> bool:
        """Tell whether an executor of the user's runs the tasks, not Mesos' own."""
        return self.executor not in ("", COMMAND_EXECUTOR)

    @property
    def is_resident(self) -> bool:
        """Tell whether the app's instances keep volumes, and so their agents."""
        return bool(self.persistent_volumes)

    @property
    def config_version(self) -> str:
        """Return the version of the last change other than scaling."""
        info = self.version_info
        return self.version if info is None else info.last_config_change_at

    @property
    def config(self) -> "App":
        """Return what is left of the definition without the number of instances and versions."""
        return msgspec.structs.replace(self, instances=0, version="", version_info=None)
