"""A master over real HTTP, and who speaks to it: a framework, an agent, a plane."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any
from uuid import uuid4

import aiohttp

from phalanx.core.api.serve import Listener, serve
from phalanx.core.store.memory import MemoryStore
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.recovery import recover
from phalanx.master.seat import Seat
from phalanx.mesos.agent_protocol import STREAM_HEADER as AGENT_STREAM
from phalanx.mesos.recordio import RecordDecoder
from phalanx.net.feed.client import follow
from phalanx.net.model.objects import Liveness
from phalanx.net.model.view import View

Json = dict[str, Any]
DEADLINE = 60.0
UUID = "AAAAAAAAAAAAAAAAAAAAAA=="
JSON = {"Content-Type": "application/json"}
INFO = {"user": "root", "name": "marathon"}


class EventStream:
    """The reading end of one stream of records."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self._decoder = RecordDecoder()
        self._events: list[Json] = []

    async def next(self, *kinds: str) -> Json:
        """Return the next event, or the next of certain kinds."""
        async with asyncio.timeout(DEADLINE):
            while True:
                while self._events:
                    event = self._events.pop(0)
                    if not kinds or event["type"] in kinds:
                        return event
                chunk = await self.response.content.readany()
                if not chunk:
                    return {"type": "END"}
                self._events += [json.loads(record) for record in self._decoder.feed(chunk)]


class Client:
    """Somebody who speaks HTTP to one master."""

    def __init__(self, session: aiohttp.ClientSession, seat: Seat) -> None:
        self.session = session
        self.url = ""
        self.seat = seat
        self._open: list[aiohttp.ClientResponse] = []

    def hang_up(self) -> None:
        """Close every stream that is still open."""
        for response in self._open:
            response.close()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(f"{self.url}{path}", allow_redirects=False) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(text) if is_json and text else text

    async def post(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = JSON if headers is None else headers
        async with self.session.post(
            f"{self.url}{path}", data=raw, headers=given, skip_auto_headers=["Content-Type"]
        ) as response:
            return response.status, await response.text()

    async def put(self, path: str, body: Json) -> tuple[int, str]:
        async with self.session.put(self.url + path, json=body) as answer:
            return answer.status, await answer.text()

    async def patch(self, path: str, body: object) -> tuple[int, str]:
        async with self.session.patch(self.url + path, json=body) as answer:
            return answer.status, await answer.text()

    async def delete(self, path: str) -> tuple[int, str]:
        async with self.session.delete(f"{self.url}{path}") as response:
            return response.status, await response.text()

    async def open(self, path: str, body: Json) -> EventStream:
        response = await self.session.post(f"{self.url}{path}", json=body)
        self._open.append(response)
        assert response.status == 200, await response.text()
        return EventStream(response)

    async def operator(self, kind: str, **body: object) -> tuple[int, Any]:
        status, text = await self.post("/api/v1", {"type": kind, **body})
        return status, json.loads(text)[kind.lower()] if text.startswith("{") else text


class FakeAgent:
    """An agent that runs nothing."""

    def __init__(self, client: Client, *, address: str, suffix: str = "") -> None:
        self.client = client
        self.address = address
        self.hostname = f"agent{suffix}"
        self.id: str | None = None
        self.tasks: dict[str, Json] = {}
        self.frameworks: dict[str, Json] = {}
        self.stream: EventStream | None = None

    async def subscribe(self) -> None:
        info: Json = {
            "hostname": self.hostname,
            "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 4}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 1024}},
            ],
        }
        if self.id is not None:
            info["id"] = {"value": self.id}
        body = {
            "agent_info": info,
            "version": "1",
            "address": self.address,
            "tasks": list(self.tasks.values()),
            "frameworks": list(self.frameworks.values()),
        }
        self.stream = await self.client.open("/v1/agent", {"type": "SUBSCRIBE", "subscribe": body})
        self.id = (await self.next("SUBSCRIBED"))["agent_id"]["value"]

    async def next(self, kind: str) -> Json:
        assert self.stream is not None
        event = await self.stream.next(kind)
        assert event["type"] == kind, "the stream ended"
        body: Json = event.get(kind.lower(), {})
        return body

    async def call(self, body: Json) -> int:
        assert self.stream is not None
        headers = JSON | {AGENT_STREAM: self.stream.response.headers[AGENT_STREAM]}
        status, _ = await self.client.post("/v1/agent", body, headers)
        return status

    async def run(self) -> Json:
        """Take the next RUN_TASK and keep the task."""
        run = await self.next("RUN_TASK")
        info, task = run["framework_info"], run["task"]
        self.frameworks[info["id"]["value"]] = info
        self.tasks[task["task_id"]["value"]] = {
            "name": task["name"],
            "task_id": task["task_id"],
            "framework_id": info["id"],
            "agent_id": task["agent_id"],
            "state": "TASK_STAGING",
            "resources": task["resources"],
            **({"discovery": task["discovery"]} if "discovery" in task else {}),
        }
        return self.tasks[task["task_id"]["value"]]

    async def report(self, task: Json, state: str, **more: object) -> None:
        task["state"] = state
        status = {
            "task_id": task["task_id"],
            "state": state,
            "agent_id": {"value": self.id},
            "source": "SOURCE_EXECUTOR",
            "timestamp": 1.0,
            "uuid": UUID,
            **more,
        }
        task.setdefault("statuses", []).append(status)
        update = {
            "framework_id": task["framework_id"],
            "status": status,
            "latest_state": state,
        }
        assert await self.call({"type": "UPDATE", "update": update}) == 202

    def vanish(self) -> None:
        assert self.stream is not None
        self.stream.response.close()


class FakeFramework:
    """A framework that launches what it is told to."""

    def __init__(self, client: Client, **info: object) -> None:
        self.client = client
        self.info: Json = {"user": "root", "name": "marathon", "failover_timeout": 60.0, **info}
        self.stream: EventStream | None = None

    async def subscribe(self) -> Json:
        body: Json = {"type": "SUBSCRIBE", "subscribe": {"framework_info": self.info}}
        if "id" in self.info:
            body["framework_id"] = self.info["id"]
        self.stream = await self.client.open("/api/v1/scheduler", body)
        subscribed = await self.next("SUBSCRIBED")
        self.info["id"] = subscribed["framework_id"]
        return subscribed

    @property
    def stream_id(self) -> str:
        assert self.stream is not None
        return self.stream.response.headers["Mesos-Stream-Id"]

    async def next(self, kind: str) -> Json:
        assert self.stream is not None
        event = await self.stream.next(kind)
        assert event["type"] == kind, "the stream ended"
        body: Json = event.get(kind.lower(), {})
        return body

    async def call(self, kind: str, **body: object) -> tuple[int, str]:
        call = {"framework_id": self.info["id"], "type": kind, kind.lower(): body}
        headers = JSON | {"Mesos-Stream-Id": self.stream_id}
        return await self.client.post("/api/v1/scheduler", call, headers)

    async def launch(self, id: str, **more: object) -> Json:
        offer: Json = (await self.next("OFFERS"))["offers"][0]
        task = {
            "name": id,
            "task_id": {"value": id},
            "agent_id": offer["agent_id"],
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}],
            "command": {"value": "sleep 1"},
            **more,
        }
        operation = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
        status, text = await self.call("ACCEPT", offer_ids=[offer["id"]], operations=[operation])
        assert (status, text) == (202, "")
        return offer


class Master:
    """A leading master on a port of its own, in this event loop."""

    def __init__(self, tmp_path: Path, store: MemoryStore, **settings: object) -> None:
        self._settings = {"work_dir": tmp_path, "port": 0, **settings}
        self._store = store
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Client:
        config = MasterConfig(**self._settings)  # type: ignore[arg-type]  # the test's own settings
        seat = Seat(config, SystemClock())
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        client = Client(session, seat)
        self._stack.callback(client.hang_up)
        where = Listener(str(config.ip), 0)
        [bound] = await self._stack.enter_async_context(
            serve(build_app(seat), where, shutdown_seconds=0.1)
        )
        assert isinstance(bound, Listener)
        self._stack.callback(seat.leave)
        seat.me = master_info(str(uuid4()), config.ip, bound.port, "127.0.0.1")
        seat.holder = seat.me
        seat.leader = await recover(
            config,
            seat.me,
            self._store,
            seat.clock,
            new_id=lambda: str(uuid4()),
            rng=Random(1),
        )
        leading = asyncio.ensure_future(seat.leader.run())
        self._stack.push_async_callback(_cancelled, leading)
        client.url = f"http://127.0.0.1:{bound.port}"
        return client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)


async def _cancelled(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@asynccontextmanager
async def views(client: Client) -> AsyncIterator["Views"]:
    records = follow([client.url])
    try:
        yield Views(records)
    finally:
        await records.aclose()  # type: ignore[attr-defined]  # it is a generator


class Views:
    """The Views that a plane would see."""

    def __init__(self, records: AsyncIterator[Any]) -> None:
        self._records = records

    async def until(self, holds: "Any") -> View:
        async with asyncio.timeout(DEADLINE):
            async for numbered, _record in self._records:
                if holds(numbered.view):
                    view: View = numbered.view
                    return view
        raise AssertionError("the feed ended")


def liveness(view: View, address: str) -> Liveness | None:
    node = view.nodes.get(address)
    return None if node is None else node.liveness


def id_of(framework: FakeFramework) -> str:
    return str(framework.info["id"]["value"])


async def eventually(holds: "Any") -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - a condition of the code under test, not an event
            await asyncio.sleep(0.01)


VIP = {
    "visibility": "CLUSTER",
    "name": "web",
    "ports": {
        "ports": [{"number": 80, "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]}}]
    },
}
ATTACHED = {
    "container_status": {
        "network_infos": [{"name": "dcos", "ip_addresses": [{"ip_address": "9.0.0.2"}]}]
    }
}
