"""The container that an executor wants, whoever carries it out."""

from collections.abc import Iterable
from pathlib import Path

from phalanx.agent.bundle.request import ContainerRequest, id_message
from phalanx.agent.executor.around import Around
from phalanx.agent.executor.environment import Whereabouts, executor_environment
from phalanx.agent.executor.holding import held_limits, held_resources
from phalanx.agent.executor.record import ExecutorRecord
from phalanx.mesos.v1.mesos import CommandInfo, TaskInfo


def executor_request(
    record: ExecutorRecord,
    tasks: Iterable[TaskInfo],
    around: Around,
    sandbox: Path,
    *,
    command: CommandInfo | None,
) -> ContainerRequest:
    """Return what to launch for an executor that holds *tasks*.

    *command* is what its process runs; None for a pod, which has no process of its own.
    """
    executor, framework, held = record.executor, record.framework_info, list(tasks)
    info = around.agent_info()
    where = Whereabouts(
        agent_id=info.id.value if info.id else "",
        agent_ip=around.station.ip,
        agent_port=around.station.port,
        shutdown_grace=around.timing.grace(executor),
        recovery_timeout=around.timing.recovery,
    )
    return ContainerRequest(
        container_id=id_message(record.container_id),
        kind="executor",
        sandbox=sandbox,
        command=command,
        container=executor.container,
        resources=held_resources(executor, held),
        limits=held_limits(executor, held),
        user=(executor.command.user if executor.command else None) or framework.user or None,
        environment=executor_environment(executor, framework, where),
        framework_id=record.framework_id,
        executor_id=record.executor_id,
    )
