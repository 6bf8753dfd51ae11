"""The definition of a pod, complete and frozen (reference marathon §1.10).

A pod is a group of containers that share an agent, their networks and their volumes, and that
start and end together. What the scheduler asks of an app it asks of a pod by the same names.
"""

import msgspec

from phalanx.marathon.model.app import (
    EnvSecret,
    ExecutorResources,
    Fetch,
    KillSelection,
    LinuxSettings,
    PullConfig,
    ResourceLimits,
    SecretSource,
    UnreachableStrategy,
    UpgradeStrategy,
    VersionInfo,
)
from phalanx.marathon.model.check import ExecCheck, ExecCommand
from phalanx.marathon.model.network import Network, Networked, NetworkMode
from phalanx.marathon.model.volume import PersistentVolume


class PodEndpoint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A port of a container; *host_port* 0 is any of the agent's, None none at all."""

    name: str
    container_port: int | None = None
    host_port: int | None = None
    protocol: tuple[str, ...] = ("tcp",)
    labels: dict[str, str] = {}
    network_names: tuple[str, ...] = ()


class PodResources(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one container takes; *mem* and *disk* in MiB."""

    cpus: float = 1.0
    mem: float = 128.0
    disk: float = 0.0
    gpus: int = 0


class PodImage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The image of a container."""

    kind: str
    id: str
    force_pull: bool = False
    pull_config: PullConfig | None = None
    labels: dict[str, str] = {}


class PodExec(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The command of a container, in place of its image's or as arguments of it."""

    command: ExecCommand
    override_entrypoint: bool | None = None


class PodHttp(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request to an endpoint."""

    endpoint: str
    path: str | None = None
    scheme: str = "HTTP"


class PodTcp(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A connection to an endpoint."""

    endpoint: str


class PodHealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The health check of a container, run by the agent."""

    http: PodHttp | None = None
    tcp: PodTcp | None = None
    exec: ExecCheck | None = None
    grace_period_seconds: float = 300
    interval_seconds: float = 60
    max_consecutive_failures: int = 3
    timeout_seconds: float = 20
    delay_seconds: float = 15


class PodCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent looks at and tells, and nobody is killed for."""

    http: PodHttp | None = None
    tcp: PodTcp | None = None
    exec: ExecCheck | None = None
    interval_seconds: float = 60
    timeout_seconds: float = 20
    delay_seconds: float = 15


class VolumeMount(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where a container sees a volume of its pod."""

    name: str
    mount_path: str
    read_only: bool = False


class Lifecycle(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How long a container may take to end by itself."""

    kill_grace_period_seconds: float | None = None


class PodContainer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One container."""

    name: str
    exec: PodExec | None = None
    resources: PodResources = PodResources()
    resource_limits: ResourceLimits | None = None
    endpoints: tuple[PodEndpoint, ...] = ()
    image: PodImage | None = None
    environment: dict[str, str | EnvSecret] = {}
    user: str | None = None
    health_check: PodHealthCheck | None = None
    check: PodCheck | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    artifacts: tuple[Fetch, ...] = ()
    labels: dict[str, str] = {}
    lifecycle: Lifecycle | None = None
    tty: bool | None = None
    linux_info: LinuxSettings | None = None


class PodVolume(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A volume that containers mount: of the pod alone, of the host, a secret, or persistent."""

    name: str
    host: str | None = None
    secret: str | None = None
    persistent: PersistentVolume | None = None


class Scaling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How many instances there shall be."""

    kind: str = "fixed"
    instances: int = 1


class PodBackoff(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How long a pod that fails waits before its next launch, in seconds."""

    backoff: float = 1.0
    backoff_factor: float = 1.15
    max_launch_delay: float = 300.0


class PodConstraint(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A placement constraint."""

    field_name: str
    operator: str
    value: str | None = None


class Placement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where instances may go."""

    constraints: tuple[PodConstraint, ...] = ()
    accepted_resource_roles: tuple[str, ...] = ()


class Scheduling(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How instances are placed, replaced and ended."""

    backoff: PodBackoff = PodBackoff()
    upgrade: UpgradeStrategy = UpgradeStrategy()
    placement: Placement = Placement()
    kill_selection: KillSelection = KillSelection.YOUNGEST_FIRST
    unreachable_strategy: UnreachableStrategy | str = UnreachableStrategy()


class Pod(Networked, msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One pod, with every default filled in."""

    id: str
    containers: tuple[PodContainer, ...]
    labels: dict[str, str] = {}
    user: str | None = None
    environment: dict[str, str | EnvSecret] = {}
    secrets: dict[str, SecretSource] = {}
    volumes: tuple[PodVolume, ...] = ()
    networks: tuple[Network, ...] = (Network(mode=NetworkMode.HOST),)
    scaling: Scaling = Scaling()
    scheduling: Scheduling = Scheduling()
    executor_resources: ExecutorResources = ExecutorResources()
    role: str = "*"
    linux_info: LinuxSettings | None = None
    legacy_shared_cgroups: bool | None = None
    version: str = ""
    version_info: VersionInfo | None = None

    @property
    def instances(self) -> int:
        """Return how many instances there shall be."""
        return self.scaling.instances

    @property
    def cpus(self) -> float:
        """Return the CPUs of one instance, all in all."""
        return self.executor_resources.cpus + sum(c.resources.cpus for c in self.containers)

    @property
    def mem(self) -> float:
        """Return the memory of one instance, all in all."""
        return self.executor_resources.mem + sum(c.resources.mem for c in self.containers)

    @property
    def disk(self) -> float:
        """Return the disk of one instance, all in all."""
        return self.executor_resources.disk + sum(c.resources.disk for c in self.containers)

    @property
    def gpus(self) -> int:
        """Return the GPUs of one instance, all in all."""
        return sum(c.resources.gpus for c in self.containers)

    @property
    def endpoints(self) -> tuple[PodEndpoint, ...]:
        """Return the endpoints of all containers, in their order."""
        return tuple(endpoint for c in self.containers for endpoint in c.endpoints)

    @property
    def constraints(self) -> tuple[tuple[str, ...], ...]:
        """Return the constraints as an app writes them."""
        return tuple(
            (c.field_name, c.operator, *(() if c.value is None else (c.value,)))
            for c in self.scheduling.placement.constraints
        )

    @property
    def accepted_resource_roles(self) -> tuple[str, ...] | None:
        """Return the roles whose resources will do; None for all."""
        return self.scheduling.placement.accepted_resource_roles or None

    @property
    def backoff_seconds(self) -> float:
        """Return the delay after a first failure."""
        return self.scheduling.backoff.backoff

    @property
    def backoff_factor(self) -> float:
        """Return how the delay grows with each failure."""
        return self.scheduling.backoff.backoff_factor

    @property
    def max_launch_delay_seconds(self) -> float:
        """Return the longest delay."""
        return self.scheduling.backoff.max_launch_delay

    @property
    def upgrade_strategy(self) -> UpgradeStrategy:
        """Return how far capacity may go down and up while instances are replaced."""
        return self.scheduling.upgrade

    @property
    def kill_selection(self) -> KillSelection:
        """Return which instance goes first."""
        return self.scheduling.kill_selection

    @property
    def unreachable_strategy(self) -> UnreachableStrategy | str:
        """Return when an instance on a lost agent is replaced, and when it is forgotten."""
        return self.scheduling.unreachable_strategy

    @property
    def persistent_volumes(self) -> tuple[PodVolume, ...]:
        """Return the volumes that outlive an instance's containers."""
        return tuple(volume for volume in self.volumes if volume.persistent is not None)

    @property
    def is_resident(self) -> bool:
        """Tell whether instances keep volumes, and so their agents."""
        return bool(self.persistent_volumes)

    @property
    def config_version(self) -> str:
        """Return the version of the last change other than scaling."""
        info = self.version_info
        return self.version if info is None else info.last_config_change_at

    @property
    def config(self) -> "Pod":
        """Return what is left of the definition without the number of instances and versions."""
        bare = with_instances(self, 0)
        return msgspec.structs.replace(bare, version="", version_info=None)


def with_instances(pod: Pod, instances: int) -> Pod:
    """Return *pod* with another number of instances."""
    scaling = msgspec.structs.replace(pod.scaling, instances=instances)
    return msgspec.structs.replace(pod, scaling=scaling)
