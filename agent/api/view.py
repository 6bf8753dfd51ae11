"""What the API shows, drawn from the agent's parts on each request."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phalanx.agent.api.form import (
    amounts_form,
    attributes_form,
    by_role_form,
    by_role_full,
    full_form,
    resources_form,
    task_form,
)
from phalanx.agent.drain import Draining
from phalanx.agent.executor.hosts import command_name, root_hosts
from phalanx.agent.gc import Collector
from phalanx.agent.life import Life
from phalanx.agent.operation.ledger import Ledger
from phalanx.agent.registration import CAPABILITIES
from phalanx.agent.roster import Roster
from phalanx.agent.sandbox import sandbox_places
from phalanx.agent.station import Station
from phalanx.core.error import ContainerError
from phalanx.mesos.build import build_info
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    ExecutorID,
    ExecutorInfo,
    FrameworkID,
    FrameworkInfo,
    Task,
)


@dataclass(slots=True)
class Shown:
    """An executor with its tasks, or a command task as the executor that Mesos would invent."""

    framework: FrameworkInfo
    info: ExecutorInfo
    container_id: str
    sandbox: Path
    is_command: bool
    tasks: list[Task] = field(default_factory=list)
    completed: list[Task] = field(default_factory=list)

    @property
    def framework_id(self) -> str:
        """Return whose executor it is."""
        return self.framework.id.value if self.framework.id else ""


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the API may ask."""

    station: Station
    roster: Roster
    flags: Mapping[str, str]
    agent_info: Callable[[], AgentInfo]
    master: Callable[[], str | None]
    start_time: float
    ledger: Callable[[], Ledger]
    drain: Callable[[], Draining | None]
    collector: Collector
    log_file: Path | None = None
    recovery_seconds: float = 0.0
    cache: Callable[[], tuple[int, int]] = lambda: (0, 0)  # bytes that the fetcher may keep, keeps

    def held(self) -> list[Task]:
        """Return the tasks that we hold, ended ones that nobody acknowledged too."""
        return [self.roster.task_of(life) for life in self.roster.lives.values()]

    def past(self) -> list[Task]:
        """Return the tasks that are over and acknowledged, as far as we remember."""
        return [task for _, task in self.roster.completed]

    def used(self) -> Resources:
        """Return what runs here takes."""
        used = Resources()
        for life in self.roster.lives.values():
            if not life.is_over:
                used += Resources.of(life.record.task.resources)
        for executor in self.roster.executors.runs.values():
            if not executor.is_over:
                used += Resources.of(executor.record.executor.resources)
        return used

    def executors(self) -> list[Shown]:
        """Return the executors that we hold."""
        found: dict[str, Shown] = {}
        for executor in self.roster.executors.runs.values():
            record = executor.record
            found[record.container_id] = Shown(
                record.framework_info,
                record.executor,
                record.container_id,
                executor.sandbox,
                is_command=False,
            )
        for life in self.roster.lives.values():
            self._into(found, life).tasks.append(self.roster.task_of(life))
        for life, task in self.roster.completed:
            root = life.record.container_id.partition(".")[0]
            if root in found:
                found[root].completed.append(task)
        return list(found.values())

    def completed_executors(self) -> list[Shown]:
        """Return the executors that are over, as far as we remember."""
        running = {shown.container_id for shown in self.executors()}
        found: dict[str, Shown] = {}
        for life, task in self.roster.completed:
            if life.record.container_id.partition(".")[0] not in running:
                self._into(found, life).completed.append(task)
        return list(found.values())

    def _into(self, found: dict[str, Shown], life: Life) -> Shown:
        root = life.record.container_id.partition(".")[0]
        if root not in found:
            found[root] = Shown(
                life.record.framework_info,
                invented(life),
                root,
                life.sandbox,
                is_command=life.record.executor_id is None,
            )
        return found[root]

    def frameworks(self) -> tuple[list[FrameworkInfo], list[FrameworkInfo]]:
        """Return the frameworks that have something here, and those that had."""
        held = {info.id.value: info for info in self.roster.frameworks() if info.id}
        gone = {life.record.framework_id: life.record.framework_info for life, _ in self._over()}
        return list(held.values()), [info for name, info in gone.items() if name not in held]

    def _over(self) -> Iterator[tuple[Life, Task]]:
        return iter(self.roster.completed)

    def is_image_used(self, digest: str) -> bool:
        """Tell whether a container has an image of the store as its root."""
        for config in self.station.layout.containers.glob("*/config.json"):
            try:
                if digest in config.read_text():
                    return True
            except FileNotFoundError:
                continue
        return False

    def places(self) -> dict[str, Path]:
        """Return what ``/files`` shows: the log and every sandbox that is still there."""
        runs: dict[tuple[str, str], list[Path]] = {}
        for shown in (*self.completed_executors(), *self.executors()):
            key = shown.framework_id, shown.info.executor_id.value
            if shown.sandbox.is_dir() and shown.sandbox not in runs.setdefault(key, []):
                runs[key].append(shown.sandbox)
        places = sandbox_places({key: found for key, found in runs.items() if found})
        if self.log_file is not None:
            places["/slave/log"] = self.log_file
        return places

    def state(self) -> dict[str, Any]:
        """Return ``/state``."""
        info, total, used = self.agent_info(), self.ledger().total, self.used()
        master = self.master()
        form = {
            **to_json(build_info()),
            "start_time": self.start_time,
            "id": info.id.value if info.id else "",
            "pid": f"slave(1)@{self.station.ip}:{self.station.port}",
            "hostname": info.hostname,
            "capabilities": list(CAPABILITIES),
            "resources": amounts_form(total),
            "reserved_resources": by_role_form(total),
            "unreserved_resources": amounts_form(total.unreserved),
            "reserved_resources_full": by_role_full(total),
            "unreserved_resources_full": full_form(total.unreserved),
            "reserved_resources_allocated": by_role_form(used),
            "unreserved_resources_allocated": amounts_form(used.unreserved),
            "resource_providers": [],
            "attributes": attributes_form(info.attributes),
            "master_hostname": (urlsplit(master).hostname or "") if master else "",
            "flags": dict(self.flags),
        }
        if info.domain is not None:
            form["domain"] = to_json(info.domain)
        if self.log_file is not None:
            form["external_log_file"] = str(self.log_file)
        draining = self.drain()
        if draining is not None:
            form["drain_config"] = to_json(draining.config)
            form["estimated_drain_start_time_seconds"] = draining.started
        now, gone = self.frameworks()
        running, over = self.executors(), self.completed_executors()
        form["frameworks"] = [framework_form(item, running, over) for item in now]
        form["completed_frameworks"] = [framework_form(item, [], over) for item in gone]
        return form

    async def statistics(self, container_id: str) -> dict[str, Any] | None:
        """Return what a container uses and may use; None of one that is gone."""
        try:
            found = await self.station.containerizer.statistics(container_id)
        except (ContainerError, OSError):
            return None
        return to_json(found)

    async def monitor(self) -> list[dict[str, Any]]:
        """Return ``/monitor/statistics``."""
        rows = []
        for host in root_hosts(self.roster.executors):
            statistics = await self.statistics(host.container_id)
            if statistics is not None:
                rows.append(
                    {
                        "executor_id": host.executor_id or "",
                        "executor_name": host.name,
                        "framework_id": host.framework_id or "",
                        "source": host.source,
                        "statistics": statistics,
                    }
                )
        return rows

    async def containers(self, wanted: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return ``/containers``; *wanted* are the ids that they must have."""
        rows = []
        for host in root_hosts(self.roster.executors):
            shown: dict[str, Any] = {
                "container_id": host.container_id,
                "executor_id": host.executor_id or "",
                "executor_name": host.name,
                "framework_id": host.framework_id or "",
                "source": host.source,
            }
            if any(shown[key] != value for key, value in wanted.items()):
                continue
            statistics = await self.statistics(host.container_id)
            if statistics is not None:
                shown["statistics"] = statistics
            rows.append({**shown, "status": to_json(host.status)})
        return rows


def invented(life: Life) -> ExecutorInfo:
    """Return the executor of a task: its own, or the one that Mesos invents for a command."""
    record = life.record
    if record.task.executor is not None:
        return record.task.executor
    if record.executor_id is not None:
        return ExecutorInfo(
            executor_id=ExecutorID(value=record.executor_id),
            framework_id=FrameworkID(value=record.framework_id),
            type="DEFAULT",
        )
    command = record.task.command
    return ExecutorInfo(
        executor_id=ExecutorID(value=record.task_id),
        framework_id=FrameworkID(value=record.framework_id),
        command=command,
        container=record.task.container,
        name=command_name(record.task_id, command.value if command else None),
        source=record.task_id,
        labels=record.task.labels,
    )


def framework_form(info: FrameworkInfo, running: list[Shown], over: list[Shown]) -> dict[str, Any]:
    """Return a framework of ``/state`` with its executors."""
    name = info.id.value if info.id else ""
    form: dict[str, Any] = {
        "id": name,
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout,
        "checkpoint": info.checkpoint,
        "hostname": info.hostname or "",
    }
    if info.principal is not None:
        form["principal"] = info.principal
    if info.roles:
        form["roles"] = list(info.roles)
    else:
        form["role"] = info.role or "*"
    form["executors"] = [executor_form(item) for item in running if item.framework_id == name]
    form["completed_executors"] = [
        executor_form(item) for item in over if item.framework_id == name
    ]
    return form


def executor_form(shown: Shown) -> dict[str, Any]:
    """Return an executor of ``/state`` with its tasks."""
    resources = Resources.of(shown.info.resources)
    for task in shown.tasks:
        resources += Resources.of(task.resources)
    tasks = [task_form(task) for task in shown.tasks]
    completed = [task_form(task) for task in shown.completed]
    every = (*shown.tasks, *shown.completed)
    messages = [resource for task in every for resource in task.resources]
    role = next((item.allocation_info.role for item in messages if item.allocation_info), None)
    form: dict[str, Any] = {
        "id": shown.info.executor_id.value,
        "name": shown.info.name or "",
        "source": shown.info.source or "",
        "container": shown.container_id,
        "directory": str(shown.sandbox),
        "resources": resources_form(resources.messages()),
        "role": role or shown.framework.role or "*",
        "tasks": tasks,
        "queued_tasks": [],
        "completed_tasks": completed,
    }
    if shown.info.labels is not None:
        form["labels"] = [to_json(label) for label in shown.info.labels.labels]
    if shown.info.type is not None:
        form["type"] = shown.info.type
    return form
