"""The operator event stream: what changed, for whoever watches (reference mesos §3.2)."""

from collections.abc import Callable

import msgspec

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.event import (
    AgentAdded,
    AgentRemoved,
    Bus,
    Change,
    FrameworkAdded,
    FrameworkRemoved,
    FrameworkUpdated,
    TaskAdded,
    TaskUpdated,
)
from phalanx.master.operator.v1 import Json, agent_json, framework_json, state_json
from phalanx.mesos.stream import Record, Stream
from phalanx.mesos.v1.master import Event
from phalanx.mesos.v1.media import Media
from phalanx.mesos.v1.mesos import FrameworkID
from phalanx.net.model.objects import Liveness

HEARTBEAT_SECONDS = 15.0
HEARTBEAT = Event(type="HEARTBEAT")


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

    def subscribe(self, media: Media = Media.JSON) -> Stream:
        """Return a stream that begins with the whole state."""
        while len(self._streams) >= self._limit:
            self.leave(next(iter(self._streams.values())))
        stream = Stream(self._new_stream_id(), media=media)
        self._streams[stream.id] = stream
        first = {
            "get_state": state_json(self._cluster),
            "heartbeat_interval_seconds": HEARTBEAT_SECONDS,
        }
        stream.send(msgspec.convert({"type": "SUBSCRIBED", "subscribed": first}, Event))
        stream.send(HEARTBEAT)
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        stream.close()
        self._streams.pop(stream.id, None)

    def _tell(self, change: Change) -> None:
        if not self._streams:
            return
        event = self._event(change)
        if event is not None:
            kind, body = event
            record = Record(msgspec.convert({"type": kind, kind.lower(): body}, Event))
            for stream in list(self._streams.values()):
                stream.send(record)

    def _event(self, change: Change) -> tuple[str, Json] | None:
        match change:
            case TaskAdded(task=task):
                return "TASK_ADDED", {"task": task}
            case TaskUpdated(key=(framework_id, _), status=status, state=state):
                return "TASK_UPDATED", {
                    "framework_id": FrameworkID(value=framework_id),
                    "status": status,
                    "state": state,
                }
            case AgentAdded(agent_id=id):
                agent = self._cluster.agents[id]
                if agent.liveness is Liveness.UNREACHABLE:
                    return None
                return "AGENT_ADDED", {"agent": agent_json(agent, self._cluster)}
            case AgentRemoved(agent_id=id):
                return "AGENT_REMOVED", {"agent_id": {"value": id}}
            case FrameworkAdded(framework_id=id):
                return "FRAMEWORK_ADDED", {"framework": self._framework(id)}
            case FrameworkUpdated(framework_id=id):
                return "FRAMEWORK_UPDATED", {"framework": self._framework(id)}
            case FrameworkRemoved(info=info):
                return "FRAMEWORK_REMOVED", {"framework_info": info}
            case _:
                return None

    def _framework(self, id: str) -> Json:
        return framework_json(self._cluster.frameworks[id], self._cluster)
