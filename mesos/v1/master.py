"""Calls, answers and events of the v1 operator API of a master (reference mesos §3.1, §3.2)."""

from typing import Annotated

from phalanx.mesos.v1.codec import Message, declared
from phalanx.mesos.v1.maintenance import ClusterStatus, Schedule
from phalanx.mesos.v1.mesos import (
    AgentCapability,
    AgentID,
    AgentInfo,
    DrainInfo,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    InverseOffer,
    MachineID,
    MasterInfo,
    Offer,
    ProtobufDuration,
    Resource,
    ResourceProviderInfo,
    Role,
    Scalar,
    Task,
    TaskState,
    TaskStatus,
    TimeInfo,
    WeightInfo,
)
from phalanx.mesos.v1.operator import (
    GetFlagsAnswer,
    GetHealthAnswer,
    GetLoggingLevelAnswer,
    GetMetrics,
    GetMetricsAnswer,
    GetOperationsAnswer,
    GetVersionAnswer,
    ListFiles,
    ListFilesAnswer,
    ReadFile,
    ReadFileAnswer,
    SetLoggingLevel,
)
from phalanx.mesos.v1.quota import QuotaConfig, QuotaRequest, QuotaStatus
from phalanx.mesos.v1.scheduler import OfferConstraints
from phalanx.mesos.v1.wire import n, names

CallType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "GET_HEALTH": 1,
            "GET_FLAGS": 2,
            "GET_VERSION": 3,
            "GET_METRICS": 4,
            "GET_LOGGING_LEVEL": 5,
            "SET_LOGGING_LEVEL": 6,
            "LIST_FILES": 7,
            "READ_FILE": 8,
            "GET_STATE": 9,
            "GET_AGENTS": 10,
            "GET_FRAMEWORKS": 11,
            "GET_EXECUTORS": 12,
            "GET_OPERATIONS": 33,
            "GET_TASKS": 13,
            "GET_ROLES": 14,
            "GET_WEIGHTS": 15,
            "UPDATE_WEIGHTS": 16,
            "GET_MASTER": 17,
            "SUBSCRIBE": 18,
            "RESERVE_RESOURCES": 19,
            "UNRESERVE_RESOURCES": 20,
            "CREATE_VOLUMES": 21,
            "DESTROY_VOLUMES": 22,
            "GROW_VOLUME": 34,
            "SHRINK_VOLUME": 35,
            "GET_MAINTENANCE_STATUS": 23,
            "GET_MAINTENANCE_SCHEDULE": 24,
            "UPDATE_MAINTENANCE_SCHEDULE": 25,
            "START_MAINTENANCE": 26,
            "STOP_MAINTENANCE": 27,
            "DRAIN_AGENT": 37,
            "DEACTIVATE_AGENT": 38,
            "REACTIVATE_AGENT": 39,
            "GET_QUOTA": 28,
            "UPDATE_QUOTA": 36,
            "SET_QUOTA": 29,
            "REMOVE_QUOTA": 30,
            "TEARDOWN": 31,
            "MARK_AGENT_GONE": 32,
        }
    ),
]
ResponseType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "GET_HEALTH": 1,
            "GET_FLAGS": 2,
            "GET_VERSION": 3,
            "GET_METRICS": 4,
            "GET_LOGGING_LEVEL": 5,
            "LIST_FILES": 6,
            "READ_FILE": 7,
            "GET_STATE": 8,
            "GET_AGENTS": 9,
            "GET_FRAMEWORKS": 10,
            "GET_EXECUTORS": 11,
            "GET_OPERATIONS": 19,
            "GET_TASKS": 12,
            "GET_ROLES": 13,
            "GET_WEIGHTS": 14,
            "GET_MASTER": 15,
            "GET_MAINTENANCE_STATUS": 16,
            "GET_MAINTENANCE_SCHEDULE": 17,
            "GET_QUOTA": 18,
        }
    ),
]
EventType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "SUBSCRIBED": 1,
            "TASK_ADDED": 2,
            "TASK_UPDATED": 3,
            "AGENT_ADDED": 4,
            "AGENT_REMOVED": 5,
            "FRAMEWORK_ADDED": 6,
            "FRAMEWORK_UPDATED": 7,
            "FRAMEWORK_REMOVED": 8,
            "HEARTBEAT": 9,
        }
    ),
]


class UpdateWeights(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.UpdateWeights``."""

    weight_infos: Annotated[tuple[WeightInfo, ...], n(1)] = ()


class ReserveResources(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.ReserveResources``."""

    agent_id: Annotated[AgentID, n(1)]
    source: Annotated[tuple[Resource, ...], n(3)] = ()
    resources: Annotated[tuple[Resource, ...], n(2)] = ()


class UnreserveResources(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.UnreserveResources``."""

    agent_id: Annotated[AgentID, n(1)]
    resources: Annotated[tuple[Resource, ...], n(2)] = ()


class CreateVolumes(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.CreateVolumes``."""

    agent_id: Annotated[AgentID, n(1)]
    volumes: Annotated[tuple[Resource, ...], n(2)] = ()


class DestroyVolumes(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.DestroyVolumes``."""

    agent_id: Annotated[AgentID, n(1)]
    volumes: Annotated[tuple[Resource, ...], n(2)] = ()


class GrowVolume(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.GrowVolume``."""

    agent_id: Annotated[AgentID | None, n(1)] = None
    volume: Annotated[Resource, n(2)]
    addition: Annotated[Resource, n(3)]


class ShrinkVolume(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.ShrinkVolume``."""

    agent_id: Annotated[AgentID | None, n(1)] = None
    volume: Annotated[Resource, n(2)]
    subtract: Annotated[Scalar, n(3)]


class UpdateMaintenanceSchedule(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.UpdateMaintenanceSchedule``."""

    schedule: Annotated[Schedule, n(1)]


class StartMaintenance(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.StartMaintenance``."""

    machines: Annotated[tuple[MachineID, ...], n(1)] = ()


class StopMaintenance(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.StopMaintenance``."""

    machines: Annotated[tuple[MachineID, ...], n(1)] = ()


class DrainAgent(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.DrainAgent``."""

    agent_id: Annotated[AgentID, n(1)]
    max_grace_period: Annotated[ProtobufDuration | None, n(2)] = None
    mark_gone: Annotated[bool, n(3)] = declared(False)


class DeactivateAgent(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.DeactivateAgent``."""

    agent_id: Annotated[AgentID, n(1)]


class ReactivateAgent(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.ReactivateAgent``."""

    agent_id: Annotated[AgentID, n(1)]


class UpdateQuota(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.UpdateQuota``."""

    force: Annotated[bool | None, n(1)] = None
    quota_configs: Annotated[tuple[QuotaConfig, ...], n(2)] = ()


class Teardown(Message, frozen=True, kw_only=True):
    """End a framework."""

    framework_id: Annotated[FrameworkID, n(1)]


class MarkAgentGone(Message, frozen=True, kw_only=True):
    """Declare that an agent never comes back."""

    agent_id: Annotated[AgentID, n(1)]


class SetQuota(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.SetQuota``."""

    quota_request: Annotated[QuotaRequest, n(1)]


class RemoveQuota(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call.RemoveQuota``."""

    role: Annotated[str, n(1)]


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Call``; the members that this build reads."""

    type: Annotated[CallType | None, n(1)] = None
    get_metrics: Annotated[GetMetrics | None, n(2)] = None
    set_logging_level: Annotated[SetLoggingLevel | None, n(3)] = None
    list_files: Annotated[ListFiles | None, n(4)] = None
    read_file: Annotated[ReadFile | None, n(5)] = None
    update_weights: Annotated[UpdateWeights | None, n(6)] = None
    reserve_resources: Annotated[ReserveResources | None, n(7)] = None
    unreserve_resources: Annotated[UnreserveResources | None, n(8)] = None
    create_volumes: Annotated[CreateVolumes | None, n(9)] = None
    destroy_volumes: Annotated[DestroyVolumes | None, n(10)] = None
    grow_volume: Annotated[GrowVolume | None, n(18)] = None
    shrink_volume: Annotated[ShrinkVolume | None, n(19)] = None
    update_maintenance_schedule: Annotated[UpdateMaintenanceSchedule | None, n(11)] = None
    start_maintenance: Annotated[StartMaintenance | None, n(12)] = None
    stop_maintenance: Annotated[StopMaintenance | None, n(13)] = None
    drain_agent: Annotated[DrainAgent | None, n(21)] = None
    deactivate_agent: Annotated[DeactivateAgent | None, n(22)] = None
    reactivate_agent: Annotated[ReactivateAgent | None, n(23)] = None
    update_quota: Annotated[UpdateQuota | None, n(20)] = None
    teardown: Annotated[Teardown | None, n(16)] = None
    mark_agent_gone: Annotated[MarkAgentGone | None, n(17)] = None
    set_quota: Annotated[SetQuota | None, n(14)] = None
    remove_quota: Annotated[RemoveQuota | None, n(15)] = None


class GetTasksAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetTasks``."""

    pending_tasks: Annotated[tuple[Task, ...], n(1)] = ()
    tasks: Annotated[tuple[Task, ...], n(2)] = ()
    unreachable_tasks: Annotated[tuple[Task, ...], n(5)] = ()
    completed_tasks: Annotated[tuple[Task, ...], n(3)] = ()
    orphan_tasks: Annotated[tuple[Task, ...], n(4)] = ()


class GetExecutorsExecutor(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetExecutors.Executor``."""

    executor_info: Annotated[ExecutorInfo, n(1)]
    agent_id: Annotated[AgentID, n(2)]


class GetExecutorsAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetExecutors``."""

    executors: Annotated[tuple[GetExecutorsExecutor, ...], n(1)] = ()
    orphan_executors: Annotated[tuple[GetExecutorsExecutor, ...], n(2)] = ()


class GetFrameworksFramework(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetFrameworks.Framework``."""

    framework_info: Annotated[FrameworkInfo, n(1)]
    active: Annotated[bool, n(2)]
    connected: Annotated[bool, n(3)]
    recovered: Annotated[bool, n(11)]
    registered_time: Annotated[TimeInfo | None, n(4)] = None
    reregistered_time: Annotated[TimeInfo | None, n(5)] = None
    unregistered_time: Annotated[TimeInfo | None, n(6)] = None
    offers: Annotated[tuple[Offer, ...], n(7)] = ()
    inverse_offers: Annotated[tuple[InverseOffer, ...], n(8)] = ()
    allocated_resources: Annotated[tuple[Resource, ...], n(9)] = ()
    offered_resources: Annotated[tuple[Resource, ...], n(10)] = ()
    offer_constraints: Annotated[OfferConstraints | None, n(12)] = None


class GetFrameworksAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetFrameworks``."""

    frameworks: Annotated[tuple[GetFrameworksFramework, ...], n(1)] = ()
    completed_frameworks: Annotated[tuple[GetFrameworksFramework, ...], n(2)] = ()
    recovered_frameworks: Annotated[tuple[FrameworkInfo, ...], n(3)] = ()


class AgentResourceProvider(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetAgents.Agent.ResourceProvider``."""

    resource_provider_info: Annotated[ResourceProviderInfo, n(1)]
    total_resources: Annotated[tuple[Resource, ...], n(2)] = ()


class GetAgentsAgent(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetAgents.Agent``."""

    agent_info: Annotated[AgentInfo, n(1)]
    active: Annotated[bool, n(2)]
    deactivated: Annotated[bool | None, n(12)] = None
    version: Annotated[str, n(3)]
    pid: Annotated[str | None, n(4)] = None
    registered_time: Annotated[TimeInfo | None, n(5)] = None
    reregistered_time: Annotated[TimeInfo | None, n(6)] = None
    total_resources: Annotated[tuple[Resource, ...], n(7)] = ()
    allocated_resources: Annotated[tuple[Resource, ...], n(8)] = ()
    offered_resources: Annotated[tuple[Resource, ...], n(9)] = ()
    capabilities: Annotated[tuple[AgentCapability, ...], n(10)] = ()
    resource_providers: Annotated[tuple[AgentResourceProvider, ...], n(11)] = ()
    drain_info: Annotated[DrainInfo | None, n(13)] = None
    estimated_drain_start_time: Annotated[TimeInfo | None, n(14)] = None


class GetAgentsAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetAgents``."""

    agents: Annotated[tuple[GetAgentsAgent, ...], n(1)] = ()
    recovered_agents: Annotated[tuple[AgentInfo, ...], n(2)] = ()


class GetStateAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetState``."""

    get_tasks: Annotated[GetTasksAnswer | None, n(1)] = None
    get_executors: Annotated[GetExecutorsAnswer | None, n(2)] = None
    get_frameworks: Annotated[GetFrameworksAnswer | None, n(3)] = None
    get_agents: Annotated[GetAgentsAnswer | None, n(4)] = None


class GetRolesAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetRoles``."""

    roles: Annotated[tuple[Role, ...], n(1)] = ()


class GetWeightsAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetWeights``."""

    weight_infos: Annotated[tuple[WeightInfo, ...], n(1)] = ()


class GetMasterAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetMaster``."""

    master_info: Annotated[MasterInfo | None, n(1)] = None
    start_time: Annotated[float | None, n(2)] = None
    elected_time: Annotated[float | None, n(3)] = None


class GetMaintenanceStatusAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetMaintenanceStatus``."""

    status: Annotated[ClusterStatus, n(1)]


class GetMaintenanceScheduleAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetMaintenanceSchedule``."""

    schedule: Annotated[Schedule, n(1)]


class GetQuotaAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response.GetQuota``."""

    status: Annotated[QuotaStatus, n(1)]


class Response(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Response``."""

    type: Annotated[ResponseType | None, n(1)] = None
    get_health: Annotated[GetHealthAnswer | None, n(2)] = None
    get_flags: Annotated[GetFlagsAnswer | None, n(3)] = None
    get_version: Annotated[GetVersionAnswer | None, n(4)] = None
    get_metrics: Annotated[GetMetricsAnswer | None, n(5)] = None
    get_logging_level: Annotated[GetLoggingLevelAnswer | None, n(6)] = None
    list_files: Annotated[ListFilesAnswer | None, n(7)] = None
    read_file: Annotated[ReadFileAnswer | None, n(8)] = None
    get_state: Annotated[GetStateAnswer | None, n(9)] = None
    get_agents: Annotated[GetAgentsAnswer | None, n(10)] = None
    get_frameworks: Annotated[GetFrameworksAnswer | None, n(11)] = None
    get_executors: Annotated[GetExecutorsAnswer | None, n(12)] = None
    get_operations: Annotated[GetOperationsAnswer | None, n(20)] = None
    get_tasks: Annotated[GetTasksAnswer | None, n(13)] = None
    get_roles: Annotated[GetRolesAnswer | None, n(14)] = None
    get_weights: Annotated[GetWeightsAnswer | None, n(15)] = None
    get_master: Annotated[GetMasterAnswer | None, n(16)] = None
    get_maintenance_status: Annotated[GetMaintenanceStatusAnswer | None, n(17)] = None
    get_maintenance_schedule: Annotated[GetMaintenanceScheduleAnswer | None, n(18)] = None
    get_quota: Annotated[GetQuotaAnswer | None, n(19)] = None


class Subscribed(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.Subscribed``."""

    get_state: Annotated[GetStateAnswer | None, n(1)] = None
    heartbeat_interval_seconds: Annotated[float | None, n(2)] = None


class TaskAdded(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.TaskAdded``."""

    task: Annotated[Task, n(1)]


class TaskUpdated(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.TaskUpdated``."""

    framework_id: Annotated[FrameworkID, n(1)]
    status: Annotated[TaskStatus, n(2)]
    state: Annotated[TaskState, n(3)]


class AgentAdded(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.AgentAdded``."""

    agent: Annotated[GetAgentsAgent, n(1)]


class AgentRemoved(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.AgentRemoved``."""

    agent_id: Annotated[AgentID, n(1)]


class FrameworkAdded(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.FrameworkAdded``."""

    framework: Annotated[GetFrameworksFramework, n(1)]


class FrameworkUpdated(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.FrameworkUpdated``."""

    framework: Annotated[GetFrameworksFramework, n(1)]


class FrameworkRemoved(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event.FrameworkRemoved``."""

    framework_info: Annotated[FrameworkInfo, n(1)]


class Event(Message, frozen=True, kw_only=True):
    """``mesos.v1.master.Event``."""

    type: Annotated[EventType | None, n(1)] = None
    subscribed: Annotated[Subscribed | None, n(2)] = None
    task_added: Annotated[TaskAdded | None, n(3)] = None
    task_updated: Annotated[TaskUpdated | None, n(4)] = None
    agent_added: Annotated[AgentAdded | None, n(5)] = None
    agent_removed: Annotated[AgentRemoved | None, n(6)] = None
    framework_added: Annotated[FrameworkAdded | None, n(7)] = None
    framework_updated: Annotated[FrameworkUpdated | None, n(8)] = None
    framework_removed: Annotated[FrameworkRemoved | None, n(9)] = None
