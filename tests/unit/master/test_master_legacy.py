"""The operator's pages over real HTTP: what they change, and long answers in slices."""

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest

from phalanx.core.api.serve import Listener, serve
from phalanx.core.store.memory import MemoryStore
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.cluster.agent import Agent
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import Leader
from phalanx.master.operator.legacy.page import state_json
from phalanx.master.operator.snapshot import snapshot_of
from phalanx.master.recovery import recover
from phalanx.master.seat import Seat
from phalanx.mesos.agent_protocol import AgentSubscribe
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import encode, from_json
from phalanx.mesos.v1.master import Event, Response
from phalanx.mesos.v1.mesos import Task
from phalanx.mesos.v1.protobuf import decode_protobuf
from phalanx.mesos.v1.scheduler import Subscribe

Json = dict[str, Any]
MANY = 600  # tasks, whose answer is longer than one slice
PROTOBUF = {"Accept": "application/x-protobuf"}


def scalar(name: str, value: float, **more: object) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, **more}


def dynamic(name: str, value: float, role: str = "eng") -> Json:
    return scalar(name, value, reservations=[{"type": "DYNAMIC", "role": role}])


def volume(megabytes: float, id: str = "v1") -> Json:
    disk = {"persistence": {"id": id}, "volume": {"container_path": "data", "mode": "RW"}}
    return dynamic("disk", megabytes) | {"disk": disk}


class Site:
    """A leading master behind a real server, with one agent and one framework."""

    def __init__(self, leader: Leader, url: str, session: aiohttp.ClientSession) -> None:
        self.leader = leader
        self.url = url
        self.session = session
        self.agent: Agent
        self.stream: Stream

    async def join(self) -> None:
        """Let an agent and a framework come."""
        resources = [scalar("cpus", 4), scalar("mem", 1024), scalar("disk", 1000)]
        info = {"hostname": "a1", "resources": resources}
        agent, _ = await self.leader.registration.subscribe(
            from_json(AgentSubscribe, {"agent_info": info, "version": "1"}),
            IPv4Address("198.18.0.2"),
        )
        assert agent is not None
        self.agent = agent
        _, self.stream = self.leader.frameworks.subscribe(
            from_json(Subscribe, {"framework_info": {"user": "root", "name": "web"}})
        )
        self.leader.gate.is_open = self.leader.gate.has_offers = True

    def events(self) -> list[Json]:
        """Return what the framework was told since the last time."""
        return [json.loads(record) for record in RecordDecoder().feed(self.stream.take())]

    async def ask(
        self, method: str, path: str, data: bytes | None = None, **headers: str
    ) -> tuple[int, str]:
        async with self.session.request(
            method, f"{self.url}{path}", data=data, headers=headers
        ) as response:
            return response.status, await response.text()

    async def get(self, path: str) -> Any:
        status, text = await self.ask("GET", path)
        assert status == 200, text
        return json.loads(text)

    async def form(self, path: str, **fields: str) -> tuple[int, str]:
        return await self.ask("POST", path, urlencode(fields).encode())

    async def call(self, kind: str, **member: object) -> tuple[int, str]:
        body = {"type": kind, kind.lower(): member}
        raw = json.dumps(body).encode()
        return await self.ask("POST", "/api/v1", raw, **{"Content-Type": "application/json"})

    async def protobuf(self, kind: str) -> bytes:
        headers = PROTOBUF | {"Content-Type": "application/json"}
        raw = json.dumps({"type": kind}).encode()
        async with self.session.post(f"{self.url}/api/v1", data=raw, headers=headers) as response:
            assert response.status == 200
            return await response.read()

    def fill(self, count: int) -> None:
        """Let the framework have many tasks."""
        [framework] = self.leader.cluster.frameworks.values()
        for number in range(count):
            task = {
                "name": f"task-{number}",
                "task_id": {"value": f"task-{number}"},
                "framework_id": {"value": framework.id},
                "agent_id": {"value": self.agent.id},
                "state": "TASK_RUNNING",
                "resources": [scalar("cpus", 0.001)],
                "statuses": [
                    {
                        "task_id": {"value": f"task-{number}"},
                        "state": "TASK_RUNNING",
                        "timestamp": float(number),
                    }
                ],
            }
            self.leader.cluster.add_task(from_json(Task, task))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    log = tmp_path / "master.log"
    log.write_text("one\ntwo\n")
    config = MasterConfig(work_dir=tmp_path, external_log_file=log)
    seat = Seat(config, SystemClock())
    seat.me = seat.holder = master_info("m1", config.address, 5050, "m1")
    ids = iter(range(100_000))
    leader = await recover(
        config, seat.me, MemoryStore(), seat.clock, new_id=lambda: f"s{next(ids)}", rng=Random(1)
    )
    seat.leader = leader
    async with AsyncExitStack() as stack:
        [bound] = await stack.enter_async_context(serve(build_app(seat), Listener("127.0.0.1", 0)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = Site(leader, f"http://{bound}", session)
        await made.join()
        yield made
        seat.verbosity.reset()


async def test_reservations_and_volumes_by_form(site: Site) -> None:
    id = site.agent.id

    assert await site.form(
        "/reserve", slaveId=id, resources=json.dumps([dynamic("disk", 500)])
    ) == (202, "")
    assert (await site.form("/create-volumes", slaveId=id, volumes=json.dumps([volume(100)])))[
        0
    ] == 202
    [slave] = (await site.get("/slaves"))["slaves"]
    assert slave["reserved_resources"] == {
        "eng": {"cpus": 0.0, "gpus": 0.0, "mem": 0.0, "disk": 500.0}
    }
    assert {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": 100.0},
        "role": "eng",
        "reservation": {},
        "reservations": [{"type": "DYNAMIC", "role": "eng"}],
        "disk": volume(100)["disk"],
    } in slave["reserved_resources_full"]["eng"]
    [role] = (await site.get("/roles"))["roles"][1:]
    assert (role["name"], role["reserved"]) == ("eng", {"disk": 500.0})

    assert (await site.form("/destroy-volumes", slaveId=id, volumes=json.dumps([volume(100)])))[
        0
    ] == 202
    assert (
        await site.form("/unreserve", slaveId=id, resources=json.dumps([dynamic("disk", 500)]))
    )[0] == 202
    assert site.agent.total.reserved.scalars == {}


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        pytest.param(
            {"resources": "[]"},
            400,
            "Missing 'slaveId' query parameter in the request body",
            id="no-agent",
        ),
        pytest.param(
            {"slaveId": "x"},
            400,
            "Missing 'resources' query parameter in the request body",
            id="no-resources",
        ),
        pytest.param(
            {"slaveId": "x", "resources": "{}"},
            400,
            "Error parsing 'resources' query parameter in the request body: Unexpected JSON type"
            " parsed",
            id="no-array",
        ),
        pytest.param(
            {"slaveId": "x", "resources": json.dumps([dynamic("cpus", 1)])},
            400,
            "No agent found with specified ID",
            id="unknown-agent",
        ),
    ],
)
async def test_reservation_is_refused_in_words(
    site: Site, fields: Mapping[str, str], status: int, words: str
) -> None:
    assert await site.form("/reserve", **fields) == (status, words)


async def test_operation_takes_back_offers_that_help_and_conflicts_beyond(site: Site) -> None:
    site.leader.allocator.allocate_once()
    [offered] = [event for event in site.events() if event["type"] == "OFFERS"]
    target = {"agent_id": {"value": site.agent.id}}

    status, words = await site.call("RESERVE_RESOURCES", **target, resources=[dynamic("cpus", 40)])
    assert status == 409
    assert words.endswith("does not contain cpus:40")
    assert site.events() == []  # no offer would have helped

    assert (await site.call("RESERVE_RESOURCES", **target, resources=[dynamic("cpus", 1)]))[
        0
    ] == 202
    [rescinded] = site.events()
    assert rescinded["rescind"]["offer_id"] == offered["offers"]["offers"][0]["id"]
    assert site.leader.cluster.offers == {}


async def test_volume_grows_and_shrinks(site: Site) -> None:
    target = {"agent_id": {"value": site.agent.id}}
    await site.call("RESERVE_RESOURCES", **target, resources=[dynamic("disk", 500)])
    await site.call("CREATE_VOLUMES", **target, volumes=[volume(100)])

    grown = await site.call(
        "GROW_VOLUME", **target, volume=volume(100), addition=dynamic("disk", 50)
    )
    shrunk = await site.call("SHRINK_VOLUME", **target, volume=volume(150), subtract={"value": 25})
    nowhere = await site.call("SHRINK_VOLUME", volume=volume(125), subtract={"value": 25})

    assert (grown[0], shrunk[0]) == (202, 202)
    [kept] = [amount for kind, amount in site.agent.total.items() if kind.volume == "v1"]
    assert kept == 125_000
    assert nowhere == (
        400,
        "Failed to validate master::Call: Expecting 'agent_id' to be present; only agent default"
        " resources are supported right now",
    )
    assert (await site.get("/metrics/snapshot"))["master/operations/grow_volume/pending"] == 1.0


async def test_framework_is_torn_down_by_form(site: Site) -> None:
    [framework] = site.leader.cluster.frameworks

    assert await site.form("/teardown", frameworkId="nosuch") == (
        400,
        "No framework found with specified ID",
    )
    assert await site.form("/teardown", frameworkId=framework) == (200, "")
    assert (await site.get("/frameworks"))["completed_frameworks"][0]["id"] == framework


async def test_weights_are_put_and_told(site: Site) -> None:
    site.leader.allocator.allocate_once()
    site.events()

    assert await site.ask("PUT", "/weights", b'[{"role":"*","weight":2.5}]') == (200, "")
    assert await site.get("/weights") == [{"weight": 2.5, "role": "*"}]
    assert [event["type"] for event in site.events()] == ["RESCIND"]
    status, words = await site.ask("PUT", "/weights", b'{"role":"*"}')
    assert status == 400
    assert words.endswith("Unexpected JSON type parsed")


async def test_quota_is_given_told_and_taken(site: Site) -> None:
    wanted = {"role": "eng", "guarantee": [scalar("cpus", 1)]}
    raw = json.dumps(wanted).encode()

    assert await site.ask("POST", "/quota", raw) == (200, "")
    assert (await site.get("/quota"))["infos"] == [wanted]
    assert await site.ask("DELETE", "/quota/eng") == (200, "")
    assert await site.ask("DELETE", "/master/quota/eng") == (
        400,
        "Failed to remove quota for path '/master/quota/eng': Role 'eng' has no quota set",
    )
    assert await site.ask("DELETE", "/quota") == (
        400,
        "Failed to parse remove quota request for path '/master/quota': expected 3 tokens, found"
        " 2 tokens",
    )
    assert await site.get("/quota") == {}


async def test_maintenance_shuts_the_agents_of_a_machine_down(site: Site) -> None:
    machine = {"hostname": "a1", "ip": "198.18.0.2"}
    plan = {
        "windows": [{"machine_ids": [machine], "unavailability": {"start": {"nanoseconds": 1}}}]
    }

    assert await site.ask("POST", "/maintenance/schedule", json.dumps(plan).encode()) == (200, "")
    assert await site.get("/maintenance/schedule") == plan
    assert await site.ask("POST", "/machine/down", json.dumps([machine]).encode()) == (200, "")
    assert await site.get("/maintenance/status") == {"down_machines": [machine]}
    assert (await site.get("/slaves"))["slaves"] == []
    assert await site.ask("POST", "/machine/up", json.dumps([machine]).encode()) == (200, "")
    assert await site.get("/maintenance/schedule") == {}


async def test_agent_is_drained_and_reactivated(site: Site) -> None:
    target = {"agent_id": {"value": site.agent.id}}

    assert await site.call("DEACTIVATE_AGENT", **target) == (200, "")
    assert (await site.get("/slaves"))["slaves"][0]["deactivated"] is True
    assert await site.call("REACTIVATE_AGENT", **target) == (200, "")
    assert await site.call("DRAIN_AGENT", **target, max_grace_period={"seconds": 5}) == (200, "")
    [slave] = (await site.get("/slaves"))["slaves"]
    assert slave["drain_info"]["config"] == {
        "max_grace_period": {"nanoseconds": 5_000_000_000},
        "mark_gone": False,
    }
    for kind, words in (
        ("DRAIN_AGENT", "Unknown agent"),
        ("DEACTIVATE_AGENT", "Unknown agent"),
        ("REACTIVATE_AGENT", "Agent is not deactivated"),
    ):
        assert await site.call(kind, agent_id={"value": "nosuch"}) == (400, words)


@pytest.mark.parametrize("path", ["/state", "/frameworks", "/state-summary", "/slaves", "/tasks"])
async def test_long_answers_are_whole(site: Site, path: str) -> None:
    site.fill(MANY)

    body = await site.get(f"{path}?limit={MANY}")

    if path in ("/state", "/frameworks"):
        names = [task["name"] for task in body["frameworks"][0]["tasks"]]
        assert names == [f"task-{number}" for number in range(MANY)]
    if path == "/state-summary":
        assert body["slaves"][0]["TASK_RUNNING"] == MANY
    if path == "/tasks":
        assert [task["id"] for task in body["tasks"][:2]] == [
            f"task-{MANY - 1}",
            f"task-{MANY - 2}",
        ]


async def test_long_answers_are_compressed_and_wrapped(site: Site) -> None:
    site.fill(MANY)
    url = f"{site.url}/state?jsonp=show"

    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url, headers={"Accept-Encoding": "gzip"}) as response,
    ):
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Content-Type"] == "text/javascript"
        text = gzip.decompress(await response.read()).decode()

    assert text.startswith('show({"version"')
    assert text.endswith("});")


@pytest.mark.parametrize(
    "kind", ["GET_STATE", "GET_TASKS", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS"]
)
async def test_protobuf_in_parts_says_what_json_says(site: Site, kind: str) -> None:
    site.fill(MANY)

    parsed = json.loads(encode(decode_protobuf(Response, await site.protobuf(kind))))
    _, text = await site.ask(
        "POST",
        "/api/v1",
        json.dumps({"type": kind}).encode(),
        **{"Content-Type": "application/json"},
    )

    assert parsed == json.loads(text, object_hook=without_empty)


def without_empty(value: Json) -> Json:
    """Drop empty lists, which JSON of long answers always shows."""
    return {key: item for key, item in value.items() if item != []}


async def test_stream_begins_with_the_state_in_either_form(site: Site) -> None:
    site.fill(3)
    for headers, parse in (
        ({}, json.loads),
        (PROTOBUF, lambda raw: json.loads(encode(decode_protobuf(Event, raw)))),
    ):
        async with site.session.post(
            f"{site.url}/api/v1",
            json={"type": "SUBSCRIBE"},
            headers=headers,
        ) as response:
            decoder = RecordDecoder()
            records: list[bytes] = []
            async for chunk in response.content.iter_any():
                records += decoder.feed(chunk)
                if len(records) > 1:
                    break
        first, second = (parse(record) for record in records[:2])
        assert first["type"] == "SUBSCRIBED"
        assert len(first["subscribed"]["get_state"]["get_tasks"]["tasks"]) == 3
        assert first["subscribed"]["heartbeat_interval_seconds"] == 15.0
        assert second == {"type": "HEARTBEAT"}


async def test_answer_is_of_one_moment_whatever_happens_while_it_is_written(site: Site) -> None:
    site.fill(MANY)
    tasks, slaves = site.leader.reads.tasks.read(), site.leader.reads.slaves.read()
    pieces = state_json(
        snapshot_of(site.leader.cluster),
        site.leader.info,
        tasks,
        slaves,
        start_time=1.0,
        elected_time=2.0,
        flags={},
    )
    written = [next(pieces)]

    [framework] = site.leader.cluster.frameworks.values()
    site.leader.frameworks.remove(framework, "test")
    written += pieces

    body = json.loads(b"".join(written))
    assert len(body["frameworks"][0]["tasks"]) == MANY
    assert body["frameworks"][0]["used_resources"]["cpus"] == MANY / 1000
    assert body["completed_frameworks"] == []


async def test_fragments_of_what_is_gone_are_forgotten(site: Site) -> None:
    site.fill(5)
    await site.get("/state")
    assert len(site.leader.reads.tasks) == 5

    [framework] = site.leader.cluster.frameworks.values()
    site.leader.cluster.complete_task(framework.tasks["task-0"])
    framework.completed.clear()
    await site.get("/state")

    assert len(site.leader.reads.tasks) == 4


async def test_log_is_listed_read_and_downloaded(site: Site) -> None:
    assert (await site.get("/files/debug")).keys() == {"/master/log"}
    assert await site.get("/files/read?path=/master/log") == {"data": "", "offset": 8}
    assert await site.get("/files/read?path=/master/log&offset=4&length=2") == {
        "data": "tw",
        "offset": 4,
    }
    assert await site.ask("GET", "/files/download?path=/master/log") == (200, "one\ntwo\n")
    status, text = await site.call("READ_FILE", path="/master/log", offset=0)
    assert status == 200
    assert json.loads(text)["read_file"] == {"size": 8, "data": "b25lCnR3bwo="}


async def test_what_is_below_a_page_is_that_page(site: Site) -> None:
    assert (await site.ask("GET", "/health/below"))[0] == 200
    assert (await site.get("/master/state/below")).keys() == (await site.get("/state")).keys()
    assert (await site.ask("GET", "/redirect/below"))[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/files/browse", 400, "Expecting 'path=value' in query.\n"),
        ("/files/browse?path=/nosuch", 404, ""),
        ("/files/read?path=/master/log/../../etc/passwd", 404, ""),
        ("/files/download?path=/nosuch", 404, "404 Not Found."),
        (
            "/files/read?path=/master/log&offset=a",
            400,
            "Failed to parse offset: Failed to convert 'a' to number.\n",
        ),
        ("/logging/toggle?level=1", 400, "Expecting 'duration=value' in query.\n"),
        ("/logging/toggle?level=x&duration=1secs", 400, "Failed to convert 'x' to number.\n"),
        ("/logging/toggle?level=-1&duration=1secs", 400, "Invalid level '-1'.\n"),
    ],
)
async def test_pages_refuse_in_words(site: Site, path: str, status: int, words: str) -> None:
    assert await site.ask("GET", path) == (status, words)


async def test_log_level_is_raised_for_a_while(site: Site) -> None:
    assert await site.ask("GET", "/logging/toggle") == (200, "0\n")
    assert (await site.ask("GET", "/logging/toggle?level=2&duration=10mins"))[0] == 200
    assert await site.ask("GET", "/logging/toggle") == (200, "2\n")
    duration = {"nanoseconds": 1}
    assert (await site.call("SET_LOGGING_LEVEL", level=0, duration=duration))[0] == 200
    assert await site.ask("GET", "/logging/toggle") == (200, "0\n")


async def test_registry_and_machine_are_told(site: Site) -> None:
    registry = await site.get("/registrar(1)/registry")
    stats = await site.get("/system/stats.json")

    assert registry["slaves"]["slaves"][0]["info"]["hostname"] == "a1"
    assert stats.keys() == {
        "avg_load_15min",
        "avg_load_1min",
        "avg_load_5min",
        "cpus_total",
        "mem_free_bytes",
        "mem_total_bytes",
    }
