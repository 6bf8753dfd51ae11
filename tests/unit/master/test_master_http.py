"""A master over real HTTP: a fake framework and a fake agent speak the real protocols."""

import asyncio
import json
import socket
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.unit.master.http_lab import (
    ATTACHED,
    DEADLINE,
    INFO,
    JSON,
    UUID,
    VIP,
    Client,
    FakeAgent,
    FakeFramework,
    Json,
    Master,
    eventually,
    id_of,
    liveness,
    views,
)

from phalanx.core.api.serve import Listener, serve
from phalanx.core.store.memory import MemoryStore
from phalanx.mesos.agent_protocol import STREAM_HEADER as AGENT_STREAM
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.stream import Stream
from phalanx.net.model.lease import VIP_POOL, lease_vip
from phalanx.net.model.objects import Liveness, TaskPhase


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
