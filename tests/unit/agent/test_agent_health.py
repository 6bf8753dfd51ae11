"""Checks: pure tables of what is probed and judged, and probes of real servers on loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from phalanx.agent.health.outcome import (
    Asked,
    CommandProbe,
    HttpProbe,
    Outcome,
    TcpProbe,
    asked_by_check,
    asked_by_health,
    check_status,
    kind_of,
    trouble,
)
from phalanx.agent.health.probe import probe, status_of
from phalanx.agent.health.verdict import Health, Verdict, judge
from phalanx.agent.health.watch import Word, watch_check, watch_health, watch_task
from phalanx.core.error import ContainerError, InvalidError
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import (
    AgentID,
    CheckHttp,
    CheckInfo,
    CheckInfoCommand,
    CheckInfoHttp,
    CheckInfoTcp,
    CheckTcp,
    CommandInfo,
    HealthCheck,
    HealthCheckType,
    TaskID,
    TaskInfo,
    TaskState,
    TaskStatus,
)

SELF_SIGNED = Path(__file__).parents[1] / "self_signed.pem"  # certificate and key
CHECK = HealthCheck(consecutive_failures=3, grace_period_seconds=10.0)
COMMAND = CommandInfo(value="true")

QUIET = Verdict()
TELL = Verdict(tell=True)
KILL = Verdict(tell=True, kill=True)


@dataclass
class Here:
    """A target in the test's own network, whose commands end as they are told to."""

    codes: list[int]
    network: Path | None = None

    async def execute(self, command: CommandInfo, *, timeout_seconds: float | None) -> int:
        """Return the next code; with none left take for ever."""
        if not self.codes:
            await asyncio.Event().wait()
        return self.codes.pop(0)


@asynccontextmanager
async def answering(
    *pages: bytes, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[int, list[str]]]:
    """Serve raw *pages* in turn, one for each connection; yield the port and what was asked."""
    left, asked = list(pages), list[str]()
    serving = set[asyncio.Task[None] | None]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        asked.append((await reader.readline()).decode().strip())
        while (await reader.readline()).strip():
            continue
        writer.write(left.pop(0))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(task for task in serving if task is not None))


@pytest.mark.parametrize(
    ("probes", "verdicts"),
    [
        pytest.param([(1, True), (2, True)], [TELL, QUIET], id="healthy-is-told-once"),
        pytest.param([(1, False), (9, False)], [QUIET, QUIET], id="grace-forgives"),
        pytest.param([(1, True), (2, False)], [TELL, TELL], id="grace-ends-with-first-health"),
        pytest.param(
            [(11, False), (12, False), (13, False)], [TELL, TELL, KILL], id="failures-add-up"
        ),
        pytest.param(
            [(11, False), (12, False), (13, True), (14, False), (15, False)],
            [TELL, TELL, TELL, TELL, TELL],
            id="health-clears-the-count",
        ),
        pytest.param(
            [(9, False), (11, False), (12, False), (13, False)],
            [QUIET, TELL, TELL, KILL],
            id="forgiven-failures-do-not-count",
        ),
    ],
)
def test_verdicts_follow_probes(probes: list[tuple[float, bool]], verdicts: list[Verdict]) -> None:
    health = Health()
    found = []
    for age, passed in probes:
        health, verdict = judge(CHECK, health, passed=passed, age_seconds=age)
        found.append(verdict)

    assert found == verdicts


def test_zero_failures_allowed_kills_at_the_first() -> None:
    check = HealthCheck(consecutive_failures=0, grace_period_seconds=0.0)

    _, verdict = judge(check, Health(), passed=False, age_seconds=1.0)

    assert verdict == KILL


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        (HealthCheck(type=HealthCheckType.TCP), HealthCheckType.TCP),
        (HealthCheck(http=CheckHttp(port=80)), HealthCheckType.HTTP),
        (HealthCheck(tcp=CheckTcp(port=80)), HealthCheckType.TCP),
        (HealthCheck(command=COMMAND), HealthCheckType.COMMAND),
        (HealthCheck(), HealthCheckType.UNKNOWN),
        (CheckInfo(http=CheckInfoHttp(port=80)), HealthCheckType.HTTP),
        (CheckInfo(type="TCP"), HealthCheckType.TCP),
    ],
)
def test_a_check_without_type_is_what_it_has(
    check: HealthCheck | CheckInfo, kind: HealthCheckType
) -> None:
    assert kind_of(check) == kind


@pytest.mark.parametrize(
    ("check", "asked"),
    [
        pytest.param(HealthCheck(command=COMMAND), CommandProbe(COMMAND), id="command"),
        pytest.param(
            HealthCheck(http=CheckHttp(port=80, path="ready", scheme="HTTPS")),
            HttpProbe("127.0.0.1", 80, "/ready", "https"),
            id="http",
        ),
        pytest.param(
            HealthCheck(http=CheckHttp(port=80, protocol="IPv6")), HttpProbe("::1", 80), id="http6"
        ),
        pytest.param(
            HealthCheck(tcp=CheckTcp(port=7, protocol="IPv6")), TcpProbe("::1", 7), id="tcp6"
        ),
    ],
)
def test_a_health_check_says_what_is_probed(check: HealthCheck, asked: Asked) -> None:
    assert asked_by_health(check) == asked


def test_a_check_says_what_is_probed() -> None:
    assert asked_by_check(CheckInfo(http=CheckInfoHttp(port=8, path="/x"))) == HttpProbe(
        "127.0.0.1", 8, "/x"
    )
    assert asked_by_check(CheckInfo(tcp=CheckInfoTcp(port=8))) == TcpProbe("127.0.0.1", 8)
    assert asked_by_check(CheckInfo(command=CheckInfoCommand(command=COMMAND))) == CommandProbe(
        COMMAND
    )


def test_a_check_whose_words_are_missing_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"health_check\.http: is missing"):
        asked_by_health(HealthCheck(type=HealthCheckType.HTTP))
    with pytest.raises(InvalidError, match=r"check\.tcp: is missing"):
        asked_by_check(CheckInfo(type="TCP"))


@pytest.mark.parametrize(
    ("asked", "found", "words"),
    [
        (CommandProbe(COMMAND), 0, ""),
        (CommandProbe(COMMAND), 3, "command exited with status 3"),
        (HttpProbe("h", 80), 200, ""),
        (HttpProbe("h", 80), 399, ""),
        (HttpProbe("h", 80), 404, "status 404"),
        (TcpProbe("h", 80), True, ""),
        (TcpProbe("h", 80), False, "could not connect"),
        (TcpProbe("h", 80), None, "no answer"),
    ],
)
def test_trouble_is_what_is_wrong(asked: Asked, found: int | bool | None, words: str) -> None:
    assert trouble(asked, Outcome(found)) == words


@pytest.mark.parametrize(
    ("check", "outcome", "form"),
    [
        (
            CheckInfo(type="COMMAND"),
            Outcome(7),
            {"type": "COMMAND", "command": {"exit_code": 7}},
        ),
        (CheckInfo(type="HTTP"), Outcome(404), {"type": "HTTP", "http": {"status_code": 404}}),
        (CheckInfo(type="TCP"), Outcome(False), {"type": "TCP", "tcp": {"succeeded": False}}),
        (CheckInfo(type="TCP"), None, {"type": "TCP", "tcp": {}}),
        (CheckInfo(type="HTTP"), Outcome(None, "late"), {"type": "HTTP", "http": {}}),
    ],
)
def test_a_check_status_is_empty_without_a_result(
    check: CheckInfo, outcome: Outcome | None, form: object
) -> None:
    assert to_json(check_status(check, outcome)) == form


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"HTTP/1.1 200 OK\r\n", 200), (b"HTTP/1.0 404\r\n", 404)],
)
def test_a_status_line_is_read(line: bytes, status: int) -> None:
    assert status_of(line) == status


@pytest.mark.parametrize(
    "line", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n", b"HTTP/1.1\r\n"]
)
def test_another_protocol_is_not_health(line: bytes) -> None:
    with pytest.raises(ContainerError, match="not an HTTP answer"):
        status_of(line)


async def test_redirects_are_followed_to_the_last_status() -> None:
    pages = (
        b"HTTP/1.1 302 Found\r\nLocation: /next?a=1\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nX: y\r\nlocation: other\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\n\r\n",
    )
    async with answering(*pages) as (port, asked):
        outcome = await probe(Here([]), HttpProbe("127.0.0.1", port), timeout_seconds=30.0)

    assert outcome == Outcome(503)
    assert asked == ["GET / HTTP/1.1", "GET /next?a=1 HTTP/1.1", "GET /other HTTP/1.1"]


async def test_redirects_without_end_are_trouble() -> None:
    page = b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"
    async with answering(*[page] * 60) as (port, _):
        outcome = await probe(Here([]), HttpProbe("127.0.0.1", port), timeout_seconds=30.0)

    assert outcome == Outcome(None, "more than 50 redirects")


async def test_ipv6_is_probed_on_its_own_loopback() -> None:
    async with answering(b"HTTP/1.1 204 No\r\n\r\n", b"", host="::1") as (port, _):
        assert await probe(Here([]), HttpProbe("::1", port), timeout_seconds=30.0) == Outcome(204)
        assert await probe(Here([]), TcpProbe("::1", port), timeout_seconds=30.0) == Outcome(True)
        refused = await probe(Here([]), TcpProbe("127.0.0.1", port), timeout_seconds=30.0)
        assert refused.found is False


async def test_a_certificate_of_nobody_for_another_host_is_taken() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(SELF_SIGNED)
    async with answering(b"HTTP/1.1 204 No\r\n\r\n", tls=tls) as (port, _):
        asked = HttpProbe("127.0.0.1", port, "/", "https")
        assert await probe(Here([]), asked, timeout_seconds=5.0) == Outcome(204)


async def test_a_command_that_takes_too_long_finds_nothing() -> None:
    outcome = await probe(Here([]), CommandProbe(COMMAND), timeout_seconds=0.05)

    assert outcome == Outcome(None, "timed out after 0.05 s")


async def test_watching_health_tells_and_stops_at_the_kill() -> None:
    results = ["", "down", "gone", "timed out"]
    told: list[Word] = []

    async def look() -> str:
        return results.pop(0)

    async def tell(word: Word) -> None:
        told.append(word)

    check = HealthCheck(delay_seconds=0.0, interval_seconds=0.0, grace_period_seconds=0.0)
    async with asyncio.timeout(30.0):
        await watch_health(check, Health(), probe=look, tell=tell, age_seconds=lambda: 1.0)

    assert [(word.healthy, word.kill, word.message) for word in told] == [
        (True, False, None),
        (False, False, "Health check failed: down"),
        (False, False, "Health check failed: gone"),
        (False, True, "Health check failed 3 times in a row: timed out"),
    ]


async def test_watching_a_check_tells_changes_only() -> None:
    results = [Outcome(0), Outcome(0), Outcome(2), Outcome(None, "late"), Outcome(None), Outcome(2)]
    told: list[object] = []

    async def look() -> Outcome:
        return results.pop(0)

    async def tell(word: Word) -> None:
        told.append(to_json(word.check_status) if word.check_status else None)
        if not results:
            raise ContainerError("enough")

    check = CheckInfo(
        command=CheckInfoCommand(command=COMMAND), delay_seconds=0.0, interval_seconds=0.0
    )
    with pytest.raises(ContainerError, match="enough"):
        async with asyncio.timeout(30.0):
            await watch_check(
                check, check_status(check), look=look, tell=tell, age_seconds=lambda: 1.0
            )

    assert told == [
        {"type": "COMMAND", "command": {"exit_code": 0}},
        {"type": "COMMAND", "command": {"exit_code": 2}},
        {"type": "COMMAND", "command": {}},
        {"type": "COMMAND", "command": {"exit_code": 2}},
    ]


async def test_a_task_recovered_unhealthy_has_no_grace_left() -> None:
    told: list[Word] = []

    async def tell(word: Word) -> None:
        told.append(word)

    task = TaskInfo(
        name="t",
        task_id=TaskID(value="t"),
        agent_id=AgentID(value="a"),
        health_check=HealthCheck(
            command=COMMAND, delay_seconds=0.0, interval_seconds=0.0, consecutive_failures=2
        ),
    )
    last = TaskStatus(
        task_id=task.task_id, state=TaskState.TASK_RUNNING, healthy=True, timestamp=1.0
    )
    async with asyncio.timeout(30.0):
        await watch_task(task, Here([1, 1]), last=last, tell=tell, age_seconds=lambda: 1.0)

    assert [word.kill for word in told] == [False, True]


async def test_a_task_without_checks_is_not_watched() -> None:
    async def tell(word: Word) -> None:
        raise AssertionError(word)

    task = TaskInfo(name="t", task_id=TaskID(value="t"), agent_id=AgentID(value="a"))
    await watch_task(task, Here([]), last=None, tell=tell, age_seconds=lambda: 0.0)
