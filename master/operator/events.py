"""The operator event stream: what changed, for whoever watches (reference mesos §3.2)."""

from collections.abc import Callable

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.task import is_over
from phalanx.master.event import (
    AgentAdded,
    AgentRemoved,
    Bus,
    Change,
    FrameworkAdded,
    FrameworkRemoved,
    FrameworkUpdated,
    TaskAdded,
    TasksKilled,
    TaskUpdated,
)
from phalanx.master.operator.v1 import agent_of, framework_of
from phalanx.mesos.stream import Record, Stream
from phalanx.mesos.v1 import master
from phalanx.mesos.v1.master import Event
from phalanx.mesos.v1.media import Media
from phalanx.mesos.v1.mesos import AgentID, FrameworkID, TaskState, TaskStatus
from phalanx.net.model.objects import Liveness

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = Event(type="HEARTBEAT")

# Updates for one of these reasons are told even when the state stays the same.
OF_CHECKS = frozenset(
    {"REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"}
)


class Watchers:
    """The open operator streams; beyond *limit* the oldest is closed."""

    def __init__(
        self, cluster: Cluster, bus: Bus, *, limit: int, new_stream_id: Callable[[], str]
    ) -> None:
        self._cluster = cluster
        self._limit = limit
        self._new_stream_id = new_stream_id
        self._streams: dict[str, Stream] = {}
        bus.subscribe(self._tell)

    def __len__(self) -> int:
        return len(self._streams)

    def subscribe(self, media: Media = Media.JSON, *, is_recordio: bool = False) -> Stream:
        """Return a stream of everything that happens from now on.

        Whoever subscribes sends the state as it is now before what comes
        through the stream (``v1.subscribed_json``).
        """
        while len(self._streams) >= self._limit:
            self.leave(next(iter(self._streams.values())))
        stream = Stream(self._new_stream_id(), media=media, is_recordio=is_recordio)
        self._streams[stream.id] = stream
        stream.send(HEARTBEAT)
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        stream.close()
        self._streams.pop(stream.id, None)

    def _tell(self, change: Change) -> None:
        if not self._streams:
            return
        if isinstance(change, TasksKilled):
            for task in change.tasks:
                status = change.status_of(task)
                state = task.state if is_over(task) else status.state
                self._send(_updated(task.framework_id.value, status, state))
            return
        event = self._event(change)
        if event is not None:
            self._send(event)

    def _send(self, event: Event) -> None:
        record = Record(event)
        for stream in list(self._streams.values()):
            stream.send(record)

    def _event(self, change: Change) -> Event | None:
        match change:
            case TaskAdded(task=task):
                return Event(type="TASK_ADDED", task_added=master.TaskAdded(task=task))
            case TaskUpdated(key=(framework_id, _), status=status, state=state):
                if state == change.before and status.reason not in OF_CHECKS:
                    return None
                return _updated(framework_id, status, state)
            case AgentAdded(agent_id=id):
                agent = self._cluster.agents.get(id)
                if agent is None or agent.liveness is Liveness.UNREACHABLE:
                    return None
                added = master.AgentAdded(agent=agent_of(agent, self._cluster))
                return Event(type="AGENT_ADDED", agent_added=added)
            case AgentRemoved(agent_id=id):
                if id in self._cluster.gone:
                    return None
                removed = master.AgentRemoved(agent_id=AgentID(value=id))
                return Event(type="AGENT_REMOVED", agent_removed=removed)
            case FrameworkAdded(framework_id=id):
                entered = master.FrameworkAdded(framework=self._framework(id))
                return Event(type="FRAMEWORK_ADDED", framework_added=entered)
            case FrameworkUpdated(framework_id=id):
                changed = master.FrameworkUpdated(framework=self._framework(id))
                return Event(type="FRAMEWORK_UPDATED", framework_updated=changed)
            case FrameworkRemoved(info=info):
                ended = master.FrameworkRemoved(framework_info=info)
                return Event(type="FRAMEWORK_REMOVED", framework_removed=ended)
            case _:
                return None

    def _framework(self, id: str) -> master.GetFrameworksFramework:
        return framework_of(self._cluster.frameworks[id], self._cluster)


def _updated(framework_id: str, status: TaskStatus, state: TaskState) -> Event:
    updated = master.TaskUpdated(
        framework_id=FrameworkID(value=framework_id), status=status, state=state
    )
    return Event(type="TASK_UPDATED", task_updated=updated)
