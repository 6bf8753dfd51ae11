"""Several Marathons: one leads, the others pass on what they are asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import TestServer
from tests.unit.marathon.conftest import FakeMaster, Marathon, running_marathon
from yarl import URL

from phalanx.core.coordination import Coordination
from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.marathon.api.application import build_app
from phalanx.marathon.api.desk import Desk, Seat
from phalanx.marathon.app import Candidate, contend
from phalanx.marathon.config import LOADER, MarathonConfig


class Scripted:
    """An election that others win, before or after us; None stands for nobody."""

    def __init__(self, leaders: list[bytes | None], *, is_certain: bool = True) -> None:
        self._leaders = leaders
        self._is_certain = is_certain

    async def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        """Yield each leader in turn, ``b"me"`` being us, then wait."""
        for leader in self._leaders:
            yield me if leader == b"me" else leader
            await asyncio.sleep(0)
        await asyncio.Event().wait()

    def is_certain(self) -> bool:
        return self._is_certain


def candidate(leader: str) -> bytes:
    return msgspec.json.encode(Candidate("another-life", leader))


def settings(master: FakeMaster, work_dir: Path) -> MarathonConfig:
    return LOADER.load(["--master", str(master.address), "--work-dir", str(work_dir)], {})


def coordination(election: Scripted) -> Coordination:
    store = MemoryStore()
    return Coordination(election, store, lambda: store)


def seat_of(me: str) -> Seat:
    seat = Seat()
    seat.me = me
    return seat


@pytest.mark.parametrize("later", [None, candidate("m2:8080")], ids=["nobody", "another"])
async def test_whoever_loses_leadership_ends(
    master: FakeMaster, tmp_path: Path, later: bytes | None
) -> None:
    election = Scripted([b"me", later])

    with pytest.raises(ExceptionGroup) as caught:
        await contend(settings(master, tmp_path), coordination(election), seat_of("m1:8080"))

    assert caught.group_contains(UnavailableError, match="leadership is lost")


async def test_whoever_is_in_doubt_ends(master: FakeMaster, tmp_path: Path) -> None:
    election = Scripted([b"me"], is_certain=False)

    with pytest.raises(ExceptionGroup) as caught:
        await contend(settings(master, tmp_path), coordination(election), seat_of("m1:8080"))

    assert caught.group_contains(UnavailableError, match="in doubt")


class Watched(Seat):
    """A seat that remembers who sat there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []

    def fill(self, leader: str | None, desk: Desk | None = None) -> None:
        self.seen.append(leader)
        super().fill(leader, desk)


@pytest.mark.parametrize(
    ("payload", "leader"),
    [
        pytest.param(candidate("m2:8080"), "m2:8080", id="another"),
        pytest.param(candidate("m1:8080"), None, id="an-earlier-life-of-ours"),
        pytest.param(b"m2", None, id="garbage"),
        pytest.param(None, None, id="nobody"),
    ],
)
async def test_the_seat_shows_who_can_be_asked(
    master: FakeMaster, tmp_path: Path, payload: bytes | None, leader: str | None
) -> None:
    # Whoever leads after them ends it: by then the first was seen.
    election = Scripted([payload, b"me", candidate("m3:8080")])
    seat = Watched()
    seat.me = "m1:8080"

    with pytest.raises(ExceptionGroup):
        await contend(settings(master, tmp_path), coordination(election), seat)

    assert seat.seen[:2] == [leader, "m1:8080"]
    assert seat.leader == "m3:8080"


@asynccontextmanager
async def follower(leader: str | None, me: str = "m2:8080") -> AsyncIterator[str]:
    """Run the API of a Marathon that does not lead; yield its URL."""
    seat = seat_of(me)
    seat.fill(leader)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        server = TestServer(build_app(seat, session))
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()


@pytest.fixture
async def leading(master: FakeMaster, tmp_path: Path) -> AsyncIterator[Marathon]:
    async with running_marathon(master, tmp_path) as marathon:
        yield marathon


def host_of(url: str) -> str:
    return url.removeprefix("http://")


async def test_a_follower_answers_what_the_leader_answers(leading: Marathon) -> None:
    app = {"id": "/a/b", "cmd": "sleep 9", "instances": 0, "labels": {"k": "ü" * 5000}}
    gzip = {"Accept-Encoding": "gzip"}
    async with follower(host_of(leading.url)) as url, aiohttp.ClientSession() as session:
        created = await session.post(f"{url}/v2/apps", json=app)
        refused = await session.post(f"{url}/v2/apps", data=b"{")
        async with asyncio.timeout(60):  # until the app no longer tells of its deployment
            while await (await session.get(f"{leading.url}/v2/deployments")).json():  # noqa: ASYNC110 - a page, not an event
                await asyncio.sleep(0.01)
        direct = await session.get(f"{leading.url}/v2/apps//a/b?embed=app.counts", headers=gzip)
        passed = await session.get(f"{url}/v2/apps//a/b?embed=app.counts", headers=gzip)

        assert (created.status, refused.status) == (201, 400)
        assert created.headers["Location"] == "/a/b"
        assert (await refused.json())["message"] == "Invalid JSON"
        assert await passed.json() == await direct.json()
        assert (await passed.json())["app"]["labels"] == {"k": "ü" * 5000}
        assert passed.headers["X-Marathon-Leader"] == leading.url


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "/v2/apps", {"id": "/new", "cmd": "x", "instances": 0}, 201),
        ("PUT", "/v2/apps//b", {"cmd": "x", "instances": 0}, 201),
        ("PATCH", "/v2/apps/none", {"cmd": "x"}, 404),
        ("PUT", "/v2/groups", {"id": "/g"}, 200),
        ("HEAD", "/v2/pods", None, 200),
        ("OPTIONS", "/v2/apps", None, 200),
        ("DELETE", "/v2/apps/none", None, 404),
        ("DELETE", "/v2/queue/none/delay", None, 404),
        ("GET", "/v2/nothing%2Fat%20all", None, 404),
        ("POST", "/v2/info", {}, 405),
        ("POST", "/v2/apps", {"id": "/new", "cmd": "x", "cpus": -1}, 422),
    ],
)
async def test_every_verb_and_every_error_is_passed_on(
    leading: Marathon, method: str, path: str, body: object, expected: int
) -> None:
    async with follower(host_of(leading.url)) as url, aiohttp.ClientSession() as session:
        passed = await session.request(method, URL(url + path, encoded=True), json=body)

        assert passed.status == expected
        assert passed.headers["X-Marathon-Leader"] == leading.url
        if expected >= 400:
            assert "message" in await passed.json()


async def test_nobody_gets_compressed_what_he_did_not_ask_for(leading: Marathon) -> None:
    async with follower(host_of(leading.url)) as url, aiohttp.ClientSession() as session:
        passed = await session.get(f"{url}/v2/info", skip_auto_headers=["Accept-Encoding"])

        assert "Content-Encoding" not in passed.headers


async def test_a_leader_that_ends_in_the_middle_of_its_answer_is_named() -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
        writer.close()

    server = await asyncio.start_server(half, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, follower(f"127.0.0.1:{port}") as url, aiohttp.ClientSession() as session:
        answer = await session.get(f"{url}/v2/apps")

        assert answer.status == 502
        assert "does not answer" in (await answer.json())["message"]


async def test_ping_and_metrics_are_the_followers_own() -> None:
    async with follower("127.0.0.1:1") as url, aiohttp.ClientSession() as session:
        ping = await session.get(f"{url}/ping")
        metrics = await session.get(f"{url}/metrics")

        assert await ping.text() == "pong"
        assert metrics.status == 200
        assert "gauges" in await metrics.json()


async def test_an_event_stream_is_sent_to_the_leader() -> None:
    accept = {"Accept": "text/event-stream"}
    async with follower("m1:8080") as url, aiohttp.ClientSession() as session:
        answer = await session.get(
            f"{url}/v2/events?event_type=x", headers=accept, allow_redirects=False
        )

        assert answer.status == 302
        assert answer.headers["Location"] == "http://m1:8080/v2/events?event_type=x"


async def test_a_request_that_comes_back_to_us_is_refused() -> None:
    async with follower("m1:8080", me="m2:8080") as url, aiohttp.ClientSession() as session:
        answer = await session.get(f"{url}/v2/apps", headers={"X-Marathon-Via": "m3:1, m2:8080"})

        assert answer.status == 502
        assert (await answer.json())["message"] == "Detected proxying loop."


async def test_a_leader_that_is_gone_is_named() -> None:
    async with follower("127.0.0.1:1") as url, aiohttp.ClientSession() as session:
        answer = await session.get(f"{url}/v2/apps")

        assert answer.status == 502
        assert "127.0.0.1:1 does not answer" in (await answer.json())["message"]


async def test_without_a_leader_a_request_waits_for_one(leading: Marathon) -> None:
    seat = seat_of("m2:8080")
    async with aiohttp.ClientSession(auto_decompress=False) as asking:
        server = TestServer(build_app(seat, asking))
        await server.start_server()
        async with aiohttp.ClientSession() as session:
            waiting = asyncio.create_task(session.get(server.make_url("/v2/leader")))
            await session.get(server.make_url("/ping"))  # so the other is being answered too
            assert not waiting.done()
            seat.fill(host_of(leading.url))
            answer = await waiting
            assert answer.status == 200
            seat.fill(None)
            unanswered = await session.get(server.make_url("/v2/leader"))
        await server.close()

    assert unanswered.status == 502
    assert (await unanswered.json())["message"] == "Could not determine the current leader"


async def test_a_leader_in_doubt_answers_nothing_by_itself(leading: Marathon) -> None:
    assert (await leading.ask("GET", "/v2/leader"))[0] == 200

    leading.seat.is_certain = lambda: False

    status, said = await leading.ask("GET", "/v2/leader")
    assert (status, said["message"]) == (502, "Could not determine the current leader")
