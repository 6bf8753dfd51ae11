"""The operator API's calls that read or change the daemon itself (reference mesos §3.3)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any

from phalanx.agent.api.metrics import all_metrics
from phalanx.agent.api.view import View
from phalanx.core.error import InvalidError
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.build import build_info
from phalanx.mesos.file import VirtualFiles
from phalanx.mesos.v1.agent import Call
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import TERMINAL, ExecutorInfo, FrameworkInfo

Body = dict[str, Any]
Draw = Callable[[Call], Body | Awaitable[Body | None] | None]

# Of resource providers there are none; what would change them can't be done.
NO_PROVIDERS = frozenset(
    {
        *("ADD_RESOURCE_PROVIDER_CONFIG", "UPDATE_RESOURCE_PROVIDER_CONFIG"),
        *("REMOVE_RESOURCE_PROVIDER_CONFIG", "MARK_RESOURCE_PROVIDER_GONE"),
    }
)


class Reads:
    """Answers each call with the body of its answer, or None for one that has no body."""

    def __init__(self, view: View, files: VirtualFiles, verbosity: Verbosity) -> None:
        self._view = view
        self._files = files
        self._verbosity = verbosity
        self._draws: Mapping[str, Draw] = {
            "GET_HEALTH": lambda _: {"healthy": True},
            "GET_VERSION": lambda _: {"version_info": to_json(build_info())},
            "GET_FLAGS": self._flags,
            "GET_METRICS": self._metrics,
            "GET_LOGGING_LEVEL": lambda _: {"level": verbosity.level},
            "SET_LOGGING_LEVEL": self._set_level,
            "LIST_FILES": self._list_files,
            "READ_FILE": self._read_file,
            "GET_STATE": self._state,
            "GET_AGENT": self._agent,
            "GET_TASKS": lambda _: self._tasks(),
            "GET_FRAMEWORKS": lambda _: self._frameworks(),
            "GET_EXECUTORS": lambda _: self._executors(),
            "GET_OPERATIONS": self._operations,
            "GET_RESOURCE_PROVIDERS": lambda _: {},
            "PRUNE_IMAGES": self._prune,
        }

    async def answer(self, call: Call) -> tuple[bool, Body | None]:
        """Return whether the call is one of ours, and the body of its answer."""
        draw = self._draws.get(str(call.type))
        if draw is None:
            return False, None
        found = draw(call)
        return True, await found if isawaitable(found) else found

    def _flags(self, _: Call) -> Body:
        return {"flags": [{"name": name, "value": text} for name, text in self._view.flags.items()]}

    async def _metrics(self, _: Call) -> Body:
        found = all_metrics(self._view)
        return {"metrics": [{"name": name, "value": value} for name, value in found.items()]}

    def _set_level(self, call: Call) -> None:
        asked = call.set_logging_level
        if asked is None:
            raise _missing("set_logging_level")
        self._verbosity.set(asked.level, asked.duration.nanoseconds / 1e9)

    async def _list_files(self, call: Call) -> Body:
        if call.list_files is None:
            raise _missing("list_files")
        found = await asyncio.to_thread(self._files.browse, call.list_files.path)
        return {"file_infos": [to_json(info) for info in found]}

    async def _read_file(self, call: Call) -> Body:
        asked = call.read_file
        if asked is None:
            raise _missing("read_file")
        size, data = await asyncio.to_thread(
            self._files.read, asked.path, asked.offset, asked.length
        )
        return {"size": size, "data": data}

    def _state(self, _: Call) -> Body:
        return {
            "get_tasks": self._tasks(),
            "get_executors": self._executors(),
            "get_frameworks": self._frameworks(),
        }

    def _agent(self, _: Call) -> Body:
        body: Body = {"agent_info": to_json(self._view.agent_info())}
        draining = self._view.drain()
        if draining is not None:
            body["drain_config"] = to_json(draining.config)
            began = round(draining.started * 1e9)
            body["estimated_drain_start_time"] = {"nanoseconds": began}
        return body

    def _tasks(self) -> Body:
        held = self._view.held()
        return {
            "pending_tasks": [],
            "queued_tasks": [],
            "launched_tasks": [to_json(task) for task in held if task.state not in TERMINAL],
            "terminated_tasks": [to_json(task) for task in held if task.state in TERMINAL],
            "completed_tasks": [to_json(task) for task in self._view.past()],
        }

    def _frameworks(self) -> Body:
        now, gone = self._view.frameworks()
        return {
            "frameworks": [_framework(info) for info in now],
            "completed_frameworks": [_framework(info) for info in gone],
        }

    def _executors(self) -> Body:
        return {
            "executors": [_executor(item.info) for item in self._view.executors()],
            "completed_executors": [
                _executor(item.info) for item in self._view.completed_executors()
            ],
        }

    def _operations(self, _: Call) -> Body:
        found = self._view.ledger().operations
        return {"operations": [to_json(item) for item in found]} if found else {}

    async def _prune(self, call: Call) -> None:
        asked = call.prune_images
        kept = {
            image.docker.name
            for image in (asked.excluded_images if asked is not None else ())
            if image.docker is not None
        }
        await self._view.station.images.prune(kept, self._view.is_image_used)


def _framework(info: FrameworkInfo) -> Body:
    return {"framework_info": to_json(info)}


def _executor(info: ExecutorInfo) -> Body:
    return {"executor_info": to_json(info)}


def _missing(name: str) -> InvalidError:
    return InvalidError(f"Failed to validate agent::Call: Expecting '{name}' to be present")
