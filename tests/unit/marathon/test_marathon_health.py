"""Health checks: how results fold, and probes of a real server."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.model.check import HealthCheck, HealthProtocol
from phalanx.marathon.model.instance import Condition, Instance, Launched
from phalanx.marathon.probe.client import Prober
from phalanx.marathon.probe.rounds import where
from phalanx.marathon.schedule.health import Health, Probe, Step, after_probe, is_healthy

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

SELF_SIGNED = Path(__file__).parents[1] / "self_signed.pem"  # certificate and key
GOOD, BAD = Probe(None), Probe("status 500")
CHECK = HealthCheck(grace_period_seconds=10, max_consecutive_failures=2)


def fold(probes: list[tuple[float, Probe]], check: HealthCheck = CHECK) -> tuple[Health, Step]:
    """Return health and step after *probes*, each at its time; the task runs since 0."""
    health, step = None, Step.NONE
    for now, probe in probes:
        health, step = after_probe(check, health, probe, running_since=0.0, now=now)
    assert health is not None
    return health, step


@pytest.mark.parametrize(
    ("probes", "alive", "failures", "step"),
    [
        pytest.param([(1, GOOD)], True, 0, Step.NONE, id="passes"),
        pytest.param([(1, BAD), (2, BAD), (9, BAD)], False, 0, Step.NONE, id="grace-forgives"),
        pytest.param([(9, BAD), (10, BAD)], False, 1, Step.NONE, id="grace-ends"),
        pytest.param([(10, BAD), (11, BAD)], False, 2, Step.KILL, id="too-many"),
        pytest.param([(1, GOOD), (2, BAD)], False, 1, Step.NONE, id="grace-ends-with-success"),
        pytest.param([(1, GOOD), (2, BAD), (3, GOOD)], True, 0, Step.NONE, id="recovers"),
        pytest.param([(1, GOOD), (2, BAD), (3, BAD)], False, 2, Step.KILL, id="dies-in-grace"),
    ],
)
def test_probes_fold(
    probes: list[tuple[float, Probe]], alive: bool, failures: int, step: Step
) -> None:
    health, found = fold(probes)

    assert (health.alive, health.consecutive_failures, found) == (alive, failures, step)


def test_check_without_limit_never_kills() -> None:
    check = HealthCheck(grace_period_seconds=0, max_consecutive_failures=0)

    health, step = fold([(t, BAD) for t in range(1, 50)], check)

    assert health.consecutive_failures == 49
    assert step is Step.NONE


def test_times_of_first_and_last_results_are_kept() -> None:
    health, _ = fold([(1, GOOD), (2, GOOD), (3, BAD)])

    assert (health.first_success, health.last_success, health.last_failure) == (1, 2, 3)
    assert health.last_failure_cause == "status 500"


def launched_instance(**more: Any) -> Instance:
    """Return a running instance on agent a1."""
    launched = Launched(
        agent_id="a1",
        hostname="a1.example",
        agent_ip="198.18.0.9",
        ports=(31005,),
        host_ports=(31005,),
        staged_at=0,
        addresses=("9.0.1.2",),
    )
    fields: dict[str, Any] = {
        "id": "web.instance-1",
        "app_id": "/web",
        "version": "v1",
        "since": 0.0,
        "condition": Condition.RUNNING,
        "launched": launched,
    }
    return Instance(**{**fields, **more})


CONTAINER = {
    "networks": [{"mode": "container"}],
    "container": {"portMappings": [{"containerPort": 80}, {"containerPort": 81}]},
}


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        pytest.param(CONTAINER, ("9.0.1.2", 80), id="container"),
        pytest.param({}, ("198.18.0.9", 31005), id="host"),
        pytest.param(
            {
                "networks": [{"mode": "container/bridge"}],
                "container": {"portMappings": [{"containerPort": 80}]},
            },
            ("198.18.0.9", 31005),
            id="bridge",
        ),
    ],
)
def test_check_goes_where_the_task_listens(
    definition: dict[str, Any], expected: tuple[str, int]
) -> None:
    raw = {"id": "/web", "cmd": "x", "healthChecks": [{}], **definition}
    app = parse_app(raw, default_network="dcos")

    assert where(app, app.health_checks[0], launched_instance()) == expected


def test_instance_is_healthy_when_every_check_passed() -> None:
    app = parse_app({"id": "/web", "cmd": "x", "healthChecks": [{}, {"protocol": "TCP"}]})
    running = launched_instance()
    good = Health(alive=True)

    assert is_healthy(app, running, {0: good, 1: good})
    assert not is_healthy(app, running, {0: good})
    assert not is_healthy(app, running, {0: good, 1: Health(alive=False)})
    assert not is_healthy(app, launched_instance(doomed=True), {0: good, 1: good})
    assert not is_healthy(app, launched_instance(condition=Condition.STAGING), {0: good, 1: good})


async def serve_status(statuses: list[int], tls: ssl.SSLContext | None = None) -> TestServer:
    """Start a server that answers with the first status of the list, which may change."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=statuses[0])

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    server = TestServer(app, scheme="http" if tls is None else "https")
    await server.start_server(ssl=tls)
    return server


@pytest.mark.parametrize(
    ("status", "failure"),
    [(200, None), (302, None), (399, None), (404, "status 404"), (500, "status 500")],
)
async def test_http_probe_judges_by_status(status: int, failure: str | None) -> None:
    server = await serve_status([status])
    async with aiohttp.ClientSession() as session:
        check = HealthCheck(path="/health", timeout_seconds=5)
        probe = await Prober(session).probe(check, "127.0.0.1", server.port or 0)
    await server.close()

    assert (probe.failure is None) == (failure is None)
    assert (probe.failure or "").startswith(failure or "")


async def test_https_probe_takes_a_certificate_of_nobody_for_another_host() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(SELF_SIGNED)
    server = await serve_status([200], tls)
    check = HealthCheck(protocol=HealthProtocol.HTTPS, path="/", timeout_seconds=5)
    async with aiohttp.ClientSession() as session:
        probe = await Prober(session).probe(check, "127.0.0.1", server.port or 0)
    await server.close()

    assert probe.failure is None


async def test_tcp_probe_connects_and_refused_port_fails() -> None:
    server = await serve_status([200])
    check = HealthCheck(protocol=HealthProtocol.TCP, timeout_seconds=5)
    async with aiohttp.ClientSession() as session:
        prober = Prober(session)
        open_port = await prober.probe(check, "127.0.0.1", server.port or 0)
        await server.close()
        closed = await prober.probe(check, "127.0.0.1", server.port or 0)
        refused = await prober.probe(HealthCheck(), "127.0.0.1", server.port or 0)

    assert open_port.failure is None
    assert closed.failure is not None
    assert refused.failure is not None


async def test_silent_server_times_out() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session:
        probe = await Prober(session).probe(HealthCheck(timeout_seconds=0.05), "127.0.0.1", port)
    await gone.wait()
    server.close()
    await server.wait_closed()

    assert probe.failure == "no answer in 0.05 s"


async def test_sick_task_is_killed_and_replaced(marathon: Marathon, master: FakeMaster) -> None:
    statuses = [200]
    server = await serve_status(statuses)
    check = {
        "port": server.port,
        "path": "/",
        "intervalSeconds": 0.05,
        "gracePeriodSeconds": 0,
        "maxConsecutiveFailures": 2,
    }
    app = {"id": "/web", "cmd": "x", "healthChecks": [check]}
    await marathon.ask("POST", "/v2/apps", app)
    await master.next("REVIVE")
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING", address="127.0.0.1")
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    _, healthy = await marathon.ask("GET", "/v2/apps/web")

    statuses[0] = 500
    kill = (await master.next("KILL")).kill
    await master.update(task, "TASK_KILLED")
    await master.next("REVIVE", seen=1)
    _, answer = await marathon.ask("GET", "/v2/apps/web")
    await server.close()

    assert healthy["app"]["tasksHealthy"] == 1
    assert kill is not None
    assert kill.task_id == task.task_id
    assert "health check failed" in answer["app"]["lastTaskFailure"]["message"]
    assert answer["app"]["tasksRunning"] == 0
