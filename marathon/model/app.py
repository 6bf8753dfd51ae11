"""The definition of an app, complete and frozen (reference marathon §1.2 to §1.7).

Names in JSON are these in camel case. What this build can't honour has no
field here: ``definition.unsupported`` refuses it.
"""

import enum

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=False):
    """Base of every part of a definition."""


class NetworkMode(enum.StrEnum):
    """How an app is attached."""

    HOST = "host"
    CONTAINER = "container"
    BRIDGE = "container/bridge"


class Protocol(enum.StrEnum):
    """Protocols of a port."""

    TCP = "tcp"
    UDP = "udp"
    BOTH = "udp,tcp"

    @property
    def each(self) -> tuple[str, ...]:
        """Return the single protocols."""
        return tuple(self.value.split(","))


class Network(Value, frozen=True, kw_only=True, rename="camel"):
    """One network of an app."""

    mode: NetworkMode = NetworkMode.CONTAINER
    name: str | None = None
    labels: dict[str, str] = {}


class PortDefinition(Value, frozen=True, kw_only=True, rename="camel"):
    """A port of an app in host mode; *port* is its service port."""

    port: int = 0
    name: str | None = None
    protocol: Protocol = Protocol.TCP
    labels: dict[str, str] = {}


class PortMapping(Value, frozen=True, kw_only=True, rename="camel"):
    """A port of a container with a network of its own."""

    container_port: int = 0
    host_port: int | None = None
    service_port: int = 0
    protocol: Protocol = Protocol.TCP
    name: str | None = None
    labels: dict[str, str] = {}
    network_names: tuple[str, ...] = ()


class Parameter(Value, frozen=True, kw_only=True, rename="camel"):
    """An argument of ``docker run``."""

    key: str
    value: str


class PullConfig(Value, frozen=True, kw_only=True, rename="camel"):
    """The secret with the credentials of an image's registry."""

    secret: str


class Image(Value, frozen=True, kw_only=True, rename="camel"):
    """The image of a container (JSON key ``docker``, also for the Mesos containerizer)."""

    image: str
    force_pull_image: bool = False
    privileged: bool = False
    parameters: tuple[Parameter, ...] = ()
    pull_config: PullConfig | None = None


class PersistentVolume(Value, frozen=True, kw_only=True, rename="camel"):
    """A directory of the agent's that outlives its task; *size* and *max_size* in MiB.

    *type* is ``root``, ``path`` or ``mount``; *constraints* choose the disk by its path.
    """

    size: int
    type: str = "root"
    max_size: int | None = None
    profile_name: str | None = None
    constraints: tuple[tuple[str, ...], ...] = ()


class Volume(Value, frozen=True, kw_only=True, rename="camel"):
    """A directory of the host, a secret as a file, or a persistent volume, inside the container."""

    container_path: str
    host_path: str | None = None
    secret: str | None = None
    persistent: PersistentVolume | None = None
    mode: str = "RW"


class Seccomp(Value, frozen=True, kw_only=True, rename="camel"):
    """Which system calls the container may make: a profile of the agent's, or all."""

    profile_name: str | None = None
    unconfined: bool | None = None


class Ipc(Value, frozen=True, kw_only=True, rename="camel"):
    """The container's interprocess communication; *shm_size* in MiB."""

    mode: str
    shm_size: int | None = None


class LinuxSettings(Value, frozen=True, kw_only=True, rename="camel"):
    """What only Linux has (JSON key ``linuxInfo``)."""

    seccomp: Seccomp | None = None
    ipc_info: Ipc | None = None


class Container(Value, frozen=True, kw_only=True, rename="camel"):
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


class Command(Value, frozen=True, kw_only=True, rename="camel"):
    """The command of a health check."""

    value: str


class HealthProtocol(enum.StrEnum):
    """Who checks, and how."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TCP = "TCP"
    COMMAND = "COMMAND"
    MESOS_HTTP = "MESOS_HTTP"
    MESOS_HTTPS = "MESOS_HTTPS"
    MESOS_TCP = "MESOS_TCP"

    @property
    def is_run_by_agent(self) -> bool:
        """Tell whether the agent runs the check."""
        return self is HealthProtocol.COMMAND or self.value.startswith("MESOS_")


class HealthCheck(Value, frozen=True, kw_only=True, rename="camel"):
    """One health check; *max_consecutive_failures* 0 never kills."""

    protocol: HealthProtocol = HealthProtocol.HTTP
    path: str | None = None
    port: int | None = None
    port_index: int | None = None
    command: Command | None = None
    grace_period_seconds: float = 300
    interval_seconds: float = 60
    timeout_seconds: float = 20
    max_consecutive_failures: int = 3
    delay_seconds: float = 15
    ignore_http_1xx: bool = msgspec.field(default=False, name="ignoreHttp1xx")
    ip_protocol: str = "IPv4"


class ReadinessCheck(Value, frozen=True, kw_only=True, rename="camel"):
    """A request that says whether a task of a deployment may count as done.

    *port_name* is the name of a port definition or mapping of the app.
    """

    name: str = "readinessCheck"
    protocol: str = "HTTP"
    path: str = "/"
    port_name: str = "http-api"
    interval_seconds: float = 30
    timeout_seconds: float = 10
    http_status_codes_for_ready: tuple[int, ...] = (200,)
    preserve_last_response: bool = False


class HttpCheck(Value, frozen=True, kw_only=True, rename="camel"):
    """A request whose status is told; the port is one of the app's by index, or a number."""

    path: str | None = None
    port_index: int | None = None
    port: int | None = None
    scheme: str = "HTTP"


class TcpCheck(Value, frozen=True, kw_only=True, rename="camel"):
    """A connection that is tried."""

    port_index: int | None = None
    port: int | None = None


class ExecCommand(Value, frozen=True, kw_only=True, rename="camel"):
    """A command: a line for a shell, or a list of arguments."""

    shell: str | None = None
    argv: tuple[str, ...] = ()


class ExecCheck(Value, frozen=True, kw_only=True, rename="camel"):
    """A command whose exit status is told."""

    command: ExecCommand


class Check(Value, frozen=True, kw_only=True, rename="camel"):
    """What the agent looks at and tells, and nobody is killed for."""

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    exec: ExecCheck | None = None
    interval_seconds: float = 60
    timeout_seconds: float = 20
    delay_seconds: float = 15


class SecretSource(Value, frozen=True, kw_only=True, rename="camel"):
    """Where the agent finds a secret in its store."""

    source: str


class EnvSecret(Value, frozen=True, kw_only=True, rename="camel"):
    """A variable whose value is a secret that the app declares."""

    secret: str


class ResourceLimits(Value, frozen=True, kw_only=True, rename="camel"):
    """How much more than it asked for a task may use: a number, or ``unlimited``."""

    cpus: float | str | None = None
    mem: float | str | None = None


class Fetch(Value, frozen=True, kw_only=True, rename="camel"):
    """A file that the agent fetches into the sandbox."""

    uri: str
    extract: bool = True
    executable: bool = False
    cache: bool = False
    dest_path: str | None = None


class UpgradeStrategy(Value, frozen=True, kw_only=True, rename="camel"):
    """How far capacity may go down and up while instances are replaced."""

    minimum_health_capacity: float = 1.0
    maximum_over_capacity: float = 1.0


class UnreachableStrategy(Value, frozen=True, kw_only=True, rename="camel"):
    """When an instance on a lost agent is replaced, and when it is forgotten."""

    inactive_after_seconds: int = 0
    expunge_after_seconds: int = 0


class KillSelection(enum.StrEnum):
    """Which instance goes first."""

    YOUNGEST_FIRST = "YOUNGEST_FIRST"
    OLDEST_FIRST = "OLDEST_FIRST"


class VersionInfo(Value, frozen=True, kw_only=True, rename="camel"):
    """When the app was last scaled, and last changed otherwise."""

    last_scaling_at: str
    last_config_change_at: str


class App(Value, frozen=True, kw_only=True, rename="camel"):
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
    def is_on_host_network(self) -> bool:
        """Tell whether the app's tasks share the agent's network."""
        return all(network.mode is NetworkMode.HOST for network in self.networks)

    @property
    def is_bridged(self) -> bool:
        """Tell whether the app's tasks sit behind the agent's bridge."""
        return any(network.mode is NetworkMode.BRIDGE for network in self.networks)

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
    def is_resident(self) -> bool:
        """Tell whether the app's instances keep volumes, and so their agents."""
        return bool(self.persistent_volumes)

    @property
    def config_version(self) -> str:
        """Return the version of the last change other than scaling."""
        info = self.version_info
        return self.version if info is None else info.last_config_change_at


def is_same_config(one: App, other: App) -> bool:
    """Tell whether two definitions differ in nothing but the number of instances."""
    return _config(one) == _config(other)


def _config(app: App) -> App:
    return msgspec.structs.replace(app, instances=0, version="", version_info=None)
