"""What operators ask of a master over HTTP: pages, calls, both wire forms; who sends to whom."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import msgspec
import pytest
from tests.unit.master.http_lab import DEADLINE, Client, FakeAgent, FakeFramework, Master
from yarl import URL

from phalanx.core.store.memory import MemoryStore
from phalanx.master.identity import master_info
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.master import Call as OperatorCall
from phalanx.mesos.v1.master import Event as OperatorEvent
from phalanx.mesos.v1.master import Response
from phalanx.mesos.v1.media import Media, decode_as
from phalanx.mesos.v1.mesos import Address, FrameworkInfo, MasterInfo
from phalanx.mesos.v1.protobuf import decode_protobuf, encode_protobuf
from phalanx.mesos.v1.scheduler import Call as SchedulerCall
from phalanx.mesos.v1.scheduler import Decline, Event, Subscribe

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
