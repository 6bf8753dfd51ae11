"""Calls and answers of the v1 operator API of an agent (reference mesos §3.3, appendix A)."""

from typing import Annotated

import msgspec

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    CommandInfo,
    ContainerID,
    ContainerInfo,
    ContainerStatus,
    DrainConfig,
    DurationInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Image,
    Reason,
    Resource,
    ResourceProviderID,
    ResourceProviderInfo,
    ResourceStatistics,
    Scalar,
    Task,
    TaskResourceLimitation,
    TaskState,
    TimeInfo,
    TTYInfo,
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
from phalanx.mesos.v1.wire import I32, n, names

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
            "GET_CONTAINERS": 10,
            "GET_FRAMEWORKS": 11,
            "GET_EXECUTORS": 12,
            "GET_OPERATIONS": 31,
            "GET_TASKS": 13,
            "GET_AGENT": 20,
            "GET_RESOURCE_PROVIDERS": 26,
            "LAUNCH_NESTED_CONTAINER": 14,
            "WAIT_NESTED_CONTAINER": 15,
            "KILL_NESTED_CONTAINER": 16,
            "REMOVE_NESTED_CONTAINER": 21,
            "LAUNCH_NESTED_CONTAINER_SESSION": 17,
            "ATTACH_CONTAINER_INPUT": 18,
            "ATTACH_CONTAINER_OUTPUT": 19,
            "LAUNCH_CONTAINER": 22,
            "WAIT_CONTAINER": 23,
            "KILL_CONTAINER": 24,
            "REMOVE_CONTAINER": 25,
            "ADD_RESOURCE_PROVIDER_CONFIG": 27,
            "UPDATE_RESOURCE_PROVIDER_CONFIG": 28,
            "REMOVE_RESOURCE_PROVIDER_CONFIG": 29,
            "MARK_RESOURCE_PROVIDER_GONE": 32,
            "PRUNE_IMAGES": 30,
        }
    ),
]
AttachContainerInputType = Annotated[str, names({"UNKNOWN": 0, "CONTAINER_ID": 1, "PROCESS_IO": 2})]
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
            "GET_CONTAINERS": 9,
            "GET_FRAMEWORKS": 10,
            "GET_EXECUTORS": 11,
            "GET_OPERATIONS": 17,
            "GET_TASKS": 12,
            "GET_AGENT": 14,
            "GET_RESOURCE_PROVIDERS": 16,
            "WAIT_NESTED_CONTAINER": 13,
            "WAIT_CONTAINER": 15,
        }
    ),
]
ProcessIOType = Annotated[str, names({"UNKNOWN": 0, "DATA": 1, "CONTROL": 2})]
DataType = Annotated[str, names({"UNKNOWN": 0, "STDIN": 1, "STDOUT": 2, "STDERR": 3})]
ControlType = Annotated[str, names({"UNKNOWN": 0, "TTY_INFO": 1, "HEARTBEAT": 2})]


class GetContainers(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.GetContainers``."""

    show_nested: Annotated[bool | None, n(1)] = None
    show_standalone: Annotated[bool | None, n(2)] = None


class LaunchNestedContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.LaunchNestedContainer``."""

    container_id: Annotated[ContainerID, n(1)]
    command: Annotated[CommandInfo | None, n(2)] = None
    container: Annotated[ContainerInfo | None, n(3)] = None


class WaitNestedContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.WaitNestedContainer``."""

    container_id: Annotated[ContainerID, n(1)]


class KillNestedContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.KillNestedContainer``."""

    container_id: Annotated[ContainerID, n(1)]
    signal: Annotated[I32 | None, n(2)] = None


class RemoveNestedContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.RemoveNestedContainer``."""

    container_id: Annotated[ContainerID, n(1)]


class LaunchNestedContainerSession(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.LaunchNestedContainerSession``."""

    container_id: Annotated[ContainerID, n(1)]
    command: Annotated[CommandInfo | None, n(2)] = None
    container: Annotated[ContainerInfo | None, n(3)] = None


class ProcessIOData(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.ProcessIO.Data``."""

    type: Annotated[DataType | None, n(1)] = None
    data: Annotated[bytes | None, n(2)] = None


class ControlHeartbeat(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.ProcessIO.Control.Heartbeat``."""

    interval: Annotated[DurationInfo | None, n(1)] = None


class ProcessIOControl(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.ProcessIO.Control``."""

    type: Annotated[ControlType | None, n(1)] = None
    tty_info: Annotated[TTYInfo | None, n(2)] = None
    heartbeat: Annotated[ControlHeartbeat | None, n(3)] = None


class ProcessIO(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.ProcessIO``."""

    type: Annotated[ProcessIOType | None, n(1)] = None
    data: Annotated[ProcessIOData | None, n(2)] = None
    control: Annotated[ProcessIOControl | None, n(3)] = None


class AttachContainerInput(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.AttachContainerInput``."""

    type: Annotated[AttachContainerInputType | None, n(1)] = None
    container_id: Annotated[ContainerID | None, n(2)] = None
    process_io: Annotated[ProcessIO | None, n(3)] = None


class AttachContainerOutput(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.AttachContainerOutput``."""

    container_id: Annotated[ContainerID, n(1)]


class LaunchContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.LaunchContainer``."""

    container_id: Annotated[ContainerID, n(1)]
    command: Annotated[CommandInfo | None, n(2)] = None
    resources: Annotated[tuple[Resource, ...], n(3)] = ()
    container: Annotated[ContainerInfo | None, n(4)] = None
    limits: Annotated[dict[str, Scalar], n(5)] = msgspec.field(default_factory=dict)


class WaitContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.WaitContainer``."""

    container_id: Annotated[ContainerID, n(1)]


class KillContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.KillContainer``."""

    container_id: Annotated[ContainerID, n(1)]
    signal: Annotated[I32 | None, n(2)] = None


class RemoveContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.RemoveContainer``."""

    container_id: Annotated[ContainerID, n(1)]


class AddResourceProviderConfig(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.AddResourceProviderConfig``."""

    info: Annotated[ResourceProviderInfo, n(1)]


class UpdateResourceProviderConfig(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.UpdateResourceProviderConfig``."""

    info: Annotated[ResourceProviderInfo, n(1)]


class RemoveResourceProviderConfig(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.RemoveResourceProviderConfig``."""

    type: Annotated[str, n(1)]
    name: Annotated[str, n(2)]


class MarkResourceProviderGone(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.MarkResourceProviderGone``."""

    resource_provider_id: Annotated[ResourceProviderID, n(1)]


class PruneImages(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call.PruneImages``."""

    excluded_images: Annotated[tuple[Image, ...], n(1)] = ()


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Call``."""

    type: Annotated[CallType | None, n(1)] = None
    get_metrics: Annotated[GetMetrics | None, n(2)] = None
    set_logging_level: Annotated[SetLoggingLevel | None, n(3)] = None
    list_files: Annotated[ListFiles | None, n(4)] = None
    read_file: Annotated[ReadFile | None, n(5)] = None
    get_containers: Annotated[GetContainers | None, n(20)] = None
    launch_nested_container: Annotated[LaunchNestedContainer | None, n(6)] = None
    wait_nested_container: Annotated[WaitNestedContainer | None, n(7)] = None
    kill_nested_container: Annotated[KillNestedContainer | None, n(8)] = None
    remove_nested_container: Annotated[RemoveNestedContainer | None, n(12)] = None
    launch_nested_container_session: Annotated[LaunchNestedContainerSession | None, n(9)] = None
    attach_container_input: Annotated[AttachContainerInput | None, n(10)] = None
    attach_container_output: Annotated[AttachContainerOutput | None, n(11)] = None
    launch_container: Annotated[LaunchContainer | None, n(13)] = None
    wait_container: Annotated[WaitContainer | None, n(14)] = None
    kill_container: Annotated[KillContainer | None, n(15)] = None
    remove_container: Annotated[RemoveContainer | None, n(16)] = None
    add_resource_provider_config: Annotated[AddResourceProviderConfig | None, n(17)] = None
    update_resource_provider_config: Annotated[UpdateResourceProviderConfig | None, n(18)] = None
    remove_resource_provider_config: Annotated[RemoveResourceProviderConfig | None, n(19)] = None
    mark_resource_provider_gone: Annotated[MarkResourceProviderGone | None, n(22)] = None
    prune_images: Annotated[PruneImages | None, n(21)] = None


class GetTasksAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetTasks``."""

    pending_tasks: Annotated[tuple[Task, ...], n(1)] = ()
    queued_tasks: Annotated[tuple[Task, ...], n(2)] = ()
    launched_tasks: Annotated[tuple[Task, ...], n(3)] = ()
    terminated_tasks: Annotated[tuple[Task, ...], n(4)] = ()
    completed_tasks: Annotated[tuple[Task, ...], n(5)] = ()


class GetExecutorsExecutor(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetExecutors.Executor``."""

    executor_info: Annotated[ExecutorInfo, n(1)]


class GetExecutorsAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetExecutors``."""

    executors: Annotated[tuple[GetExecutorsExecutor, ...], n(1)] = ()
    completed_executors: Annotated[tuple[GetExecutorsExecutor, ...], n(2)] = ()


class GetFrameworksFramework(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetFrameworks.Framework``."""

    framework_info: Annotated[FrameworkInfo, n(1)]


class GetFrameworksAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetFrameworks``."""

    frameworks: Annotated[tuple[GetFrameworksFramework, ...], n(1)] = ()
    completed_frameworks: Annotated[tuple[GetFrameworksFramework, ...], n(2)] = ()


class GetStateAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetState``."""

    get_tasks: Annotated[GetTasksAnswer | None, n(1)] = None
    get_executors: Annotated[GetExecutorsAnswer | None, n(2)] = None
    get_frameworks: Annotated[GetFrameworksAnswer | None, n(3)] = None


class GetContainersContainer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetContainers.Container``."""

    framework_id: Annotated[FrameworkID | None, n(1)] = None
    executor_id: Annotated[ExecutorID | None, n(2)] = None
    executor_name: Annotated[str | None, n(3)] = None
    container_id: Annotated[ContainerID, n(4)]
    container_status: Annotated[ContainerStatus | None, n(5)] = None
    resource_statistics: Annotated[ResourceStatistics | None, n(6)] = None


class GetContainersAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetContainers``."""

    containers: Annotated[tuple[GetContainersContainer, ...], n(1)] = ()


class GetAgentAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetAgent``."""

    agent_info: Annotated[AgentInfo | None, n(1)] = None
    drain_config: Annotated[DrainConfig | None, n(2)] = None
    estimated_drain_start_time: Annotated[TimeInfo | None, n(3)] = None


class GetResourceProvidersResourceProvider(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetResourceProviders.ResourceProvider``."""

    resource_provider_info: Annotated[ResourceProviderInfo, n(1)]
    total_resources: Annotated[tuple[Resource, ...], n(2)] = ()


class GetResourceProvidersAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.GetResourceProviders``."""

    resource_providers: Annotated[tuple[GetResourceProvidersResourceProvider, ...], n(1)] = ()


class WaitNestedContainerAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.WaitNestedContainer``."""

    exit_status: Annotated[I32 | None, n(1)] = None
    state: Annotated[TaskState | None, n(2)] = None
    reason: Annotated[Reason | None, n(3)] = None
    limitation: Annotated[TaskResourceLimitation | None, n(4)] = None
    message: Annotated[str | None, n(5)] = None


class WaitContainerAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response.WaitContainer``."""

    exit_status: Annotated[I32 | None, n(1)] = None
    state: Annotated[TaskState | None, n(2)] = None
    reason: Annotated[Reason | None, n(3)] = None
    limitation: Annotated[TaskResourceLimitation | None, n(4)] = None
    message: Annotated[str | None, n(5)] = None


class Response(Message, frozen=True, kw_only=True):
    """``mesos.v1.agent.Response``."""

    type: Annotated[ResponseType | None, n(1)] = None
    get_health: Annotated[GetHealthAnswer | None, n(2)] = None
    get_flags: Annotated[GetFlagsAnswer | None, n(3)] = None
    get_version: Annotated[GetVersionAnswer | None, n(4)] = None
    get_metrics: Annotated[GetMetricsAnswer | None, n(5)] = None
    get_logging_level: Annotated[GetLoggingLevelAnswer | None, n(6)] = None
    list_files: Annotated[ListFilesAnswer | None, n(7)] = None
    read_file: Annotated[ReadFileAnswer | None, n(8)] = None
    get_state: Annotated[GetStateAnswer | None, n(9)] = None
    get_containers: Annotated[GetContainersAnswer | None, n(10)] = None
    get_frameworks: Annotated[GetFrameworksAnswer | None, n(11)] = None
    get_executors: Annotated[GetExecutorsAnswer | None, n(12)] = None
    get_operations: Annotated[GetOperationsAnswer | None, n(18)] = None
    get_tasks: Annotated[GetTasksAnswer | None, n(13)] = None
    get_agent: Annotated[GetAgentAnswer | None, n(15)] = None
    get_resource_providers: Annotated[GetResourceProvidersAnswer | None, n(17)] = None
    wait_nested_container: Annotated[WaitNestedContainerAnswer | None, n(14)] = None
    wait_container: Annotated[WaitContainerAnswer | None, n(16)] = None
