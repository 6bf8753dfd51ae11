"""A master over real HTTP: a fake framework and a fake agent speak the real protocols."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest
from aiohttp import web
from yarl import URL

from phalanx.core.api.serve import Listener, serve
from phalanx.core.store.memory import MemoryStore
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.recovery import recover
from phalanx.master.seat import Seat
from phalanx.mesos.agent_protocol import STREAM_HEADER as AGENT_STREAM
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.master import Call as OperatorCall
from phalanx.mesos.v1.master import Event as OperatorEvent
from phalanx.mesos.v1.master import Response
from phalanx.mesos.v1.media import Media, decode_as
from phalanx.mesos.v1.mesos import Address, FrameworkInfo, MasterInfo
from phalanx.mesos.v1.protobuf import decode_protobuf, encode_protobuf
from phalanx.mesos.v1.scheduler import Call as SchedulerCall
from phalanx.mesos.v1.scheduler import Decline, Event, Subscribe
from phalanx.net.feed.client import follow
from phalanx.net.model.lease import VIP_POOL, lease_vip
from phalanx.net.model.objects import Liveness, TaskPhase
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


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with Master(tmp_path, MemoryStore()) as client:
        yield client


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


async def test_no_name_is_leased_an_address_that_a_task_chose(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    framework = FakeFramework(client)
    await framework.subscribe()
    chosen = lease_vip("web.marathon", VIP_POOL, ())
    labels = [{"key": "VIP_0", "value": "/web:80"}, {"key": "VIP_1", "value": f"{chosen}:80"}]
    port = {"number": 80, "labels": {"labels": labels}}

    await framework.launch("web.1", discovery={**VIP, "ports": {"ports": [port]}})

    async with views(client) as seen:
        view = await seen.until(lambda view: view.vips)
        assert view.vips["web.marathon"].address == chosen + 1


async def test_a_task_from_offer_to_view_and_end(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    framework = FakeFramework(client)
    subscribed = await framework.subscribe()
    assert subscribed["heartbeat_interval_seconds"] == 15.0
    assert subscribed["master_info"]["id"] == client.seat.me.id if client.seat.me else False

    await framework.launch("web.1", discovery=VIP)
    task = await agent.run()
    await agent.report(task, "TASK_RUNNING", healthy=True, **ATTACHED)
    update = await framework.next("UPDATE")
    assert update["status"]["uuid"] == UUID
    status, _ = await framework.call(
        "ACKNOWLEDGE", agent_id=task["agent_id"], task_id=task["task_id"], uuid=UUID
    )
    assert status == 202
    assert (await agent.next("ACKNOWLEDGE_UPDATE"))["uuid"] == UUID

    async with views(client) as seen:
        view = await seen.until(lambda view: view.vips and view.tasks)
        [shown] = view.tasks.values()
        assert shown.phase is TaskPhase.RUNNING
        assert shown.healthy is True
        assert shown.addresses == (IPv4Address("9.0.0.2"),)
        assert shown.networks == ("dcos",)
        assert view.vips.keys() == {"web.marathon"}
        assert view.nodes.keys() == {"127.0.0.1", "198.18.0.2"}
        leased = [str(subnet) for lease in view.subnets.values() for subnet in lease.subnets]
        assert leased == ["9.0.0.0/24", "fd01:b::/80"]

        await framework.call("KILL", task_id=task["task_id"])
        assert (await agent.next("KILL_TASK"))["task_id"] == task["task_id"]
        await agent.report(task, "TASK_KILLED")
        view = await seen.until(lambda view: not view.tasks and not view.vips)
        assert view.frameworks != {}


async def test_pod_and_reservation_from_offer_to_their_ends(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    framework = FakeFramework(client, role="web")
    await framework.subscribe()
    offer = (await framework.next("OFFERS"))["offers"][0]
    executor = {
        "type": "CUSTOM",
        "executor_id": {"value": "pod"},
        "command": {"value": "run"},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
        ],
    }
    task = {
        "name": "t",
        "task_id": {"value": "t"},
        "agent_id": offer["agent_id"],
        "executor": executor,
        "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}],
    }
    reserve = {
        "name": "cpus",
        "type": "SCALAR",
        "scalar": {"value": 1},
        "role": "web",
        "reservation": {},
    }
    operations = [
        {"type": "LAUNCH", "launch": {"task_infos": [task]}},
        {"type": "RESERVE", "id": {"value": "op"}, "reserve": {"resources": [reserve]}},
    ]

    await framework.call("ACCEPT", offer_ids=[offer["id"]], operations=operations)
    run = await agent.next("RUN_TASK")
    apply = await agent.next("APPLY_OPERATION")
    mine = {"framework_id": framework.info["id"], "executor_id": {"value": "pod"}}
    status = {
        "operation_id": {"value": "op"},
        "state": "OPERATION_FINISHED",
        "uuid": {"value": UUID},
    }
    update = {
        "operation_uuid": apply["operation_uuid"],
        "framework_id": framework.info["id"],
        "status": status,
    }
    for call in (
        {"type": "OPERATION_UPDATE", "operation_update": update},
        {"type": "MESSAGE", "message": mine | {"data": "YQ=="}},
        {"type": "EXECUTOR_EXITED", "executor_exited": mine | {"status": 256}},
    ):
        assert await agent.call(call) == 202

    assert run["task"]["executor"]["framework_id"] == framework.info["id"]
    told = await framework.next("UPDATE_OPERATION_STATUS")
    assert told["status"] == status | {"agent_id": offer["agent_id"]}
    where = {"agent_id": offer["agent_id"], "executor_id": {"value": "pod"}}
    assert await framework.next("MESSAGE") == where | {"data": "YQ=="}
    assert await framework.next("FAILURE") == where | {"status": 256}
    await framework.call(
        "ACKNOWLEDGE_OPERATION_STATUS",
        agent_id=offer["agent_id"],
        operation_id={"value": "op"},
        uuid=UUID,
    )
    assert (await agent.next("ACKNOWLEDGE_OPERATION"))["status_uuid"] == UUID
    await framework.call("RECONCILE")
    answer = (await framework.next("UPDATE"))["status"]
    assert (answer["state"], answer["executor_id"]) == ("TASK_STAGING", {"value": "pod"})
    assert (await framework.call("UNKNOWN"))[0] == 501


async def test_streams_have_the_headers_that_clients_look_for(client: Client) -> None:
    framework = FakeFramework(client)
    await framework.subscribe()
    assert framework.stream is not None
    headers = framework.stream.response.headers

    assert headers["Content-Type"] == "application/json"
    assert headers["Transfer-Encoding"] == "chunked"
    assert framework.stream_id
    assert (await framework.stream.next())["type"] == "HEARTBEAT"


CHECKS: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no-content-type": (b"{}", {}, 400, "Expecting 'Content-Type' to be present"),
    "charset": (b"{}", {"Content-Type": "application/json; charset=utf-8"}, 415, "Expecting"),
    "protobuf": (b"\x0b", {"Content-Type": "application/x-protobuf"}, 400, "Failed to parse body"),
    "no-json": (b"{", JSON, 400, "Failed to parse body into JSON"),
    "no-object": (b"[]", JSON, 400, "Failed to convert JSON into Call protobuf"),
    "nested": (b'{"a":' * 5000, JSON, 400, "Failed to"),
    "no-type": (b"{}", JSON, 400, "Call: Expecting 'type' to be present"),
    "accept": (
        b'{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"","name":""}}}',
        JSON | {"Accept": "text/html"},
        406,
        "Expecting 'Accept'",
    ),
}


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"), CHECKS.values(), ids=CHECKS.keys()
)
@pytest.mark.parametrize("path", ["/api/v1/scheduler", "/master/api/v1/scheduler", "/api/v1"])
async def test_checks_before_any_call(
    client: Client, path: str, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    found, text = await client.post(path, body, headers)

    assert found == status
    assert message in text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/scheduler", {"type": "SUBSCRIBE", "subscribe": {"framework_info": INFO}}),
        ("/api/v1", {"type": "SUBSCRIBE"}),
        ("/v1/feed", None),
    ],
)
async def test_streams_are_for_clients_of_http_1_0_too(
    client: Client, path: str, body: Json | None
) -> None:
    raw = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    reader, writer = await asyncio.open_connection("127.0.0.1", int(client.url.split(":")[2]))
    leader = client.seat.leader
    assert leader is not None
    await eventually(lambda: leader.publisher.is_readable)
    head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)

    async with asyncio.timeout(DEADLINE):
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(await reader.readline())
        first = json.loads(await reader.readexactly(length))
    writer.close()

    assert answer.startswith(b"HTTP/1.0 200")
    assert first["type"] in ("SUBSCRIBED", "SNAPSHOT")


async def test_stream_does_not_wait_for_a_subscriber_whose_host_is_gone() -> None:
    limits = []

    async def answer(request: web.Request) -> web.StreamResponse:
        stream = Stream("s")
        stream.close()
        response = await respond(
            request, stream, headers={}, heartbeat=b"", every_seconds=1, on_end=lambda: None
        )
        assert request.transport is not None
        end = request.transport.get_extra_info("socket")
        limits.append(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
        return response

    app = web.Application()
    app.router.add_get("/", answer)
    async with aiohttp.ClientSession() as session, serve(app, Listener("127.0.0.1", 0)) as bound:
        await session.get(f"http://{bound[0]}/")

    assert limits == [60_000]


async def test_feed_has_no_head(client: Client) -> None:
    async with client.session.head(f"{client.url}/v1/feed") as response:
        assert response.status == 405


async def test_only_post_is_allowed(client: Client) -> None:
    async with client.session.get(f"{client.url}/api/v1/scheduler") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"


async def test_lookup_chain_of_scheduler_calls(client: Client) -> None:
    framework = FakeFramework(client)
    await framework.subscribe()
    body = {"framework_id": framework.info["id"], "type": "REVIVE"}
    path = "/api/v1/scheduler"

    unknown = await client.post(path, {"framework_id": {"value": "x"}, "type": "REVIVE"})
    unnamed = await client.post(path, body)
    foreign = await client.post(path, body, JSON | {"Mesos-Stream-Id": "x"})
    right = await client.post(path, body, JSON | {"Mesos-Stream-Id": framework.stream_id})
    nothing = await framework.call("UNKNOWN")

    assert unknown == (400, "Framework cannot be found")
    assert unnamed[0] == 400
    assert "'Mesos-Stream-Id' header" in unnamed[1]
    assert foreign[0] == 400
    assert "didn't match the stream ID currently associated" in foreign[1]
    assert right == (202, "")
    assert nothing[0] == 501


async def test_disconnected_framework_is_forbidden_to_call(client: Client) -> None:
    framework = FakeFramework(client)
    await framework.subscribe()
    assert framework.stream is not None
    framework.stream.response.close()
    leader = client.seat.leader
    assert leader is not None
    await eventually(lambda: not leader.cluster.frameworks[id_of(framework)].is_connected)

    assert await framework.call("REVIVE") == (403, "Framework is not subscribed")


async def test_refused_subscription_is_an_error_event_and_the_end(client: Client) -> None:
    info = {"user": "root", "name": "x", "role": "a b"}
    body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
    stream = await client.open("/api/v1/scheduler", body)

    assert (await stream.next())["error"]["message"] == (
        "'FrameworkInfo.role' is not a valid role:"
        " Role component 'a b' is invalid because it contains backspace or whitespace"
    )
    assert (await stream.next())["type"] == "END"


async def test_failed_over_framework_hears_so(client: Client) -> None:
    first = FakeFramework(client)
    await first.subscribe()
    second = FakeFramework(client, id=first.info["id"])
    await second.subscribe()

    assert (await first.next("ERROR"))["message"] == "Framework failed over"
    assert first.stream is not None
    assert (await first.stream.next())["type"] == "END"


async def test_update_framework_answers_at_once(client: Client) -> None:
    framework = FakeFramework(client)
    await framework.subscribe()
    renamed = framework.info | {"name": "renamed"}

    assert await framework.call("UPDATE_FRAMEWORK", framework_info=renamed) == (200, "")
    status, text = await framework.call(
        "UPDATE_FRAMEWORK", framework_info=renamed | {"user": "other"}
    )

    assert (status, text) == (
        400,
        "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported;"
        " attempted to update from 'root' to 'other'",
    )


async def test_agent_hears_heartbeats_and_is_heard(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()

    await agent.next("HEARTBEAT")

    assert await agent.call({"type": "HEARTBEAT"}) == 202
    assert await agent.call({"type": "NOSUCH"}) == 400


@pytest.mark.parametrize("own", [None, {"value": "uuid-S0"}])
async def test_agent_that_lists_a_task_of_another_is_refused_before_it_is_in(
    client: Client, own: dict[str, str] | None
) -> None:
    task = {
        "name": "stray",
        "task_id": {"value": "t"},
        "framework_id": {"value": "f"},
        "agent_id": {"value": "uuid-S7"},
        "state": "TASK_RUNNING",
    }
    info = {"hostname": "a1", "id": own}
    body = {"agent_info": info, "address": "198.18.0.2", "version": "1", "tasks": [task]}

    status, text = await client.post(
        "/v1/agent", {"type": "SUBSCRIBE", "subscribe": body}, dict(JSON)
    )

    assert status == 400
    assert "uuid-S7" in text
    assert (await client.get("/slaves"))[1]["slaves"] == []


async def test_call_on_a_stream_that_is_not_held_is_forbidden(client: Client) -> None:
    headers = JSON | {AGENT_STREAM: "nosuch"}

    assert (await client.post("/v1/agent", {"type": "HEARTBEAT"}, headers))[0] == 403


async def test_silent_agent_is_suspect_in_the_view_and_alive_again(tmp_path: Path) -> None:
    settings = {"agent_suspect_timeout": "300ms"}
    async with Master(tmp_path, MemoryStore(), **settings) as client, views(client) as seen:
        agent = FakeAgent(client, address="198.18.0.2")
        await agent.subscribe()

        await seen.until(lambda view: liveness(view, "198.18.0.2") is Liveness.SUSPECT)
        await agent.call({"type": "HEARTBEAT"})
        await seen.until(lambda view: liveness(view, "198.18.0.2") is Liveness.ALIVE)


async def test_new_leader_opens_feed_and_offers_when_its_agents_are_back(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Master(tmp_path, store) as client:
        agent = FakeAgent(client, address="198.18.0.2")
        await agent.subscribe()
        framework = FakeFramework(client)
        await framework.subscribe()
        await framework.launch("web.1", discovery=VIP)
        task = await agent.run()
        await agent.report(task, "TASK_RUNNING", **ATTACHED)
        async with views(client) as seen:
            view = await seen.until(lambda view: bool(view.vips))
            address = view.vips["web.marathon"].address
    async with Master(tmp_path, store) as client:
        agent.client = framework.client = client
        await framework.subscribe()
        assert (await client.get("/v1/feed"))[0] == 503
        assert (await client.get("/slaves"))[1]["recovered_slaves"][0]["id"] == agent.id

        await agent.subscribe()

        async with views(client) as seen:
            view = await seen.until(lambda view: bool(view.vips))
            assert view.vips["web.marathon"].address == address
            assert [task.id for task in view.tasks.values()] == ["web.1"]
        offer = (await framework.next("OFFERS"))["offers"][0]
        cpus = next(item for item in offer["resources"] if item["name"] == "cpus")
        assert cpus["scalar"]["value"] == 3.0


async def test_masters_end_does_not_end_frameworks(tmp_path: Path) -> None:
    async with Master(tmp_path, MemoryStore()) as client:
        leader = client.seat.leader
        assert leader is not None
        framework = FakeFramework(client, failover_timeout=0.0)
        await framework.subscribe()

    assert leader.cluster.frameworks.keys() == {id_of(framework)}


async def test_networks_are_made_shown_used_and_deleted(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    status, text = await client.post("/v1/networks", {"name": "blue", "subnet": "10.1.0.0/16"})
    assert status == 201
    assert json.loads(text) == {
        "name": "blue",
        "subnet": "10.1.0.0/16",
        "prefix": 24,
        "subnet6": None,
        "prefix6": None,
        "vni": 1026,
        "mtu": 1450,
        "isolated": True,
        "leases": [{"node": "198.18.0.2", "subnet": "10.1.0.0/24", "subnet6": None}],
    }
    assert (await client.get("/v1/networks/blue"))[1] == json.loads(text)
    names = [item["name"] for item in (await client.get("/v1/networks"))[1]["networks"]]
    assert names == ["dcos", "dcos6", "blue"]

    framework = FakeFramework(client)
    await framework.subscribe()
    container = {"type": "MESOS", "network_infos": [{"name": "blue"}]}
    await framework.launch("db.1", container=container)
    task = await agent.run()
    status, text = await client.delete("/v1/networks/blue")
    assert status == 409
    assert "task db.1 of marathon" in json.loads(text)["error"]

    await agent.report(task, "TASK_FINISHED")
    assert await client.delete("/v1/networks/blue") == (204, "")
    assert (await client.get("/v1/networks/blue"))[0] == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "blue", "subnet": "9.1.0.0/16"}, 409),
        ({"name": "dcos", "subnet": "10.1.0.0/16"}, 409),
        ({"name": "Blue", "subnet": "10.1.0.0/16"}, 400),
        ({"subnet": "10.1.0.0/16"}, 400),
        ({"name": "blue", "subnet": "10.1.0.0/16", "colour": 1}, 400),
        (b"{", 400),
    ],
    ids=["overlap", "name", "syntax", "nameless", "unknown-field", "no-json"],
)
async def test_bad_network_is_refused_in_json(client: Client, body: object, status: int) -> None:
    found, text = await client.post("/v1/networks", body)

    assert found == status
    assert json.loads(text)["error"]


POLICY = {
    "name": "web-db",
    "tier": "network",
    "action": "allow",
    "direction": "both",
    "source": "dcos",
    "destination": "10.0.0.0/8",
    "protocol": "tcp",
    "ports": "8000-8010",
    "reason": "",
}


async def test_network_changes_while_it_is_used_and_says_why_not(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    await client.post("/v1/networks", {"name": "blue", "subnet": "10.1.0.0/16"})
    framework = FakeFramework(client)
    await framework.subscribe()
    container = {"type": "MESOS", "network_infos": [{"name": "blue"}]}
    await framework.launch("db.1", container=container)
    await agent.run()

    wider = {"mtu": 8900, "isolated": False, "subnet": "10.0.0.0/15", "subnet6": "fd00:7::/64"}
    status, text = await client.patch("/v1/networks/blue", wider)
    assert status == 200
    changed = json.loads(text)
    assert {key: changed[key] for key in wider} == wider
    assert changed["leases"] == [
        {"node": "198.18.0.2", "subnet": "10.1.0.0/24", "subnet6": "fd00:7::/80"}
    ]

    for body, refused, reason in (
        ({"subnet": None}, 409, "task db.1 of marathon"),
        ({"subnet": "10.2.0.0/16"}, 409, "node 198.18.0.2 is leased 10.1.0.0/24"),
        ({"mtu": 7}, 400, "mtu: 7"),
        ({"vni": 7}, 400, "vni"),
    ):
        status, text = await client.patch("/v1/networks/blue", body)
        assert status == refused
        assert reason in json.loads(text)["error"]
    assert (await client.patch("/v1/networks/none", {}))[0] == 404
    assert (await client.get("/v1/networks/blue"))[1] == changed


async def test_overlay_state_has_the_form_of_dcos(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()

    state = (await client.get("/overlay-master/state"))[1]

    assert [overlay["name"] for overlay in state["network"]["overlays"]] == ["dcos", "dcos6"]
    [shown] = state["agents"]
    assert shown["ip"] == "198.18.0.2"
    assert shown["overlays"][0] == {
        "info": {"name": "dcos", "enabled": True, "subnet": "9.0.0.0/8", "prefix": 24},
        "subnet": "9.0.0.0/24",
        "mesos_bridge": {"name": "phx-1024", "ip": "9.0.0.0/24"},
        "docker_bridge": {"name": "phx-1024", "ip": "9.0.0.0/24"},
        "backend": {
            "vxlan": {
                "vni": 1024,
                "vtep_name": "phx-vxlan",
                "vtep_ip": "198.18.0.2/32",
                "vtep_ip6": "fd01:a::c612:2/128",
                "vtep_mtu": 1450,
            }
        },
        "state": {"status": "STATUS_OK"},
    }
    assert shown["overlays"][1]["subnet6"] == "fd01:b::/80"


async def test_policies_are_added_shown_and_removed(client: Client) -> None:
    status, text = await client.post("/v1/policies", POLICY)

    assert (status, json.loads(text)) == (201, POLICY)
    assert (await client.get("/v1/policies"))[1] == {"policies": [POLICY]}
    assert (await client.get("/v1/policies/web-db"))[1] == POLICY
    async with views(client) as seen:
        view = await seen.until(lambda view: bool(view.policies))
        assert view.policies["web-db"].port_ranges == ((8000, 8010),)
    assert await client.delete("/v1/policies/web-db") == (204, "")
    assert (await client.delete("/v1/policies/web-db"))[0] == 404
    assert (await client.get("/v1/policies/web-db"))[0] == 404


async def test_a_policy_is_put_in_the_place_of_another(client: Client) -> None:
    wider = {**POLICY, "ports": "80,8000-8010", "reason": "more"}

    first, _ = await client.put("/v1/policies/web-db", POLICY)
    second, text = await client.put("/v1/policies/web-db", wider)
    other, words = await client.put("/v1/policies/db-web", wider)

    assert (first, second, json.loads(text)) == (201, 200, wider)
    assert (other, words) == (
        400,
        "{\"error\": \"name: 'web-db' is not 'db-web', of the address\"}",
    )


async def test_a_document_takes_the_place_of_all_policies_or_of_one_tiers(client: Client) -> None:
    law = {**POLICY, "name": "law", "tier": "cluster", "action": "deny"}
    await client.post("/v1/policies", {**POLICY, "name": "old"})

    first = await client.put("/v1/policies", {"policies": [POLICY, law]})
    second = await client.put("/v1/policies?tier=network", {"policies": []})
    wrong = await client.put("/v1/policies", {"policies": [law, {**POLICY, "ports": "80x"}]})

    assert json.loads(first[1]) == {"added": ["law", "web-db"], "changed": [], "removed": ["old"]}
    assert json.loads(second[1]) == {"added": [], "changed": [], "removed": ["web-db"]}
    assert wrong[0] == 400
    assert "policies[1].ports: '80x'" in wrong[1]
    assert (await client.get("/v1/policies"))[1] == {"policies": [law]}


def liveness(view: View, address: str) -> Liveness | None:
    node = view.nodes.get(address)
    return None if node is None else node.liveness


def id_of(framework: FakeFramework) -> str:
    return str(framework.info["id"]["value"])


async def eventually(holds: "Any") -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - a condition of the code under test, not an event
            await asyncio.sleep(0.01)


LEGACY = [
    "/state",
    "/state-summary",
    "/slaves",
    "/frameworks",
    "/tasks",
    "/roles",
    "/version",
    "/flags",
    "/metrics/snapshot",
]


@pytest.mark.parametrize("path", LEGACY)
async def test_legacy_endpoints_answer_under_all_their_names(client: Client, path: str) -> None:
    aliases = (path, f"/master{path}", f"{path}.json", f"/master{path}.json")
    keys: set[frozenset[str]] = set()
    async with asyncio.timeout(DEADLINE):
        while len(keys) != 1:  # metrics of an allocation are there once one was made
            bodies = [await client.get(alias) for alias in aliases]
            assert all(status == 200 for status, _ in bodies)
            keys = {frozenset(body) for _, body in bodies}

    assert keys != {frozenset()}


async def test_health_is_an_empty_answer_and_the_unknown_is_not_found(client: Client) -> None:
    assert await client.get("/health") == (200, "")
    assert await client.get("/nosuch") == (404, "404 Not Found.")
    assert await client.get("/") == (404, "404 Not Found.")


async def test_jsonp_wraps_the_answer(client: Client) -> None:
    status, text = await client.get("/version?jsonp=show")

    assert status == 200
    assert text.startswith("show({")
    assert text.endswith("});")


@pytest.mark.parametrize("path", ["/reserve", "/master/teardown", "/machine/down"])
async def test_what_changes_something_is_posted(client: Client, path: str) -> None:
    status, text = await client.get(path)

    assert status == 405
    assert text == ("405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.")


OPERATOR = [
    "GET_HEALTH",
    "GET_FLAGS",
    "GET_VERSION",
    "GET_METRICS",
    "GET_STATE",
    "GET_AGENTS",
    "GET_FRAMEWORKS",
    "GET_EXECUTORS",
    "GET_TASKS",
    "GET_ROLES",
    "GET_MASTER",
]


@pytest.mark.parametrize("kind", OPERATOR)
async def test_operator_call_is_answered_under_its_own_name(client: Client, kind: str) -> None:
    status, body = await client.operator(kind, **{kind.lower(): {}})

    assert status == 200
    assert isinstance(body, dict)


async def test_every_page_with_a_version_tells_of_the_build(client: Client) -> None:
    pages = [(await client.get(path))[1] for path in ("/version", "/state")]
    answer = (await client.operator("GET_VERSION"))[1]

    for told in (*pages, answer["version_info"]):
        assert {"version", "build_date", "build_time", "build_user", "git_tag"} <= set(told)


async def test_operator_calls_that_cannot_be_answered(client: Client) -> None:
    assert await client.operator("NOSUCH") == (
        400,
        "Failed to validate master::Call: Expecting 'type' to be present",
    )
    assert (await client.operator("GET_METRICS"))[0] == 400
    assert (await client.operator("TEARDOWN"))[0] == 400
    assert (await client.operator("TEARDOWN", teardown={"framework_id": {"value": "x"}}))[0] == 400
    gone = {"agent_id": {"value": "x"}}
    assert (await client.operator("MARK_AGENT_GONE", mark_agent_gone=gone))[0] == 404


async def test_operator_watches_ends_a_framework_and_gives_up_an_agent(client: Client) -> None:
    watch = await client.open("/api/v1", {"type": "SUBSCRIBE"})
    assert (await watch.next())["type"] == "SUBSCRIBED"
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    added = await watch.next("AGENT_ADDED")
    assert added["agent_added"]["agent"]["active"] is True
    framework = FakeFramework(client)
    await framework.subscribe()
    await watch.next("FRAMEWORK_ADDED")

    ended = await client.post(
        "/api/v1", {"type": "TEARDOWN", "teardown": {"framework_id": framework.info["id"]}}
    )
    gone = await client.post(
        "/api/v1", {"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": {"value": agent.id}}}
    )

    assert (ended, gone) == ((200, ""), (200, ""))
    await watch.next("FRAMEWORK_REMOVED")
    await agent.next("SHUTDOWN")
    networks = (await client.get("/v1/networks"))[1]["networks"]
    assert networks[0]["leases"] == []


async def test_follower_sends_callers_to_the_leader(client: Client) -> None:
    client.seat.holder = master_info("other", IPv4Address("198.18.0.9"), 5050, "m9")
    client.seat.leader = None

    for path in ("/state?x=1", "/v1/networks", "/v1/feed", "/master/api/v1"):
        async with client.session.get(f"{client.url}{path}", allow_redirects=False) as response:
            assert response.status == 307
            assert response.headers["Location"] == f"//m9:5050{path}"
    async with client.session.get(f"{client.url}/redirect", allow_redirects=False) as response:
        assert response.headers["Location"] == "//m9:5050"
    for path in ("/health", "/flags", "/version", "/metrics/snapshot", "/master/health"):
        assert (await client.get(path))[0] == 200


async def test_without_a_leader_callers_are_told_so(client: Client) -> None:
    client.seat.leave()

    assert await client.get("/state") == (503, "No leader elected")
    assert await client.get("/redirect") == (503, "No leader elected")


async def test_before_recovery_callers_are_told_so(client: Client) -> None:
    client.seat.leader = None

    assert await client.get("/state") == (503, "Master has not finished recovery")


OPEN_PAGES = ("/health", "/flags", "/version", "/metrics/snapshot", "/files/browse", "/help")


@pytest.mark.parametrize("path", OPEN_PAGES)
@pytest.mark.parametrize("prefix", ["", "/master"])
async def test_every_master_answers_what_is_its_own(client: Client, path: str, prefix: str) -> None:
    client.seat.holder = FOREIGN
    async with client.session.get(f"{client.url}{prefix}{path}", allow_redirects=False) as found:
        assert found.status in (200, 400)


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/state", 307, "//leader.example:5055/state"),
        ("/master/state?x=1&y=a%20b", 307, "//leader.example:5055/master/state?x=1&y=a%20b"),
        ("/state.json", 307, "//leader.example:5055/state.json"),
        ("/api/v1", 307, "//leader.example:5055/api/v1"),
        ("/api/v1/scheduler", 307, "//leader.example:5055/api/v1/scheduler"),
        ("/maintenance/status", 307, "//leader.example:5055/maintenance/status"),
        ("/redirect", 307, "//leader.example:5055"),
        ("/master/redirect", 307, "//leader.example:5055"),
        ("/redirect/foo", 404, None),
        ("/nosuch", 404, None),
        ("/master/../state", 404, None),
    ],
)
async def test_a_follower_sends_its_callers_to_the_leader(
    client: Client, path: str, status: int, location: str | None
) -> None:
    client.seat.holder = FOREIGN
    url = URL(f"{client.url}{path}", encoded=True)
    for method in ("GET", "POST"):
        async with client.session.request(method, url, allow_redirects=False) as found:
            assert (found.status, found.headers.get("Location")) == (status, location)


async def test_a_leader_without_a_name_is_found_by_its_address(client: Client) -> None:
    client.seat.holder = msgspec.structs.replace(FOREIGN, hostname=None)
    async with client.session.get(f"{client.url}/redirect", allow_redirects=False) as found:
        assert found.headers["Location"] == "//192.0.2.9:5055"


FOREIGN = MasterInfo(
    id="another",
    ip=0,
    port=5055,
    hostname="leader.example",
    address=Address(hostname="leader.example", ip="192.0.2.9", port=5055),
)
WIRE = {"Content-Type": "application/x-protobuf", "Accept": "application/x-protobuf"}


async def records(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the records of a stream."""
    decoder = RecordDecoder()
    async with asyncio.timeout(DEADLINE):
        async for chunk in response.content.iter_any():
            for record in decoder.feed(chunk):
                yield record


async def test_a_framework_may_speak_protobuf(client: Client) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    info = FrameworkInfo(user="root", name="binary", failover_timeout=60.0)
    subscribe = SchedulerCall(type="SUBSCRIBE", subscribe=Subscribe(framework_info=info))
    url = f"{client.url}/api/v1/scheduler"
    async with client.session.post(url, data=encode_protobuf(subscribe), headers=WIRE) as response:
        assert response.headers["Content-Type"] == "application/x-protobuf"
        events = (decode_protobuf(Event, record) async for record in records(response))
        first, second, third = [await anext(events) for _ in range(3)]
        assert [first.type, second.type, third.type] == ["SUBSCRIBED", "HEARTBEAT", "OFFERS"]
        assert first.subscribed is not None
        assert third.offers is not None
        [offer] = third.offers.offers
        assert Resources.of(offer.resources).scalar("cpus") == 4
        decline = SchedulerCall(
            type="DECLINE",
            framework_id=first.subscribed.framework_id,
            decline=Decline(offer_ids=(offer.id,)),
        )
        headers = WIRE | {"Mesos-Stream-Id": response.headers["Mesos-Stream-Id"]}
        async with client.session.post(
            url, data=encode_protobuf(decline), headers=headers
        ) as answer:
            assert (answer.status, await answer.text()) == (202, "")


@pytest.mark.parametrize("kind", [kind for kind in OPERATOR if kind != "GET_METRICS"])
async def test_operator_calls_say_the_same_in_protobuf(client: Client, kind: str) -> None:
    agent = FakeAgent(client, address="198.18.0.2")
    await agent.subscribe()
    framework = FakeFramework(client)
    await framework.subscribe()
    await framework.launch("t")
    await agent.run()
    answers = []
    for accept in ("application/json", "application/x-protobuf"):
        async with client.session.post(
            f"{client.url}/api/v1",
            data=encode_protobuf(OperatorCall(type=kind)),
            headers=WIRE | {"Accept": accept},
        ) as answer:
            assert (answer.status, answer.headers["Content-Type"]) == (200, accept)
            answers.append(decode_as(Media(accept), Response, await answer.read()))

    assert answers[0] == answers[1]
    assert getattr(answers[1], kind.lower()) is not None


async def test_watchers_hear_the_same_in_both_forms(client: Client) -> None:
    heard = {}
    async with AsyncExitStack() as stack:
        streams = {}
        for media in Media:
            streams[media] = records(
                await stack.enter_async_context(
                    client.session.post(
                        f"{client.url}/api/v1",
                        json={"type": "SUBSCRIBE"},
                        headers={"Accept": media.value},
                    )
                )
            )
            first = decode_as(media, OperatorEvent, await anext(streams[media]))
            assert first.type == "SUBSCRIBED"
        await FakeAgent(client, address="198.18.0.2").subscribe()
        for media, stream in streams.items():
            async for record in stream:
                event = decode_as(media, OperatorEvent, record)
                if event.type == "AGENT_ADDED":
                    heard[media] = event
                    break

    assert heard[Media.JSON] == heard[Media.PROTOBUF]


async def test_realms_ask_who_calls(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.write_text('{"credentials":[{"principal":"bob","secret":"s"}]}')
    settings = {
        "authenticate_http_readonly": True,
        "authenticate_http_readwrite": True,
        "authenticate_http_frameworks": True,
        "http_credentials": secrets,
    }
    bob = {"Authorization": f"Basic {base64.b64encode(b'bob:s').decode()}"}
    async with Master(tmp_path, MemoryStore(), **settings) as client:
        for path, realm in (
            ("/state", "readonly"),
            ("/master/slaves", "readonly"),
            ("/api/v1", "readwrite"),
            ("/weights", "readwrite"),
            ("/api/v1/scheduler", "scheduler"),
        ):
            async with client.session.get(f"{client.url}{path}") as found:
                assert found.status == 401
                asked = found.headers["WWW-Authenticate"]
                assert asked == f'Basic realm="mesos-master-{realm}"'
            async with client.session.get(f"{client.url}{path}", headers=bob) as found:
                assert found.status in (200, 405)
        assert (await client.get("/health"))[0] == 200
        assert (await client.get("/version"))[0] == 200

        url = f"{client.url}/api/v1/scheduler"
        call = {
            "type": "SUBSCRIBE",
            "subscribe": {"framework_info": {"user": "u", "name": "n", "principal": "al"}},
        }
        async with client.session.post(url, json=call, headers=bob) as found:
            assert (found.status, await found.text()) == (
                400,
                "Failed to validate scheduler::Call: Authenticated principal 'bob' does not match"
                " principal 'al' set in `FrameworkInfo`",
            )
        del call["subscribe"]["framework_info"]["principal"]  # type: ignore[index]  # built above
        async with client.session.post(url, json=call, headers=bob) as found:
            assert found.status == 200
            assert client.seat.leader is not None
            [framework] = client.seat.leader.cluster.frameworks.values()
            assert framework.info.principal == "bob"
