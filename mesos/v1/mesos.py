"""The shared messages of the Mesos v1 API (reference mesos, appendix A, ``mesos.proto``).

Names and fields are the interface and are spelled as on the wire. Enums are
strings: the wire carries their names.
"""

import enum

import msgspec

from phalanx.mesos.v1.codec import Message, declared


class TaskState(enum.StrEnum):
    """What is known of a task; see ``TERMINAL``."""

    TASK_STAGING = "TASK_STAGING"
    TASK_STARTING = "TASK_STARTING"
    TASK_RUNNING = "TASK_RUNNING"
    TASK_KILLING = "TASK_KILLING"
    TASK_FINISHED = "TASK_FINISHED"
    TASK_FAILED = "TASK_FAILED"
    TASK_KILLED = "TASK_KILLED"
    TASK_ERROR = "TASK_ERROR"
    TASK_LOST = "TASK_LOST"
    TASK_DROPPED = "TASK_DROPPED"
    TASK_UNREACHABLE = "TASK_UNREACHABLE"
    TASK_GONE = "TASK_GONE"
    TASK_GONE_BY_OPERATOR = "TASK_GONE_BY_OPERATOR"
    TASK_UNKNOWN = "TASK_UNKNOWN"


TERMINAL = frozenset(
    {
        TaskState.TASK_FINISHED,
        TaskState.TASK_FAILED,
        TaskState.TASK_KILLED,
        TaskState.TASK_ERROR,
        TaskState.TASK_LOST,
        TaskState.TASK_DROPPED,
        TaskState.TASK_GONE,
        TaskState.TASK_GONE_BY_OPERATOR,
    }
)


class ValueType(enum.StrEnum):
    """The kind of a resource's or an attribute's value."""

    SCALAR = "SCALAR"
    RANGES = "RANGES"
    SET = "SET"
    TEXT = "TEXT"


class FrameworkID(Message, frozen=True, kw_only=True):
    """``mesos.v1.FrameworkID``."""

    value: str


class OfferID(Message, frozen=True, kw_only=True):
    """``mesos.v1.OfferID``."""

    value: str


class AgentID(Message, frozen=True, kw_only=True):
    """``mesos.v1.AgentID``."""

    value: str


class TaskID(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskID``."""

    value: str


class ExecutorID(Message, frozen=True, kw_only=True):
    """``mesos.v1.ExecutorID``."""

    value: str


class OperationID(Message, frozen=True, kw_only=True):
    """``mesos.v1.OperationID``."""

    value: str


class ContainerID(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerID``; *parent* is set for nested containers."""

    value: str
    parent: "ContainerID | None" = None


class TimeInfo(Message, frozen=True, kw_only=True):
    """A point in time, nanoseconds since the epoch."""

    nanoseconds: int


class DurationInfo(Message, frozen=True, kw_only=True):
    """A length of time in nanoseconds."""

    nanoseconds: int


class Label(Message, frozen=True, kw_only=True):
    """A key with an optional value."""

    key: str
    value: str | None = None


class Labels(Message, frozen=True, kw_only=True):
    """A list of labels."""

    labels: tuple[Label, ...] = ()


class Parameter(Message, frozen=True, kw_only=True):
    """A key and a value."""

    key: str
    value: str


class Address(Message, frozen=True, kw_only=True):
    """Where a daemon listens."""

    hostname: str | None = None
    ip: str | None = None
    port: int


class URL(Message, frozen=True, kw_only=True):
    """``mesos.v1.URL``."""

    scheme: str
    address: Address
    path: str | None = None
    query: tuple[Parameter, ...] = ()
    fragment: str | None = None


class Scalar(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Scalar``; three decimals count."""

    value: float


class Range(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Range``; both ends belong to it."""

    begin: int
    end: int


class Ranges(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Ranges``."""

    range: tuple[Range, ...] = ()


class Set(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Set``."""

    item: tuple[str, ...] = ()


class Text(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Text``."""

    value: str


class Attribute(Message, frozen=True, kw_only=True):
    """One attribute of an agent."""

    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    text: Text | None = None


class AllocationInfo(Message, frozen=True, kw_only=True):
    """Which role a resource is allocated to."""

    role: str | None = None


class ReservationInfo(Message, frozen=True, kw_only=True):
    """One step of a reservation stack."""

    type: str | None = None
    role: str | None = None
    principal: str | None = None
    labels: Labels | None = None


class Resource(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource``."""

    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    role: str | None = None
    allocation_info: AllocationInfo | None = None
    reservations: tuple[ReservationInfo, ...] = ()


class Capability(Message, frozen=True, kw_only=True):
    """A capability of a framework, an agent or a master, by name."""

    type: str | None = None


class FrameworkInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.FrameworkInfo``."""

    user: str
    name: str
    id: FrameworkID | None = None
    failover_timeout: float = declared(0.0)
    checkpoint: bool = declared(False)
    role: str | None = None
    roles: tuple[str, ...] = ()
    hostname: str | None = None
    principal: str | None = None
    webui_url: str | None = None
    capabilities: tuple[Capability, ...] = ()
    labels: Labels | None = None


class MasterInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.MasterInfo``; *ip* is the address' four bytes read little-endian."""

    id: str
    ip: int
    port: int = declared(5050)
    pid: str | None = None
    hostname: str | None = None
    version: str | None = None
    address: Address | None = None
    capabilities: tuple[Capability, ...] = ()


class AgentInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.AgentInfo``."""

    hostname: str
    port: int = declared(5051)
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    id: AgentID | None = None


class URI(Message, frozen=True, kw_only=True):
    """``mesos.v1.CommandInfo.URI``."""

    value: str
    executable: bool | None = None
    extract: bool = declared(True)
    cache: bool | None = None
    output_file: str | None = None


class Variable(Message, frozen=True, kw_only=True):
    """One environment variable."""

    name: str
    type: str = declared("VALUE")
    value: str | None = None


class Environment(Message, frozen=True, kw_only=True):
    """``mesos.v1.Environment``."""

    variables: tuple[Variable, ...] = ()


class CommandInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CommandInfo``."""

    uris: tuple[URI, ...] = ()
    environment: Environment | None = None
    shell: bool = declared(True)
    value: str | None = None
    arguments: tuple[str, ...] = ()
    user: str | None = None


class CheckHttp(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck.HTTPCheckInfo``."""

    protocol: str = declared("IPv4")
    scheme: str | None = None
    port: int
    path: str | None = None
    statuses: tuple[int, ...] = ()


class CheckTcp(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck.TCPCheckInfo``."""

    protocol: str = declared("IPv4")
    port: int


class HealthCheckType(enum.StrEnum):
    """How health is checked."""

    UNKNOWN = "UNKNOWN"
    COMMAND = "COMMAND"
    HTTP = "HTTP"
    TCP = "TCP"


class HealthCheck(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck``; all times in seconds."""

    delay_seconds: float = declared(15.0)
    interval_seconds: float = declared(10.0)
    timeout_seconds: float = declared(20.0)
    consecutive_failures: int = declared(3)
    grace_period_seconds: float = declared(10.0)
    type: HealthCheckType | None = None
    command: CommandInfo | None = None
    http: CheckHttp | None = None
    tcp: CheckTcp | None = None


class KillPolicy(Message, frozen=True, kw_only=True):
    """How long a task may take to end by itself."""

    grace_period: DurationInfo | None = None


class IPAddress(Message, frozen=True, kw_only=True):
    """``mesos.v1.NetworkInfo.IPAddress``."""

    protocol: str = declared("IPv4")
    ip_address: str | None = None


class PortMapping(Message, frozen=True, kw_only=True):
    """``mesos.v1.NetworkInfo.PortMapping``."""

    host_port: int
    container_port: int
    protocol: str | None = None


class NetworkInfo(Message, frozen=True, kw_only=True):
    """One network of a container: asked for in a ContainerInfo, given in a ContainerStatus."""

    ip_addresses: tuple[IPAddress, ...] = ()
    name: str | None = None
    groups: tuple[str, ...] = ()
    labels: Labels | None = None
    port_mappings: tuple[PortMapping, ...] = ()


class DockerImage(Message, frozen=True, kw_only=True):
    """``mesos.v1.Image.Docker``."""

    name: str


class Image(Message, frozen=True, kw_only=True):
    """``mesos.v1.Image``."""

    type: str
    docker: DockerImage | None = None
    cached: bool = declared(True)


class MesosInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo.MesosInfo``."""

    image: Image | None = None


class DockerInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo.DockerInfo``."""

    image: str
    network: str = declared("HOST")
    port_mappings: tuple[PortMapping, ...] = ()
    privileged: bool = declared(False)
    parameters: tuple[Parameter, ...] = ()
    force_pull_image: bool | None = None


class Volume(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume``."""

    mode: str
    container_path: str
    host_path: str | None = None


class ContainerInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo``."""

    type: str
    volumes: tuple[Volume, ...] = ()
    hostname: str | None = None
    docker: DockerInfo | None = None
    mesos: MesosInfo | None = None
    network_infos: tuple[NetworkInfo, ...] = ()


class Port(Message, frozen=True, kw_only=True):
    """``mesos.v1.Port``: a port that a task announces."""

    number: int
    name: str | None = None
    protocol: str | None = None
    visibility: str | None = None
    labels: Labels | None = None


class Ports(Message, frozen=True, kw_only=True):
    """A list of ports."""

    ports: tuple[Port, ...] = ()


class DiscoveryInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DiscoveryInfo``."""

    visibility: str
    name: str | None = None
    environment: str | None = None
    location: str | None = None
    version: str | None = None
    ports: Ports | None = None
    labels: Labels | None = None


class ExecutorInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ExecutorInfo``."""

    type: str | None = None
    executor_id: ExecutorID
    framework_id: FrameworkID | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    resources: tuple[Resource, ...] = ()
    name: str | None = None
    source: str | None = None
    data: bytes | None = None
    discovery: DiscoveryInfo | None = None
    shutdown_grace_period: DurationInfo | None = None
    labels: Labels | None = None


class TaskInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskInfo``: a task to launch."""

    name: str
    task_id: TaskID
    agent_id: AgentID
    resources: tuple[Resource, ...] = ()
    executor: ExecutorInfo | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    kill_policy: KillPolicy | None = None
    data: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    max_completion_time: DurationInfo | None = None
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)


class TaskGroupInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskGroupInfo``."""

    tasks: tuple[TaskInfo, ...] = ()


class ContainerStatus(Message, frozen=True, kw_only=True):
    """What the agent knows of a container."""

    container_id: ContainerID | None = None
    network_infos: tuple[NetworkInfo, ...] = ()
    executor_pid: int | None = None


class TaskStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskStatus``; *uuid* is set on updates that want an acknowledgement."""

    task_id: TaskID
    state: TaskState
    message: str | None = None
    source: str | None = None
    reason: str | None = None
    data: bytes | None = None
    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    timestamp: float | None = None
    uuid: bytes | None = None
    healthy: bool | None = None
    labels: Labels | None = None
    container_status: ContainerStatus | None = None
    unreachable_time: TimeInfo | None = None


class Task(Message, frozen=True, kw_only=True):
    """``mesos.v1.Task``: a task as master and agent keep it."""

    name: str
    task_id: TaskID
    framework_id: FrameworkID
    executor_id: ExecutorID | None = None
    agent_id: AgentID
    state: TaskState
    resources: tuple[Resource, ...] = ()
    statuses: tuple[TaskStatus, ...] = ()
    status_update_state: TaskState | None = None
    status_update_uuid: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    kill_policy: KillPolicy | None = None
    user: str | None = None
    limits: dict[str, Scalar] = msgspec.field(default_factory=dict)


class Filters(Message, frozen=True, kw_only=True):
    """How long a declined offer stays away, in seconds."""

    refuse_seconds: float = declared(5.0)


class Launch(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Launch``."""

    task_infos: tuple[TaskInfo, ...] = ()


class LaunchGroup(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.LaunchGroup``."""

    executor: ExecutorInfo
    task_group: TaskGroupInfo


class Operation(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation``; the types that this build carries out."""

    type: str | None = None
    id: OperationID | None = None
    launch: Launch | None = None
    launch_group: LaunchGroup | None = None


class Offer(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer``."""

    id: OfferID
    framework_id: FrameworkID
    agent_id: AgentID
    hostname: str
    url: URL | None = None
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    executor_ids: tuple[ExecutorID, ...] = ()
    allocation_info: AllocationInfo | None = None


class VersionInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.VersionInfo``."""

    version: str
    build_date: str | None = None
    build_time: float | None = None
    build_user: str | None = None
    git_sha: str | None = None
    git_branch: str | None = None
    git_tag: str | None = None
