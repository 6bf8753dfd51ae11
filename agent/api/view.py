"""What the API shows, drawn from the agent's parts on each request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from phalanx.agent.api.form import attributes_form, resources_form, task_form
from phalanx.agent.life import Life
from phalanx.agent.roster import Roster
from phalanx.agent.station import Station
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import TERMINAL, AgentInfo, FrameworkInfo, Task, TaskState

COMPATIBLE_VERSION = "1.11.0"
CAPABILITIES = ("MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "TASK_RESOURCE_LIMITS")
COMMAND_LENGTH = 15


def build_version() -> dict[str, Any]:
    """Return the Mesos version that we are compatible with, and our own."""
    try:
        own = version("phalanx")
    except PackageNotFoundError:
        own = "0"
    return {"version": COMPATIBLE_VERSION, "git_tag": f"phalanx-{own}", "build_user": "phalanx"}


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the API may ask."""

    station: Station
    roster: Roster
    flags: Mapping[str, str]
    agent_info: Callable[[], AgentInfo]
    master: Callable[[], str | None]
    start_time: float

    def state(self) -> dict[str, Any]:
        """Return ``/state``."""
        info = self.agent_info()
        used = Resources()
        for life in self._running():
            used += Resources.of(life.record.task.resources)
        resources = resources_form(info.resources)
        return {
            **build_version(),
            "start_time": self.start_time,
            "id": info.id.value if info.id else "",
            "pid": f"slave(1)@{self.station.ip}:{self.station.port}",
            "hostname": info.hostname,
            "capabilities": list(CAPABILITIES),
            "resources": resources,
            "reserved_resources": {},
            "unreserved_resources": resources,
            "reserved_resources_full": {},
            "unreserved_resources_full": [to_json(resource) for resource in info.resources],
            "reserved_resources_allocated": {},
            "unreserved_resources_allocated": resources_form(used.messages()),
            "resource_providers": [],
            "attributes": attributes_form(info.attributes),
            "master_hostname": self.master() or "",
            "flags": dict(self.flags),
            "frameworks": [
                self._framework(framework, active=True) for framework in self._frameworks(True)
            ],
            "completed_frameworks": [
                self._framework(framework, active=False) for framework in self._frameworks(False)
            ],
        }

    def _lives(self) -> list[tuple[Life, Task]]:
        return [(life, self.roster.task_of(life)) for life in self.roster.lives.values()]

    def _running(self) -> list[Life]:
        return [life for life in self.roster.lives.values() if not life.is_over]

    def _frameworks(self, active: bool) -> tuple[FrameworkInfo, ...]:
        held = {info.id.value: info for info in self.roster.frameworks() if info.id}
        if active:
            return tuple(held.values())
        gone = {life.record.framework_id: life.record.framework_info for life, _ in self._past()}
        return tuple(info for name, info in gone.items() if name not in held)

    def _past(self) -> list[tuple[Life, Task]]:
        return list(self.roster.completed)

    def _framework(self, info: FrameworkInfo, *, active: bool) -> dict[str, Any]:
        name = info.id.value if info.id else ""
        form: dict[str, Any] = {
            "id": name,
            "name": info.name,
            "user": info.user,
            "failover_timeout": info.failover_timeout,
            "checkpoint": info.checkpoint,
            "hostname": info.hostname or "",
        }
        if info.roles:
            form["roles"] = list(info.roles)
        else:
            form["role"] = info.role or "*"
        now = self._lives() if active else []
        form["executors"] = [
            self._executor(life, task) for life, task in now if life.record.framework_id == name
        ]
        form["completed_executors"] = [
            self._executor(life, task, completed=True)
            for life, task in self._past()
            if life.record.framework_id == name
        ]
        return form

    def _executor(self, life: Life, task: Task, *, completed: bool = False) -> dict[str, Any]:
        shown = task_form(task)
        return {
            "id": life.record.task_id,
            "name": executor_name(life),
            "source": life.record.task_id,
            "container": life.record.container_id,
            "directory": str(life.sandbox),
            "resources": shown["resources"],
            "role": shown["role"],
            "labels": shown.get("labels", []),
            "tasks": [] if completed else [shown],
            "queued_tasks": [],
            "completed_tasks": [shown] if completed else [],
        }

    async def statistics(self, life: Life) -> dict[str, Any]:
        """Return what a container uses and may use."""
        found = await self.station.containerizer.statistics(life.record.container_id)
        return to_json(found)

    async def monitor(self) -> list[dict[str, Any]]:
        """Return ``/monitor/statistics``."""
        return [
            {
                "executor_id": life.record.task_id,
                "executor_name": executor_name(life),
                "framework_id": life.record.framework_id,
                "source": life.record.task_id,
                "statistics": await self.statistics(life),
            }
            for life in self._running()
        ]

    async def containers(self) -> list[dict[str, Any]]:
        """Return ``/containers``."""
        running = self._running()
        return [
            {
                **shown,
                "container_id": life.record.container_id,
                "status": to_json(life.container_status),
            }
            for life, shown in zip(running, await self.monitor(), strict=False)
        ]

    def metrics(self) -> dict[str, float]:
        """Return ``/metrics/snapshot``."""
        tasks = [task for _, task in self._lives()] + [task for _, task in self._past()]
        counts = {state: 0.0 for state in TaskState}
        for task in tasks:
            counts[task.state] += 1
        total = Resources.of(self.agent_info().resources)
        used = Resources()
        for life in self._running():
            used += Resources.of(life.record.task.resources)
        shown = {
            f"slave/tasks_{state.removeprefix('TASK_').lower()}": count
            for state, count in counts.items()
        }
        for name in ("cpus", "mem", "disk", "gpus"):
            has = total.scalar(name)
            shown[f"slave/{name}_total"] = has
            shown[f"slave/{name}_used"] = used.scalar(name)
            shown[f"slave/{name}_percent"] = used.scalar(name) / has if has else 0.0
        shown["slave/executors_running"] = float(len(self._running()))
        shown["slave/frameworks_active"] = float(len(self._frameworks(True)))
        shown["slave/registered"] = float(self.master() is not None)
        shown["slave/uptime_secs"] = self.station.clock() - self.start_time
        return shown

    def tasks(self) -> dict[str, Any]:
        """Return the answer to GET_TASKS."""
        held = [task for _, task in self._lives()]
        return {
            "pending_tasks": [],
            "queued_tasks": [],
            "launched_tasks": [to_json(task) for task in held if task.state not in TERMINAL],
            "terminated_tasks": [to_json(task) for task in held if task.state in TERMINAL],
            "completed_tasks": [to_json(task) for _, task in self._past()],
        }

    async def v1_containers(self) -> list[dict[str, Any]]:
        """Return the answer to GET_CONTAINERS."""
        return [
            {
                "framework_id": {"value": life.record.framework_id},
                "executor_id": {"value": life.record.task_id},
                "executor_name": executor_name(life),
                "container_id": {"value": life.record.container_id},
                "container_status": to_json(life.container_status),
                "resource_statistics": await self.statistics(life),
            }
            for life in self._running()
        ]


def executor_name(life: Life) -> str:
    """Return the name of the executor that Mesos would have invented."""
    command = life.record.task.command
    text = (command.value if command else "") or ""
    if len(text) > COMMAND_LENGTH:
        text = f"{text[: COMMAND_LENGTH - 3]}..."
    return f"Command Executor (Task: {life.record.task_id}) (Command: sh -c '{text}')"
