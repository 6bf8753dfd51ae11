"""judge is pure: sequences of probes and what is told after each."""

import asyncio

import pytest

from phalanx.agent.health.probe import kind_of, status_of
from phalanx.agent.health.verdict import Health, Verdict, judge
from phalanx.agent.health.watch import watch_health
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import (
    CheckHttp,
    CheckTcp,
    CommandInfo,
    HealthCheck,
    HealthCheckType,
)

CHECK = HealthCheck(consecutive_failures=3, grace_period_seconds=10.0)

QUIET = Verdict()
TELL = Verdict(tell=True)
KILL = Verdict(tell=True, kill=True)


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
        (HealthCheck(command=CommandInfo(value="x")), HealthCheckType.COMMAND),
        (HealthCheck(), HealthCheckType.UNKNOWN),
    ],
)
def test_a_check_without_type_is_what_it_has(check: HealthCheck, kind: HealthCheckType) -> None:
    assert kind_of(check) == kind


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


async def test_watching_tells_and_stops_at_the_kill() -> None:
    results: list[Exception | None] = [
        None,
        ContainerError("down"),
        OSError("gone"),
        TimeoutError(),
    ]
    told: list[tuple[bool | None, bool, str]] = []

    async def probe() -> None:
        result = results.pop(0)
        if result is not None:
            raise result

    async def tell(health: Health, verdict: Verdict, words: str) -> None:
        told.append((health.healthy, verdict.kill, words))

    check = HealthCheck(
        delay_seconds=0.0, interval_seconds=0.0, timeout_seconds=5.0, grace_period_seconds=0.0
    )
    async with asyncio.timeout(5.0):
        await watch_health(check, Health(), probe=probe, tell=tell, age_seconds=lambda: 1.0)

    assert told == [
        (True, False, ""),
        (False, False, "down"),
        (False, False, "gone"),
        (False, True, "timed out after 5 s"),
    ]
