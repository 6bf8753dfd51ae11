"""The shared messages of the Mesos v1 API (reference mesos, appendix A, ``mesos.proto``).

Names, fields and numbers are the interface and are spelled as on the wire. Enums are
strings: JSON carries their names, protobuf their numbers.
"""

import enum
from collections.abc import Mapping
from typing import Annotated

import msgspec

from phalanx.mesos.v1.codec import Message, declared
from phalanx.mesos.v1.wire import I32, I64, U32, U64, n, names


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


class HealthCheckType(enum.StrEnum):
    """How health is checked."""

    UNKNOWN = "UNKNOWN"
    COMMAND = "COMMAND"
    HTTP = "HTTP"
    TCP = "TCP"


NUMBERS: Mapping[type[enum.StrEnum], Mapping[str, int]] = {
    TaskState: {
        "TASK_STAGING": 6,
        "TASK_STARTING": 0,
        "TASK_RUNNING": 1,
        "TASK_KILLING": 8,
        "TASK_FINISHED": 2,
        "TASK_FAILED": 3,
        "TASK_KILLED": 4,
        "TASK_ERROR": 7,
        "TASK_LOST": 5,
        "TASK_DROPPED": 9,
        "TASK_UNREACHABLE": 10,
        "TASK_GONE": 11,
        "TASK_GONE_BY_OPERATOR": 12,
        "TASK_UNKNOWN": 13,
    },
    ValueType: {"SCALAR": 0, "RANGES": 1, "SET": 2, "TEXT": 3},
    HealthCheckType: {"UNKNOWN": 0, "COMMAND": 1, "HTTP": 2, "TCP": 3},
}
MachineMode = Annotated[str, names({"UP": 1, "DRAINING": 2, "DOWN": 3})]
CapabilityType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "REVOCABLE_RESOURCES": 1,
            "TASK_KILLING_STATE": 2,
            "GPU_RESOURCES": 3,
            "SHARED_RESOURCES": 4,
            "PARTITION_AWARE": 5,
            "MULTI_ROLE": 6,
            "RESERVATION_REFINEMENT": 7,
            "REGION_AWARE": 8,
        }
    ),
]
CheckInfoType = Annotated[str, names({"UNKNOWN": 0, "COMMAND": 1, "HTTP": 2, "TCP": 3})]
ExecutorInfoType = Annotated[str, names({"UNKNOWN": 0, "DEFAULT": 1, "CUSTOM": 2})]
MasterCapabilityType = Annotated[
    str, names({"UNKNOWN": 0, "AGENT_UPDATE": 1, "AGENT_DRAINING": 2, "QUOTA_V2": 3})
]
AgentCapabilityType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "MULTI_ROLE": 1,
            "HIERARCHICAL_ROLE": 2,
            "RESERVATION_REFINEMENT": 3,
            "RESOURCE_PROVIDER": 4,
            "RESIZE_VOLUME": 5,
            "AGENT_OPERATION_FEEDBACK": 6,
            "AGENT_DRAINING": 7,
            "TASK_RESOURCE_LIMITS": 8,
        }
    ),
]
ReservationType = Annotated[str, names({"UNKNOWN": 0, "STATIC": 1, "DYNAMIC": 2})]
DiskSourceType = Annotated[str, names({"UNKNOWN": 0, "PATH": 1, "MOUNT": 2, "BLOCK": 3, "RAW": 4})]
OperationType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "LAUNCH": 1,
            "LAUNCH_GROUP": 6,
            "RESERVE": 2,
            "UNRESERVE": 3,
            "CREATE": 4,
            "DESTROY": 5,
            "GROW_VOLUME": 11,
            "SHRINK_VOLUME": 12,
            "CREATE_DISK": 13,
            "DESTROY_DISK": 14,
        }
    ),
]
OperationState = Annotated[
    str,
    names(
        {
            "OPERATION_UNSUPPORTED": 0,
            "OPERATION_PENDING": 1,
            "OPERATION_FINISHED": 2,
            "OPERATION_FAILED": 3,
            "OPERATION_ERROR": 4,
            "OPERATION_DROPPED": 5,
            "OPERATION_UNREACHABLE": 6,
            "OPERATION_GONE_BY_OPERATOR": 7,
            "OPERATION_RECOVERING": 8,
            "OPERATION_UNKNOWN": 9,
        }
    ),
]
StatusSource = Annotated[str, names({"SOURCE_MASTER": 0, "SOURCE_AGENT": 1, "SOURCE_EXECUTOR": 2})]
Reason = Annotated[
    str,
    names(
        {
            "REASON_COMMAND_EXECUTOR_FAILED": 0,
            "REASON_CONTAINER_LAUNCH_FAILED": 21,
            "REASON_CONTAINER_LIMITATION": 19,
            "REASON_CONTAINER_LIMITATION_DISK": 20,
            "REASON_CONTAINER_LIMITATION_MEMORY": 8,
            "REASON_CONTAINER_PREEMPTED": 17,
            "REASON_CONTAINER_UPDATE_FAILED": 22,
            "REASON_MAX_COMPLETION_TIME_REACHED": 33,
            "REASON_EXECUTOR_REGISTRATION_TIMEOUT": 23,
            "REASON_EXECUTOR_REREGISTRATION_TIMEOUT": 24,
            "REASON_EXECUTOR_TERMINATED": 1,
            "REASON_EXECUTOR_UNREGISTERED": 2,
            "REASON_FRAMEWORK_REMOVED": 3,
            "REASON_GC_ERROR": 4,
            "REASON_INVALID_FRAMEWORKID": 5,
            "REASON_INVALID_OFFERS": 6,
            "REASON_IO_SWITCHBOARD_EXITED": 27,
            "REASON_MASTER_DISCONNECTED": 7,
            "REASON_RECONCILIATION": 9,
            "REASON_RESOURCES_UNKNOWN": 18,
            "REASON_AGENT_DISCONNECTED": 10,
            "REASON_AGENT_DRAINING": 34,
            "REASON_AGENT_REMOVED": 11,
            "REASON_AGENT_REMOVED_BY_OPERATOR": 31,
            "REASON_AGENT_REREGISTERED": 32,
            "REASON_AGENT_RESTARTED": 12,
            "REASON_AGENT_UNKNOWN": 13,
            "REASON_TASK_KILLED_DURING_LAUNCH": 30,
            "REASON_TASK_CHECK_STATUS_UPDATED": 28,
            "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED": 29,
            "REASON_TASK_GROUP_INVALID": 25,
            "REASON_TASK_GROUP_UNAUTHORIZED": 26,
            "REASON_TASK_INVALID": 14,
            "REASON_TASK_UNAUTHORIZED": 15,
            "REASON_TASK_UNKNOWN": 16,
        }
    ),
]
VariableType = Annotated[str, names({"UNKNOWN": 0, "VALUE": 1, "SECRET": 2})]
SecretType = Annotated[str, names({"UNKNOWN": 0, "REFERENCE": 1, "VALUE": 2})]
ImageType = Annotated[str, names({"APPC": 1, "DOCKER": 2})]
MountPropagationMode = Annotated[
    str, names({"UNKNOWN": 0, "HOST_TO_CONTAINER": 1, "BIDIRECTIONAL": 2})
]
VolumeMode = Annotated[str, names({"RW": 1, "RO": 2})]
VolumeSourceType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "DOCKER_VOLUME": 1,
            "HOST_PATH": 4,
            "SANDBOX_PATH": 2,
            "SECRET": 3,
            "CSI_VOLUME": 5,
        }
    ),
]
SandboxPathType = Annotated[str, names({"UNKNOWN": 0, "SELF": 1, "PARENT": 2})]
Protocol = Annotated[str, names({"IPv4": 1, "IPv6": 2})]
LinuxCapability = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "CHOWN": 1000,
            "DAC_OVERRIDE": 1001,
            "DAC_READ_SEARCH": 1002,
            "FOWNER": 1003,
            "FSETID": 1004,
            "KILL": 1005,
            "SETGID": 1006,
            "SETUID": 1007,
            "SETPCAP": 1008,
            "LINUX_IMMUTABLE": 1009,
            "NET_BIND_SERVICE": 1010,
            "NET_BROADCAST": 1011,
            "NET_ADMIN": 1012,
            "NET_RAW": 1013,
            "IPC_LOCK": 1014,
            "IPC_OWNER": 1015,
            "SYS_MODULE": 1016,
            "SYS_RAWIO": 1017,
            "SYS_CHROOT": 1018,
            "SYS_PTRACE": 1019,
            "SYS_PACCT": 1020,
            "SYS_ADMIN": 1021,
            "SYS_BOOT": 1022,
            "SYS_NICE": 1023,
            "SYS_RESOURCE": 1024,
            "SYS_TIME": 1025,
            "SYS_TTY_CONFIG": 1026,
            "MKNOD": 1027,
            "LEASE": 1028,
            "AUDIT_WRITE": 1029,
            "AUDIT_CONTROL": 1030,
            "SETFCAP": 1031,
            "MAC_OVERRIDE": 1032,
            "MAC_ADMIN": 1033,
            "SYSLOG": 1034,
            "WAKE_ALARM": 1035,
            "BLOCK_SUSPEND": 1036,
            "AUDIT_READ": 1037,
            "PERFMON": 1038,
            "BPF": 1039,
            "CHECKPOINT_RESTORE": 1040,
        }
    ),
]
IpcMode = Annotated[str, names({"UNKNOWN": 0, "PRIVATE": 1, "SHARE_PARENT": 2})]
RLimitType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "RLMT_AS": 1,
            "RLMT_CORE": 2,
            "RLMT_CPU": 3,
            "RLMT_DATA": 4,
            "RLMT_FSIZE": 5,
            "RLMT_LOCKS": 6,
            "RLMT_MEMLOCK": 7,
            "RLMT_MSGQUEUE": 8,
            "RLMT_NICE": 9,
            "RLMT_NOFILE": 10,
            "RLMT_NPROC": 11,
            "RLMT_RSS": 12,
            "RLMT_RTPRIO": 13,
            "RLMT_RTTIME": 14,
            "RLMT_SIGPENDING": 15,
            "RLMT_STACK": 16,
        }
    ),
]
ContainerType = Annotated[str, names({"DOCKER": 1, "MESOS": 2})]
DockerNetwork = Annotated[str, names({"HOST": 1, "BRIDGE": 2, "NONE": 3, "USER": 4})]
Visibility = Annotated[str, names({"FRAMEWORK": 0, "CLUSTER": 1, "EXTERNAL": 2})]
DrainState = Annotated[str, names({"UNKNOWN": 0, "DRAINING": 1, "DRAINED": 2})]


DEEPEST_CONTAINER = 32


class ProtobufDuration(Message, frozen=True, kw_only=True):
    """``google.protobuf.Duration``: in JSON an object here, no text (reference mesos §11.14)."""

    seconds: Annotated[I64 | None, n(1)] = None
    nanos: Annotated[I32 | None, n(2)] = None


class FrameworkID(Message, frozen=True, kw_only=True):
    """``mesos.v1.FrameworkID``."""

    value: Annotated[str, n(1)]


class OfferID(Message, frozen=True, kw_only=True):
    """``mesos.v1.OfferID``."""

    value: Annotated[str, n(1)]


class AgentID(Message, frozen=True, kw_only=True):
    """``mesos.v1.AgentID``."""

    value: Annotated[str, n(1)]


class TaskID(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskID``."""

    value: Annotated[str, n(1)]


class ExecutorID(Message, frozen=True, kw_only=True):
    """``mesos.v1.ExecutorID``."""

    value: Annotated[str, n(1)]


class ContainerID(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerID``; *parent* is set for nested containers.

    The one message that can hold itself; a deeper one is refused when it is read.
    """

    value: Annotated[str, n(1)]
    parent: Annotated["ContainerID | None", n(2)] = None

    def __post_init__(self) -> None:
        """Raise ValueError below ``DEEPEST_CONTAINER`` parents."""
        parent, depth = self.parent, 0
        while parent is not None:
            parent, depth = parent.parent, depth + 1
            if depth > DEEPEST_CONTAINER:
                raise ValueError(f"container_id: more than {DEEPEST_CONTAINER} parents")


class ResourceProviderID(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceProviderID``."""

    value: Annotated[str, n(1)]


class OperationID(Message, frozen=True, kw_only=True):
    """``mesos.v1.OperationID``."""

    value: Annotated[str, n(1)]


class TimeInfo(Message, frozen=True, kw_only=True):
    """A point in time, nanoseconds since the epoch."""

    nanoseconds: Annotated[I64, n(1)]


class DurationInfo(Message, frozen=True, kw_only=True):
    """A length of time in nanoseconds."""

    nanoseconds: Annotated[I64, n(1)]


class Address(Message, frozen=True, kw_only=True):
    """Where a daemon listens."""

    hostname: Annotated[str | None, n(1)] = None
    ip: Annotated[str | None, n(2)] = None
    port: Annotated[I32, n(3)]


class Parameter(Message, frozen=True, kw_only=True):
    """A key and a value."""

    key: Annotated[str, n(1)]
    value: Annotated[str, n(2)]


class URL(Message, frozen=True, kw_only=True):
    """``mesos.v1.URL``."""

    scheme: Annotated[str, n(1)]
    address: Annotated[Address, n(2)]
    path: Annotated[str | None, n(3)] = None
    query: Annotated[tuple[Parameter, ...], n(4)] = ()
    fragment: Annotated[str | None, n(5)] = None


class Unavailability(Message, frozen=True, kw_only=True):
    """``mesos.v1.Unavailability``."""

    start: Annotated[TimeInfo, n(1)]
    duration: Annotated[DurationInfo | None, n(2)] = None


class MachineID(Message, frozen=True, kw_only=True):
    """``mesos.v1.MachineID``."""

    hostname: Annotated[str | None, n(1)] = None
    ip: Annotated[str | None, n(2)] = None


class MachineInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.MachineInfo``."""

    id: Annotated[MachineID, n(1)]
    mode: Annotated[MachineMode | None, n(2)] = None
    unavailability: Annotated[Unavailability | None, n(3)] = None


class Capability(Message, frozen=True, kw_only=True):
    """A capability of a framework, an agent or a master, by name."""

    type: Annotated[CapabilityType | None, n(1)] = None


class Label(Message, frozen=True, kw_only=True):
    """A key with an optional value."""

    key: Annotated[str, n(1)]
    value: Annotated[str | None, n(2)] = None


class Labels(Message, frozen=True, kw_only=True):
    """A list of labels."""

    labels: Annotated[tuple[Label, ...], n(1)] = ()


class Scalar(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Scalar``; three decimals count."""

    value: Annotated[float, n(1)]


class ResourceQuantities(Message, frozen=True, kw_only=True):
    """``mesos.v1.OfferFilters.ResourceQuantities``."""

    quantities: Annotated[dict[str, Scalar], n(1)] = msgspec.field(default_factory=dict)


class MinAllocatableResources(Message, frozen=True, kw_only=True):
    """``mesos.v1.OfferFilters.MinAllocatableResources``."""

    quantities: Annotated[tuple[ResourceQuantities, ...], n(1)] = ()


class OfferFilters(Message, frozen=True, kw_only=True):
    """``mesos.v1.OfferFilters``."""

    min_allocatable_resources: Annotated[MinAllocatableResources | None, n(1)] = None


class FrameworkInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.FrameworkInfo``."""

    user: Annotated[str, n(1)]
    name: Annotated[str, n(2)]
    id: Annotated[FrameworkID | None, n(3)] = None
    failover_timeout: Annotated[float, n(4)] = declared(0.0)
    checkpoint: Annotated[bool, n(5)] = declared(False)
    role: Annotated[str | None, n(6)] = None
    roles: Annotated[tuple[str, ...], n(12)] = ()
    hostname: Annotated[str | None, n(7)] = None
    principal: Annotated[str | None, n(8)] = None
    webui_url: Annotated[str | None, n(9)] = None
    capabilities: Annotated[tuple[Capability, ...], n(10)] = ()
    labels: Annotated[Labels | None, n(11)] = None
    offer_filters: Annotated[dict[str, OfferFilters], n(13)] = msgspec.field(default_factory=dict)


class URI(Message, frozen=True, kw_only=True):
    """``mesos.v1.CommandInfo.URI``."""

    value: Annotated[str, n(1)]
    executable: Annotated[bool | None, n(2)] = None
    extract: Annotated[bool, n(3)] = declared(True)
    cache: Annotated[bool | None, n(4)] = None
    output_file: Annotated[str | None, n(5)] = None


class SecretReference(Message, frozen=True, kw_only=True):
    """``mesos.v1.Secret.Reference``."""

    name: Annotated[str, n(1)]
    key: Annotated[str | None, n(2)] = None


class SecretValue(Message, frozen=True, kw_only=True):
    """``mesos.v1.Secret.Value``."""

    data: Annotated[bytes, n(1)]


class Secret(Message, frozen=True, kw_only=True):
    """``mesos.v1.Secret``."""

    type: Annotated[SecretType | None, n(1)] = None
    reference: Annotated[SecretReference | None, n(2)] = None
    value: Annotated[SecretValue | None, n(3)] = None


class Variable(Message, frozen=True, kw_only=True):
    """One environment variable."""

    name: Annotated[str, n(1)]
    type: Annotated[VariableType, n(3)] = declared("VALUE")
    value: Annotated[str | None, n(2)] = None
    secret: Annotated[Secret | None, n(4)] = None


class Environment(Message, frozen=True, kw_only=True):
    """``mesos.v1.Environment``."""

    variables: Annotated[tuple[Variable, ...], n(1)] = ()


class CommandInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CommandInfo``."""

    uris: Annotated[tuple[URI, ...], n(1)] = ()
    environment: Annotated[Environment | None, n(2)] = None
    shell: Annotated[bool, n(6)] = declared(True)
    value: Annotated[str | None, n(3)] = None
    arguments: Annotated[tuple[str, ...], n(7)] = ()
    user: Annotated[str | None, n(5)] = None


class CheckInfoCommand(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckInfo.Command``."""

    command: Annotated[CommandInfo, n(1)]


class CheckInfoHttp(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckInfo.Http``."""

    port: Annotated[U32, n(1)]
    path: Annotated[str | None, n(2)] = None


class CheckInfoTcp(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckInfo.Tcp``."""

    port: Annotated[U32, n(1)]


class CheckInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckInfo``."""

    type: Annotated[CheckInfoType | None, n(1)] = None
    command: Annotated[CheckInfoCommand | None, n(2)] = None
    http: Annotated[CheckInfoHttp | None, n(3)] = None
    tcp: Annotated[CheckInfoTcp | None, n(7)] = None
    delay_seconds: Annotated[float, n(4)] = declared(15.0)
    interval_seconds: Annotated[float, n(5)] = declared(10.0)
    timeout_seconds: Annotated[float, n(6)] = declared(20.0)


class CheckHttp(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck.HTTPCheckInfo``."""

    protocol: Annotated[Protocol, n(5)] = declared("IPv4")
    scheme: Annotated[str | None, n(3)] = None
    port: Annotated[U32, n(1)]
    path: Annotated[str | None, n(2)] = None
    statuses: Annotated[tuple[U32, ...], n(4)] = ()


class CheckTcp(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck.TCPCheckInfo``."""

    protocol: Annotated[Protocol, n(2)] = declared("IPv4")
    port: Annotated[U32, n(1)]


class HealthCheck(Message, frozen=True, kw_only=True):
    """``mesos.v1.HealthCheck``; all times in seconds."""

    delay_seconds: Annotated[float, n(2)] = declared(15.0)
    interval_seconds: Annotated[float, n(3)] = declared(10.0)
    timeout_seconds: Annotated[float, n(4)] = declared(20.0)
    consecutive_failures: Annotated[U32, n(5)] = declared(3)
    grace_period_seconds: Annotated[float, n(6)] = declared(10.0)
    type: Annotated[HealthCheckType | None, n(8)] = None
    command: Annotated[CommandInfo | None, n(7)] = None
    http: Annotated[CheckHttp | None, n(1)] = None
    tcp: Annotated[CheckTcp | None, n(9)] = None


class KillPolicy(Message, frozen=True, kw_only=True):
    """How long a task may take to end by itself."""

    grace_period: Annotated[DurationInfo | None, n(1)] = None


class AppcImage(Message, frozen=True, kw_only=True):
    """``mesos.v1.Image.Appc``."""

    name: Annotated[str, n(1)]
    id: Annotated[str | None, n(2)] = None
    labels: Annotated[Labels | None, n(3)] = None


class Credential(Message, frozen=True, kw_only=True):
    """``mesos.v1.Credential``."""

    principal: Annotated[str, n(1)]
    secret: Annotated[str | None, n(2)] = None


class DockerImage(Message, frozen=True, kw_only=True):
    """``mesos.v1.Image.Docker``."""

    name: Annotated[str, n(1)]
    credential: Annotated[Credential | None, n(2)] = None
    config: Annotated[Secret | None, n(3)] = None


class Image(Message, frozen=True, kw_only=True):
    """``mesos.v1.Image``."""

    type: Annotated[ImageType, n(1)]
    appc: Annotated[AppcImage | None, n(2)] = None
    docker: Annotated[DockerImage | None, n(3)] = None
    cached: Annotated[bool, n(4)] = declared(True)


class Parameters(Message, frozen=True, kw_only=True):
    """``mesos.v1.Parameters``."""

    parameter: Annotated[tuple[Parameter, ...], n(1)] = ()


class DockerVolume(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume.Source.DockerVolume``."""

    driver: Annotated[str | None, n(1)] = None
    name: Annotated[str, n(2)]
    driver_options: Annotated[Parameters | None, n(3)] = None


class MountPropagation(Message, frozen=True, kw_only=True):
    """``mesos.v1.MountPropagation``."""

    mode: Annotated[MountPropagationMode | None, n(1)] = None


class HostPath(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume.Source.HostPath``."""

    path: Annotated[str, n(1)]
    mount_propagation: Annotated[MountPropagation | None, n(2)] = None


class SandboxPath(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume.Source.SandboxPath``."""

    type: Annotated[SandboxPathType | None, n(1)] = None
    path: Annotated[str, n(2)]


class VolumeSource(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume.Source``."""

    type: Annotated[VolumeSourceType | None, n(1)] = None
    docker_volume: Annotated[DockerVolume | None, n(2)] = None
    host_path: Annotated[HostPath | None, n(5)] = None
    sandbox_path: Annotated[SandboxPath | None, n(3)] = None
    secret: Annotated[Secret | None, n(4)] = None


class Volume(Message, frozen=True, kw_only=True):
    """``mesos.v1.Volume``."""

    mode: Annotated[VolumeMode, n(3)]
    container_path: Annotated[str, n(1)]
    host_path: Annotated[str | None, n(2)] = None
    image: Annotated[Image | None, n(4)] = None
    source: Annotated[VolumeSource | None, n(5)] = None


class PortMapping(Message, frozen=True, kw_only=True):
    """``mesos.v1.NetworkInfo.PortMapping``."""

    host_port: Annotated[U32, n(1)]
    container_port: Annotated[U32, n(2)]
    protocol: Annotated[str | None, n(3)] = None


class DockerInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo.DockerInfo``."""

    image: Annotated[str, n(1)]
    network: Annotated[DockerNetwork, n(2)] = declared("HOST")
    port_mappings: Annotated[tuple[PortMapping, ...], n(3)] = ()
    privileged: Annotated[bool, n(4)] = declared(False)
    parameters: Annotated[tuple[Parameter, ...], n(5)] = ()
    force_pull_image: Annotated[bool | None, n(6)] = None
    volume_driver: Annotated[str | None, n(7)] = None


class MesosInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo.MesosInfo``."""

    image: Annotated[Image | None, n(1)] = None


class IPAddress(Message, frozen=True, kw_only=True):
    """``mesos.v1.NetworkInfo.IPAddress``."""

    protocol: Annotated[Protocol, n(1)] = declared("IPv4")
    ip_address: Annotated[str | None, n(2)] = None


class NetworkInfo(Message, frozen=True, kw_only=True):
    """One network of a container: asked for in a ContainerInfo, given in a ContainerStatus."""

    ip_addresses: Annotated[tuple[IPAddress, ...], n(5)] = ()
    name: Annotated[str | None, n(6)] = None
    groups: Annotated[tuple[str, ...], n(3)] = ()
    labels: Annotated[Labels | None, n(4)] = None
    port_mappings: Annotated[tuple[PortMapping, ...], n(7)] = ()


class CapabilityInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CapabilityInfo``."""

    capabilities: Annotated[tuple[LinuxCapability, ...], n(1)] = ()


class SeccompInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.SeccompInfo``."""

    profile_name: Annotated[str | None, n(1)] = None
    unconfined: Annotated[bool | None, n(2)] = None


class LinuxInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.LinuxInfo``."""

    capability_info: Annotated[CapabilityInfo | None, n(1)] = None
    bounding_capabilities: Annotated[CapabilityInfo | None, n(2)] = None
    effective_capabilities: Annotated[CapabilityInfo | None, n(3)] = None
    share_pid_namespace: Annotated[bool | None, n(4)] = None
    seccomp: Annotated[SeccompInfo | None, n(5)] = None
    ipc_mode: Annotated[IpcMode | None, n(6)] = None
    shm_size: Annotated[U32 | None, n(7)] = None
    share_cgroups: Annotated[bool, n(8)] = declared(True)


class RLimit(Message, frozen=True, kw_only=True):
    """``mesos.v1.RLimitInfo.RLimit``."""

    type: Annotated[RLimitType | None, n(1)] = None
    hard: Annotated[U64 | None, n(2)] = None
    soft: Annotated[U64 | None, n(3)] = None


class RLimitInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.RLimitInfo``."""

    rlimits: Annotated[tuple[RLimit, ...], n(1)] = ()


class WindowSize(Message, frozen=True, kw_only=True):
    """``mesos.v1.TTYInfo.WindowSize``."""

    rows: Annotated[U32, n(1)]
    columns: Annotated[U32, n(2)]


class TTYInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.TTYInfo``."""

    window_size: Annotated[WindowSize | None, n(1)] = None


class ContainerInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ContainerInfo``."""

    type: Annotated[ContainerType, n(1)]
    volumes: Annotated[tuple[Volume, ...], n(2)] = ()
    hostname: Annotated[str | None, n(4)] = None
    docker: Annotated[DockerInfo | None, n(3)] = None
    mesos: Annotated[MesosInfo | None, n(5)] = None
    network_infos: Annotated[tuple[NetworkInfo, ...], n(7)] = ()
    linux_info: Annotated[LinuxInfo | None, n(8)] = None
    rlimit_info: Annotated[RLimitInfo | None, n(9)] = None
    tty_info: Annotated[TTYInfo | None, n(10)] = None


class Range(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Range``; both ends belong to it."""

    begin: Annotated[U64, n(1)]
    end: Annotated[U64, n(2)]


class Ranges(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Ranges``."""

    range: Annotated[tuple[Range, ...], n(1)] = ()


class Set(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Set``."""

    item: Annotated[tuple[str, ...], n(1)] = ()


class AllocationInfo(Message, frozen=True, kw_only=True):
    """Which role a resource is allocated to."""

    role: Annotated[str | None, n(1)] = None


class ReservationInfo(Message, frozen=True, kw_only=True):
    """One step of a reservation stack."""

    type: Annotated[ReservationType | None, n(4)] = None
    role: Annotated[str | None, n(3)] = None
    principal: Annotated[str | None, n(1)] = None
    labels: Annotated[Labels | None, n(2)] = None


class Persistence(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.DiskInfo.Persistence``."""

    id: Annotated[str, n(1)]
    principal: Annotated[str | None, n(2)] = None


class DiskSourcePath(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.DiskInfo.Source.Path``."""

    root: Annotated[str | None, n(1)] = None


class DiskSourceMount(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.DiskInfo.Source.Mount``."""

    root: Annotated[str | None, n(1)] = None


class DiskSource(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.DiskInfo.Source``."""

    type: Annotated[DiskSourceType, n(1)]
    path: Annotated[DiskSourcePath | None, n(2)] = None
    mount: Annotated[DiskSourceMount | None, n(3)] = None
    vendor: Annotated[str | None, n(7)] = None
    id: Annotated[str | None, n(4)] = None
    metadata: Annotated[Labels | None, n(5)] = None
    profile: Annotated[str | None, n(6)] = None


class DiskInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.DiskInfo``."""

    persistence: Annotated[Persistence | None, n(1)] = None
    volume: Annotated[Volume | None, n(2)] = None
    source: Annotated[DiskSource | None, n(3)] = None


class RevocableInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.RevocableInfo``."""


class SharedInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource.SharedInfo``."""


class Resource(Message, frozen=True, kw_only=True):
    """``mesos.v1.Resource``."""

    provider_id: Annotated[ResourceProviderID | None, n(12)] = None
    name: Annotated[str, n(1)]
    type: Annotated[ValueType, n(2)]
    scalar: Annotated[Scalar | None, n(3)] = None
    ranges: Annotated[Ranges | None, n(4)] = None
    set: Annotated[Set | None, n(5)] = None
    role: Annotated[str | None, n(6)] = None
    allocation_info: Annotated[AllocationInfo | None, n(11)] = None
    reservation: Annotated[ReservationInfo | None, n(8)] = None
    reservations: Annotated[tuple[ReservationInfo, ...], n(13)] = ()
    disk: Annotated[DiskInfo | None, n(7)] = None
    revocable: Annotated[RevocableInfo | None, n(9)] = None
    shared: Annotated[SharedInfo | None, n(10)] = None


class Port(Message, frozen=True, kw_only=True):
    """``mesos.v1.Port``: a port that a task announces."""

    number: Annotated[U32, n(1)]
    name: Annotated[str | None, n(2)] = None
    protocol: Annotated[str | None, n(3)] = None
    visibility: Annotated[Visibility | None, n(4)] = None
    labels: Annotated[Labels | None, n(5)] = None


class Ports(Message, frozen=True, kw_only=True):
    """A list of ports."""

    ports: Annotated[tuple[Port, ...], n(1)] = ()


class DiscoveryInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DiscoveryInfo``."""

    visibility: Annotated[Visibility, n(1)]
    name: Annotated[str | None, n(2)] = None
    environment: Annotated[str | None, n(3)] = None
    location: Annotated[str | None, n(4)] = None
    version: Annotated[str | None, n(5)] = None
    ports: Annotated[Ports | None, n(6)] = None
    labels: Annotated[Labels | None, n(7)] = None


class ExecutorInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ExecutorInfo``."""

    type: Annotated[ExecutorInfoType | None, n(15)] = None
    executor_id: Annotated[ExecutorID, n(1)]
    framework_id: Annotated[FrameworkID | None, n(8)] = None
    command: Annotated[CommandInfo | None, n(7)] = None
    container: Annotated[ContainerInfo | None, n(11)] = None
    resources: Annotated[tuple[Resource, ...], n(5)] = ()
    name: Annotated[str | None, n(9)] = None
    source: Annotated[str | None, n(10)] = None
    data: Annotated[bytes | None, n(4)] = None
    discovery: Annotated[DiscoveryInfo | None, n(12)] = None
    shutdown_grace_period: Annotated[DurationInfo | None, n(13)] = None
    labels: Annotated[Labels | None, n(14)] = None


class RegionInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DomainInfo.FaultDomain.RegionInfo``."""

    name: Annotated[str, n(1)]


class ZoneInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DomainInfo.FaultDomain.ZoneInfo``."""

    name: Annotated[str, n(1)]


class FaultDomain(Message, frozen=True, kw_only=True):
    """``mesos.v1.DomainInfo.FaultDomain``."""

    region: Annotated[RegionInfo, n(1)]
    zone: Annotated[ZoneInfo, n(2)]


class DomainInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DomainInfo``."""

    fault_domain: Annotated[FaultDomain | None, n(1)] = None


class MasterCapability(Message, frozen=True, kw_only=True):
    """``mesos.v1.MasterInfo.Capability``."""

    type: Annotated[MasterCapabilityType | None, n(1)] = None


class MasterInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.MasterInfo``; *ip* is the address' four bytes read little-endian."""

    id: Annotated[str, n(1)]
    ip: Annotated[U32, n(2)]
    port: Annotated[U32, n(3)] = declared(5050)
    pid: Annotated[str | None, n(4)] = None
    hostname: Annotated[str | None, n(5)] = None
    version: Annotated[str | None, n(6)] = None
    address: Annotated[Address | None, n(7)] = None
    domain: Annotated[DomainInfo | None, n(8)] = None
    capabilities: Annotated[tuple[MasterCapability, ...], n(9)] = ()


class Text(Message, frozen=True, kw_only=True):
    """``mesos.v1.Value.Text``."""

    value: Annotated[str, n(1)]


class Attribute(Message, frozen=True, kw_only=True):
    """One attribute of an agent."""

    name: Annotated[str, n(1)]
    type: Annotated[ValueType, n(2)]
    scalar: Annotated[Scalar | None, n(3)] = None
    ranges: Annotated[Ranges | None, n(4)] = None
    set: Annotated[Set | None, n(6)] = None
    text: Annotated[Text | None, n(5)] = None


class AgentInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.AgentInfo``; agents have checkpointed always, and still say so."""

    hostname: Annotated[str, n(1)]
    port: Annotated[I32, n(8)] = declared(5051)
    resources: Annotated[tuple[Resource, ...], n(3)] = ()
    attributes: Annotated[tuple[Attribute, ...], n(5)] = ()
    id: Annotated[AgentID | None, n(6)] = None
    checkpoint: Annotated[bool, n(7)] = declared(True)
    domain: Annotated[DomainInfo | None, n(10)] = None


class AgentCapability(Message, frozen=True, kw_only=True):
    """``mesos.v1.AgentInfo.Capability``."""

    type: Annotated[AgentCapabilityType | None, n(1)] = None


class ResourceProviderInfoStorage(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceProviderInfo.Storage``."""

    reconciliation_interval_seconds: Annotated[float | None, n(2)] = None


class ResourceProviderInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceProviderInfo``."""

    id: Annotated[ResourceProviderID | None, n(1)] = None
    attributes: Annotated[tuple[Attribute, ...], n(2)] = ()
    type: Annotated[str, n(3)]
    name: Annotated[str, n(4)]
    default_reservations: Annotated[tuple[ReservationInfo, ...], n(5)] = ()
    storage: Annotated[ResourceProviderInfoStorage | None, n(6)] = None


class DiskStatistics(Message, frozen=True, kw_only=True):
    """``mesos.v1.DiskStatistics``."""

    source: Annotated[DiskSource | None, n(1)] = None
    persistence: Annotated[Persistence | None, n(2)] = None
    limit_bytes: Annotated[U64 | None, n(3)] = None
    used_bytes: Annotated[U64 | None, n(4)] = None


class ResourceStatistics(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceStatistics``."""

    timestamp: Annotated[float, n(1)]
    processes: Annotated[U32 | None, n(30)] = None
    threads: Annotated[U32 | None, n(31)] = None
    cpus_user_time_secs: Annotated[float | None, n(2)] = None
    cpus_system_time_secs: Annotated[float | None, n(3)] = None
    cpus_limit: Annotated[float | None, n(4)] = None
    cpus_soft_limit: Annotated[float | None, n(45)] = None
    cpus_nr_periods: Annotated[U32 | None, n(7)] = None
    cpus_nr_throttled: Annotated[U32 | None, n(8)] = None
    cpus_throttled_time_secs: Annotated[float | None, n(9)] = None
    mem_total_bytes: Annotated[U64 | None, n(36)] = None
    mem_total_memsw_bytes: Annotated[U64 | None, n(37)] = None
    mem_kmem_usage_bytes: Annotated[U64 | None, n(52)] = None
    mem_kmem_tcp_usage_bytes: Annotated[U64 | None, n(53)] = None
    mem_limit_bytes: Annotated[U64 | None, n(6)] = None
    mem_soft_limit_bytes: Annotated[U64 | None, n(38)] = None
    mem_file_bytes: Annotated[U64 | None, n(10)] = None
    mem_anon_bytes: Annotated[U64 | None, n(11)] = None
    mem_cache_bytes: Annotated[U64 | None, n(39)] = None
    mem_rss_bytes: Annotated[U64 | None, n(5)] = None
    mem_mapped_file_bytes: Annotated[U64 | None, n(12)] = None
    mem_swap_bytes: Annotated[U64 | None, n(40)] = None
    mem_unevictable_bytes: Annotated[U64 | None, n(41)] = None
    mem_low_pressure_counter: Annotated[U64 | None, n(32)] = None
    mem_medium_pressure_counter: Annotated[U64 | None, n(33)] = None
    mem_critical_pressure_counter: Annotated[U64 | None, n(34)] = None
    disk_limit_bytes: Annotated[U64 | None, n(26)] = None
    disk_used_bytes: Annotated[U64 | None, n(27)] = None
    disk_statistics: Annotated[tuple[DiskStatistics, ...], n(43)] = ()
    net_rx_packets: Annotated[U64 | None, n(14)] = None
    net_rx_bytes: Annotated[U64 | None, n(15)] = None
    net_rx_errors: Annotated[U64 | None, n(16)] = None
    net_rx_dropped: Annotated[U64 | None, n(17)] = None
    net_tx_packets: Annotated[U64 | None, n(18)] = None
    net_tx_bytes: Annotated[U64 | None, n(19)] = None
    net_tx_errors: Annotated[U64 | None, n(20)] = None
    net_tx_dropped: Annotated[U64 | None, n(21)] = None
    net_tx_rate_limit: Annotated[U64 | None, n(46)] = None
    net_tx_burst_rate_limit: Annotated[U64 | None, n(47)] = None
    net_tx_burst_size: Annotated[U64 | None, n(48)] = None
    net_rx_rate_limit: Annotated[U64 | None, n(49)] = None
    net_rx_burst_rate_limit: Annotated[U64 | None, n(50)] = None
    net_rx_burst_size: Annotated[U64 | None, n(51)] = None
    net_ephemeral_ports: Annotated[Range | None, n(55)] = None
    net_tcp_rtt_microsecs_p50: Annotated[float | None, n(22)] = None
    net_tcp_rtt_microsecs_p90: Annotated[float | None, n(23)] = None
    net_tcp_rtt_microsecs_p95: Annotated[float | None, n(24)] = None
    net_tcp_rtt_microsecs_p99: Annotated[float | None, n(25)] = None
    net_tcp_active_connections: Annotated[float | None, n(28)] = None
    net_tcp_time_wait_connections: Annotated[float | None, n(29)] = None


class ExecutorTask(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceUsage.Executor.Task``."""

    name: Annotated[str, n(1)]
    id: Annotated[TaskID, n(2)]
    resources: Annotated[tuple[Resource, ...], n(3)] = ()
    labels: Annotated[Labels | None, n(4)] = None


class ResourceUsageExecutor(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceUsage.Executor``."""

    executor_info: Annotated[ExecutorInfo, n(1)]
    allocated: Annotated[tuple[Resource, ...], n(2)] = ()
    statistics: Annotated[ResourceStatistics | None, n(3)] = None
    container_id: Annotated[ContainerID, n(4)]
    tasks: Annotated[tuple[ExecutorTask, ...], n(5)] = ()


class ResourceUsage(Message, frozen=True, kw_only=True):
    """``mesos.v1.ResourceUsage``."""

    executors: Annotated[tuple[ResourceUsageExecutor, ...], n(1)] = ()
    total: Annotated[tuple[Resource, ...], n(2)] = ()


class Request(Message, frozen=True, kw_only=True):
    """``mesos.v1.Request``."""

    agent_id: Annotated[AgentID | None, n(1)] = None
    resources: Annotated[tuple[Resource, ...], n(2)] = ()


class Offer(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer``."""

    id: Annotated[OfferID, n(1)]
    framework_id: Annotated[FrameworkID, n(2)]
    agent_id: Annotated[AgentID, n(3)]
    hostname: Annotated[str, n(4)]
    url: Annotated[URL | None, n(8)] = None
    domain: Annotated[DomainInfo | None, n(11)] = None
    resources: Annotated[tuple[Resource, ...], n(5)] = ()
    attributes: Annotated[tuple[Attribute, ...], n(7)] = ()
    executor_ids: Annotated[tuple[ExecutorID, ...], n(6)] = ()
    unavailability: Annotated[Unavailability | None, n(9)] = None
    allocation_info: Annotated[AllocationInfo | None, n(10)] = None


class TaskInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskInfo``: a task to launch."""

    name: Annotated[str, n(1)]
    task_id: Annotated[TaskID, n(2)]
    agent_id: Annotated[AgentID, n(3)]
    resources: Annotated[tuple[Resource, ...], n(4)] = ()
    executor: Annotated[ExecutorInfo | None, n(5)] = None
    command: Annotated[CommandInfo | None, n(7)] = None
    container: Annotated[ContainerInfo | None, n(9)] = None
    health_check: Annotated[HealthCheck | None, n(8)] = None
    check: Annotated[CheckInfo | None, n(13)] = None
    kill_policy: Annotated[KillPolicy | None, n(12)] = None
    data: Annotated[bytes | None, n(6)] = None
    labels: Annotated[Labels | None, n(10)] = None
    discovery: Annotated[DiscoveryInfo | None, n(11)] = None
    max_completion_time: Annotated[DurationInfo | None, n(14)] = None
    limits: Annotated[dict[str, Scalar], n(15)] = msgspec.field(default_factory=dict)


class Launch(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Launch``."""

    task_infos: Annotated[tuple[TaskInfo, ...], n(1)] = ()


class TaskGroupInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskGroupInfo``."""

    tasks: Annotated[tuple[TaskInfo, ...], n(1)] = ()


class LaunchGroup(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.LaunchGroup``."""

    executor: Annotated[ExecutorInfo, n(1)]
    task_group: Annotated[TaskGroupInfo, n(2)]


class Reserve(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Reserve``."""

    source: Annotated[tuple[Resource, ...], n(2)] = ()
    resources: Annotated[tuple[Resource, ...], n(1)] = ()


class Unreserve(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Unreserve``."""

    resources: Annotated[tuple[Resource, ...], n(1)] = ()


class Create(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Create``."""

    volumes: Annotated[tuple[Resource, ...], n(1)] = ()


class Destroy(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.Destroy``."""

    volumes: Annotated[tuple[Resource, ...], n(1)] = ()


class GrowVolume(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.GrowVolume``."""

    volume: Annotated[Resource, n(1)]
    addition: Annotated[Resource, n(2)]


class ShrinkVolume(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.ShrinkVolume``."""

    volume: Annotated[Resource, n(1)]
    subtract: Annotated[Scalar, n(2)]


class CreateDisk(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.CreateDisk``."""

    source: Annotated[Resource, n(1)]
    target_type: Annotated[DiskSourceType, n(2)]
    target_profile: Annotated[str | None, n(3)] = None


class DestroyDisk(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation.DestroyDisk``."""

    source: Annotated[Resource, n(1)]


class Operation(Message, frozen=True, kw_only=True):
    """``mesos.v1.Offer.Operation``; the types that this build carries out."""

    type: Annotated[OperationType | None, n(1)] = None
    id: Annotated[OperationID | None, n(12)] = None
    launch: Annotated[Launch | None, n(2)] = None
    launch_group: Annotated[LaunchGroup | None, n(7)] = None
    reserve: Annotated[Reserve | None, n(3)] = None
    unreserve: Annotated[Unreserve | None, n(4)] = None
    create: Annotated[Create | None, n(5)] = None
    destroy: Annotated[Destroy | None, n(6)] = None
    grow_volume: Annotated[GrowVolume | None, n(13)] = None
    shrink_volume: Annotated[ShrinkVolume | None, n(14)] = None
    create_disk: Annotated[CreateDisk | None, n(15)] = None
    destroy_disk: Annotated[DestroyDisk | None, n(16)] = None


class InverseOffer(Message, frozen=True, kw_only=True):
    """``mesos.v1.InverseOffer``."""

    id: Annotated[OfferID, n(1)]
    url: Annotated[URL | None, n(2)] = None
    framework_id: Annotated[FrameworkID, n(3)]
    agent_id: Annotated[AgentID | None, n(4)] = None
    unavailability: Annotated[Unavailability, n(5)]
    resources: Annotated[tuple[Resource, ...], n(6)] = ()


class CheckStatusInfoCommand(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckStatusInfo.Command``."""

    exit_code: Annotated[I32 | None, n(1)] = None


class CheckStatusInfoHttp(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckStatusInfo.Http``."""

    status_code: Annotated[U32 | None, n(1)] = None


class CheckStatusInfoTcp(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckStatusInfo.Tcp``."""

    succeeded: Annotated[bool | None, n(1)] = None


class CheckStatusInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CheckStatusInfo``."""

    type: Annotated[CheckInfoType | None, n(1)] = None
    command: Annotated[CheckStatusInfoCommand | None, n(2)] = None
    http: Annotated[CheckStatusInfoHttp | None, n(3)] = None
    tcp: Annotated[CheckStatusInfoTcp | None, n(4)] = None


class NetCls(Message, frozen=True, kw_only=True):
    """``mesos.v1.CgroupInfo.NetCls``."""

    classid: Annotated[U32 | None, n(1)] = None


class CgroupInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.CgroupInfo``."""

    net_cls: Annotated[NetCls | None, n(1)] = None


class ContainerStatus(Message, frozen=True, kw_only=True):
    """What the agent knows of a container."""

    container_id: Annotated[ContainerID | None, n(4)] = None
    network_infos: Annotated[tuple[NetworkInfo, ...], n(1)] = ()
    cgroup_info: Annotated[CgroupInfo | None, n(2)] = None
    executor_pid: Annotated[U32 | None, n(3)] = None


class TaskResourceLimitation(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskResourceLimitation``."""

    resources: Annotated[tuple[Resource, ...], n(1)] = ()


class TaskStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.TaskStatus``; *uuid* is set on updates that want an acknowledgement."""

    task_id: Annotated[TaskID, n(1)]
    state: Annotated[TaskState, n(2)]
    message: Annotated[str | None, n(4)] = None
    source: Annotated[StatusSource | None, n(9)] = None
    reason: Annotated[Reason | None, n(10)] = None
    data: Annotated[bytes | None, n(3)] = None
    agent_id: Annotated[AgentID | None, n(5)] = None
    executor_id: Annotated[ExecutorID | None, n(7)] = None
    timestamp: Annotated[float | None, n(6)] = None
    uuid: Annotated[bytes | None, n(11)] = None
    healthy: Annotated[bool | None, n(8)] = None
    check_status: Annotated[CheckStatusInfo | None, n(15)] = None
    labels: Annotated[Labels | None, n(12)] = None
    container_status: Annotated[ContainerStatus | None, n(13)] = None
    unreachable_time: Annotated[TimeInfo | None, n(14)] = None
    limitation: Annotated[TaskResourceLimitation | None, n(16)] = None


class Task(Message, frozen=True, kw_only=True):
    """``mesos.v1.Task``: a task as master and agent keep it."""

    name: Annotated[str, n(1)]
    task_id: Annotated[TaskID, n(2)]
    framework_id: Annotated[FrameworkID, n(3)]
    executor_id: Annotated[ExecutorID | None, n(4)] = None
    agent_id: Annotated[AgentID, n(5)]
    state: Annotated[TaskState, n(6)]
    resources: Annotated[tuple[Resource, ...], n(7)] = ()
    statuses: Annotated[tuple[TaskStatus, ...], n(8)] = ()
    status_update_state: Annotated[TaskState | None, n(9)] = None
    status_update_uuid: Annotated[bytes | None, n(10)] = None
    labels: Annotated[Labels | None, n(11)] = None
    discovery: Annotated[DiscoveryInfo | None, n(12)] = None
    container: Annotated[ContainerInfo | None, n(13)] = None
    health_check: Annotated[HealthCheck | None, n(15)] = None
    kill_policy: Annotated[KillPolicy | None, n(16)] = None
    user: Annotated[str | None, n(14)] = None
    limits: Annotated[dict[str, Scalar], n(17)] = msgspec.field(default_factory=dict)


class UUID(Message, frozen=True, kw_only=True):
    """``mesos.v1.UUID``."""

    value: Annotated[bytes, n(1)]


class OperationStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.OperationStatus``."""

    operation_id: Annotated[OperationID | None, n(1)] = None
    state: Annotated[OperationState, n(2)]
    message: Annotated[str | None, n(3)] = None
    converted_resources: Annotated[tuple[Resource, ...], n(4)] = ()
    uuid: Annotated[UUID | None, n(5)] = None
    agent_id: Annotated[AgentID | None, n(6)] = None
    resource_provider_id: Annotated[ResourceProviderID | None, n(7)] = None


class OperationRecord(Message, frozen=True, kw_only=True):
    """``mesos.v1.Operation``."""

    framework_id: Annotated[FrameworkID | None, n(1)] = None
    agent_id: Annotated[AgentID | None, n(2)] = None
    info: Annotated[Operation, n(3)]
    latest_status: Annotated[OperationStatus, n(4)]
    statuses: Annotated[tuple[OperationStatus, ...], n(5)] = ()
    uuid: Annotated[UUID, n(6)]


class Filters(Message, frozen=True, kw_only=True):
    """How long a declined offer stays away, in seconds."""

    refuse_seconds: Annotated[float, n(1)] = declared(5.0)


class Credentials(Message, frozen=True, kw_only=True):
    """``mesos.v1.Credentials``."""

    credentials: Annotated[tuple[Credential, ...], n(1)] = ()


class WeightInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.WeightInfo``."""

    weight: Annotated[float, n(1)]
    role: Annotated[str | None, n(2)] = None


class VersionInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.VersionInfo``."""

    version: Annotated[str, n(1)]
    build_date: Annotated[str | None, n(2)] = None
    build_time: Annotated[float | None, n(3)] = None
    build_user: Annotated[str | None, n(4)] = None
    git_sha: Annotated[str | None, n(5)] = None
    git_branch: Annotated[str | None, n(6)] = None
    git_tag: Annotated[str | None, n(7)] = None


class Flag(Message, frozen=True, kw_only=True):
    """``mesos.v1.Flag``."""

    name: Annotated[str, n(1)]
    value: Annotated[str | None, n(2)] = None


class Role(Message, frozen=True, kw_only=True):
    """``mesos.v1.Role``."""

    name: Annotated[str, n(1)]
    weight: Annotated[float, n(2)]
    frameworks: Annotated[tuple[FrameworkID, ...], n(3)] = ()
    resources: Annotated[tuple[Resource, ...], n(4)] = ()


class Metric(Message, frozen=True, kw_only=True):
    """``mesos.v1.Metric``."""

    name: Annotated[str, n(1)]
    value: Annotated[float | None, n(2)] = None


class FileInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.FileInfo``."""

    path: Annotated[str, n(1)]
    nlink: Annotated[I32 | None, n(2)] = None
    size: Annotated[U64 | None, n(3)] = None
    mtime: Annotated[TimeInfo | None, n(4)] = None
    mode: Annotated[U32 | None, n(5)] = None
    uid: Annotated[str | None, n(6)] = None
    gid: Annotated[str | None, n(7)] = None


class DeviceNumber(Message, frozen=True, kw_only=True):
    """``mesos.v1.Device.Number``."""

    major_number: Annotated[U64, n(1)]
    minor_number: Annotated[U64, n(2)]


class Device(Message, frozen=True, kw_only=True):
    """``mesos.v1.Device``."""

    path: Annotated[str | None, n(1)] = None
    number: Annotated[DeviceNumber | None, n(2)] = None


class DeviceAccessAccess(Message, frozen=True, kw_only=True):
    """``mesos.v1.DeviceAccess.Access``."""

    read: Annotated[bool | None, n(1)] = None
    write: Annotated[bool | None, n(2)] = None
    mknod: Annotated[bool | None, n(3)] = None


class DeviceAccess(Message, frozen=True, kw_only=True):
    """``mesos.v1.DeviceAccess``."""

    device: Annotated[Device, n(1)]
    access: Annotated[DeviceAccessAccess, n(2)]


class DeviceWhitelist(Message, frozen=True, kw_only=True):
    """``mesos.v1.DeviceWhitelist``."""

    allowed_devices: Annotated[tuple[DeviceAccess, ...], n(1)] = ()


class DrainConfig(Message, frozen=True, kw_only=True):
    """``mesos.v1.DrainConfig``."""

    max_grace_period: Annotated[DurationInfo | None, n(1)] = None
    mark_gone: Annotated[bool, n(2)] = declared(False)


class DrainInfo(Message, frozen=True, kw_only=True):
    """``mesos.v1.DrainInfo``."""

    state: Annotated[DrainState, n(1)]
    config: Annotated[DrainConfig, n(2)]
