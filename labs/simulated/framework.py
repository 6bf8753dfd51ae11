"""A scheduler that launches as fast as it may: what a master carries of calls and events."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from phalanx.core.error import UnavailableError
from phalanx.mesos.recordio import RecordDecoder

PATH = "/api/v1/scheduler"
CALL_CONNECTIONS = 2
TERMINAL = frozenset(
    {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED"}
)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Launcher:
    """Launches *count* tasks, each of *resources*, and acknowledges every update.

    With *container* each has that ContainerInfo; *one_by_one* accepts the next offer only
    once the task before runs. ``running`` holds when each task was running and its update on
    the way to be acknowledged, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        count: int,
        resources: Mapping[str, float],
        per_offer: int,
        container: Mapping[str, Any] | None = None,
        one_by_one: bool = False,
    ) -> None:
        self.running: dict[str, float] = {}
        self.accepted: dict[str, float] = {}
        self.states: Counter[str] = Counter()
        self._host = host
        self._port = port
        self._count = count
        self._per_offer = per_offer
        self._resources = [
            {"name": name, "type": "SCALAR", "scalar": {"value": value}}
            for name, value in resources.items()
        ]
        self._container = container
        self._one_by_one = one_by_one
        self._kept: list[dict[str, Any]] = []  # offers for later
        self._made = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._next = 0
        self._framework_id = ""
        self._stream_id = ""
        self._done = asyncio.Event()
        self.refused: list[bytes] = []

    async def run(self) -> None:
        """Launch all and return once they run; raise UnavailableError when the stream ends."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CALL_CONNECTIONS):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                self._writers.append(writer)
                group.create_task(self._read_answers(reader))
            stream = group.create_task(self._read_events())
            await self._done.wait()
            self._call("TEARDOWN")
            await stream
            for writer in self._writers:
                writer.close()

    async def _read_events(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        info = {
            "user": "root",
            "name": "launcher",
            "roles": ["bench"],
            "failover_timeout": 60.0,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
        }
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        writer.write(self._request(_encode(call), stream_id=None))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        if " 200 " not in head.split("\r\n")[0]:
            raise UnavailableError(head.split("\r\n")[0])
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self._stream_id = headers["mesos-stream-id"]
        decoder = RecordDecoder()
        while size := int((await reader.readline()) or b"0", 16):
            chunk = await reader.readexactly(size + 2)
            for record in decoder.feed(chunk[:-2]):
                self._take(_decode(record))
        writer.close()

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "SUBSCRIBED":
                self._framework_id = event["subscribed"]["framework_id"]["value"]
            case "OFFERS":
                for offer in event["offers"]["offers"]:
                    if self._one_by_one and len(self.running) < self._made:
                        self._kept.append(offer)
                    else:
                        self._accept(offer)
            case "UPDATE":
                self._update(event["update"]["status"])

    def _accept(self, offer: dict[str, Any]) -> None:
        wanted = min(self._count - self._made, self._per_offer)
        ids = [{"value": offer["id"]["value"]}]
        if not wanted:
            self._call("DECLINE", offer_ids=ids, filters={"refuse_seconds": 3600.0})
            return
        tasks = [self._task(offer) for _ in range(wanted)]
        launch = {"type": "LAUNCH", "launch": {"task_infos": tasks}}
        self._call("ACCEPT", offer_ids=ids, operations=[launch], filters={"refuse_seconds": 0.0})

    def _task(self, offer: dict[str, Any]) -> dict[str, Any]:
        self._made += 1
        id = f"task-{self._made}"
        self.accepted[id] = time.monotonic()
        return {
            "name": "task",
            "task_id": {"value": id},
            "agent_id": offer["agent_id"],
            "resources": self._resources,
            "command": {"value": "sleep 3600"},
            **({"container": self._container} if self._container is not None else {}),
        }

    def _update(self, status: dict[str, Any]) -> None:
        state, id = status["state"], status["task_id"]["value"]
        self.states[state] += 1
        if "uuid" in status:
            self._call(
                "ACKNOWLEDGE",
                agent_id=status["agent_id"],
                task_id=status["task_id"],
                uuid=status["uuid"],
            )
        if state == "TASK_RUNNING":
            self.running.setdefault(id, time.monotonic())
            if self._kept and len(self.running) == self._made:
                self._accept(self._kept.pop(0))
        if len(self.running) == self._count or state in TERMINAL:
            self._done.set()

    def _call(self, type: str, **message: object) -> None:
        call: dict[str, object] = {"type": type, "framework_id": {"value": self._framework_id}}
        if message:
            call[type.lower()] = message
        self._next = (self._next + 1) % len(self._writers)
        self._writers[self._next].write(self._request(_encode(call), stream_id=self._stream_id))

    def _request(self, body: bytes, *, stream_id: str | None) -> bytes:
        stream = f"Mesos-Stream-Id: {stream_id}\r\n" if stream_id is not None else ""
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json\r\n{stream}Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def _read_answers(self, reader: asyncio.StreamReader) -> None:
        """Read the answers to pipelined calls; remember those that refuse."""
        while line := await reader.readline():
            length = 0
            while (header := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            body = await reader.readexactly(length)
            if b" 202 " not in line:
                self.refused.append(line + body)


def quantile(values: list[float], part: float) -> float:
    """Return the value below which *part* of the values are; 0.0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0
