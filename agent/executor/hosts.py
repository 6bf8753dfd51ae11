"""Which containers run on this agent, and for whom."""

from collections.abc import Iterator
from dataclasses import dataclass

from phalanx.agent.bundle.request import id_message
from phalanx.agent.executor.executors import Executors
from phalanx.mesos.v1.mesos import ContainerStatus

COMMAND_LENGTH = 15


@dataclass(frozen=True, slots=True)
class Host:
    """A container that runs; a nested one has its root's executor, a standalone one none."""

    container_id: str
    status: ContainerStatus
    framework_id: str | None = None
    executor_id: str | None = None
    name: str = ""
    source: str = ""


def root_hosts(executors: Executors) -> Iterator[Host]:
    """Yield the containers of executors, of command tasks as well, each once."""
    for executor in executors.runs.values():
        if not executor.is_over:
            info = executor.record.executor
            framework_id, executor_id = executor.record.key
            yield Host(
                executor.record.container_id,
                executor.container_status,
                framework_id,
                executor_id,
                info.name or "",
                info.source or "",
            )
    for life in executors.lives.values():
        if life.record.executor_id is None and not life.is_over:
            record, command = life.record, life.record.task.command
            yield Host(
                record.container_id,
                life.container_status,
                record.framework_id,
                record.task_id,
                command_name(record.task_id, command.value if command else None),
                record.task_id,
            )


def other_hosts(executors: Executors, *, nested: bool, standalone: bool) -> Iterator[Host]:
    """Yield the containers that are nested in others, or stand alone, as asked."""
    roots = {host.container_id: host for host in root_hosts(executors)}
    containerizer = executors.station.containerizer
    for name, kind in executors.nested.shown().items():
        if not (nested if kind == "nested" else standalone):
            continue
        found = containerizer.find(name)
        root = roots.get(name.partition(".")[0])
        status = ContainerStatus(
            container_id=id_message(name),
            network_infos=found.networks,
            executor_pid=found.init.pid if found.init else None,
        )
        if root is None:
            yield Host(name, status)
        else:
            yield Host(name, status, root.framework_id, root.executor_id, root.name, root.source)


def command_name(task_id: str, command: str | None) -> str:
    """Return the name of the executor that Mesos would have invented for a command task."""
    text = command or ""
    if len(text) > COMMAND_LENGTH:
        text = f"{text[: COMMAND_LENGTH - 3]}..."
    return f"Command Executor (Task: {task_id}) (Command: sh -c '{text}')"
