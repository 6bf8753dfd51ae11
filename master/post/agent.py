"""What the master tells agents; to an agent without a stream nothing is said."""

from phalanx.master.cluster.agent import Agent
from phalanx.mesos.agent_protocol import (
    AcknowledgeUpdate,
    AgentEvent,
    AgentMessage,
    AgentShutdown,
    KillTask,
    RunTask,
    RunTaskGroup,
    ShutdownExecutor,
    ShutdownFramework,
    UpdateFramework,
)
from phalanx.mesos.v1.mesos import (
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    TaskGroupInfo,
    TaskID,
    TaskInfo,
)


def tell(agent: Agent, event: AgentEvent) -> None:
    """Send one event to an agent."""
    if agent.stream is not None:
        agent.stream.send(event)


def run_task(agent: Agent, info: FrameworkInfo, task: TaskInfo) -> None:
    """Tell the agent to launch a task."""
    tell(agent, AgentEvent(type="RUN_TASK", run_task=RunTask(framework_info=info, task=task)))


def run_group(
    agent: Agent, info: FrameworkInfo, executor: ExecutorInfo, tasks: tuple[TaskInfo, ...]
) -> None:
    """Tell the agent to launch tasks together under one executor."""
    group = RunTaskGroup(
        framework_info=info, executor=executor, task_group=TaskGroupInfo(tasks=tasks)
    )
    tell(agent, AgentEvent(type="RUN_TASK_GROUP", run_task_group=group))


def kill_task(agent: Agent, kill: KillTask) -> None:
    """Tell the agent to kill a task now, and again whenever it registers until the task is over."""
    agent.kills[kill.framework_id.value, kill.task_id.value] = kill
    tell(agent, AgentEvent(type="KILL_TASK", kill_task=kill))


def acknowledge(agent: Agent, framework_id: FrameworkID, task_id: TaskID, uuid: bytes) -> None:
    """Tell the agent that an update has arrived."""
    message = AcknowledgeUpdate(framework_id=framework_id, task_id=task_id, uuid=uuid)
    tell(agent, AgentEvent(type="ACKNOWLEDGE_UPDATE", acknowledge_update=message))


def shutdown_framework(agent: Agent, framework_id: FrameworkID) -> None:
    """Tell the agent to kill everything of a framework."""
    message = ShutdownFramework(framework_id=framework_id)
    tell(agent, AgentEvent(type="SHUTDOWN_FRAMEWORK", shutdown_framework=message))


def shutdown_event(why: str) -> AgentEvent:
    """Return what tells an agent to end."""
    return AgentEvent(type="SHUTDOWN", shutdown=AgentShutdown(message=why))


def shutdown(agent: Agent, why: str) -> None:
    """Tell the agent to end."""
    tell(agent, shutdown_event(why))


def shutdown_executor(agent: Agent, framework_id: FrameworkID, executor_id: ExecutorID) -> None:
    """Tell the agent to shut an executor down."""
    message = ShutdownExecutor(framework_id=framework_id, executor_id=executor_id)
    tell(agent, AgentEvent(type="SHUTDOWN_EXECUTOR", shutdown_executor=message))


def message_executor(
    agent: Agent, framework_id: FrameworkID, executor_id: ExecutorID, data: bytes
) -> None:
    """Pass a framework's message on to one of its executors."""
    message = AgentMessage(framework_id=framework_id, executor_id=executor_id, data=data)
    tell(agent, AgentEvent(type="MESSAGE", message=message))


def update_framework(agent: Agent, info: FrameworkInfo) -> None:
    """Tell the agent that a framework's info has changed."""
    update = UpdateFramework(framework_info=info)
    tell(agent, AgentEvent(type="UPDATE_FRAMEWORK", update_framework=update))
