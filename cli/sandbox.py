"""Where the files of a task are, and what is in them: over the master's and agents' HTTP APIs."""

import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phalanx.cli.client import call
from phalanx.core.error import NotFoundError


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The sandbox of one task: a directory on one agent."""

    task_id: str
    agent: str
    directory: str

    def read(self, name: str, offset: int, length: int) -> tuple[str, int]:
        """Return text of a file from *offset* (bytes) on, and where it begins.

        A negative offset asks for the size: the text is empty, the offset the size.
        """
        query = urllib.parse.urlencode(
            {"path": f"{self.directory}/{name}", "offset": offset, "length": length}
        )
        answer = call(self.agent, "GET", f"/files/read?{query}")
        return str(answer["data"]), int(answer["offset"])


def find_sandbox(master: str, task_id: str, agent_id: str) -> Sandbox:
    """Return the sandbox of a task that is or was on an agent; raise NotFoundError."""
    slaves = call(master, "GET", f"/slaves?slave_id={urllib.parse.quote(agent_id)}")["slaves"]
    if not slaves:
        raise NotFoundError(f"agent {agent_id} is not registered")
    agent = "http://" + str(slaves[0]["pid"]).rpartition("@")[2]
    state = call(agent, "GET", "/state")
    for executor in executors_of(state):
        tasks = (*executor["tasks"], *executor.get("queued_tasks", ()))
        ended = executor.get("completed_tasks", ())
        if any(task["id"] == task_id for task in (*tasks, *ended)):
            directory = executor["directory"]
            if executor.get("type") == "DEFAULT":  # which holds all containers of a pod
                directory = f"{directory}/tasks/{task_id}"
            return Sandbox(task_id, agent, directory)
    raise NotFoundError(f"agent {agent_id} does not know task {task_id}")


def executors_of(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return every executor of an agent's state, running ones first."""
    for key in ("executors", "completed_executors"):
        for frameworks in ("frameworks", "completed_frameworks"):
            for framework in state.get(frameworks, ()):
                yield from framework.get(key, ())
