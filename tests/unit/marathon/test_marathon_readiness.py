"""Readiness checks, roles and GPUs: what a deployment waits for, and what an offer must be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.unit.marathon.conftest import make_offer

from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import Event, Offers

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import FakeMaster, Marathon

CHECK = {
    "portName": "http",
    "path": "/ready",
    "intervalSeconds": 0.02,
    "timeoutSeconds": 0.01,
    "preserveLastResponse": True,
}
APP: dict[str, Any] = {
    "id": "/web",
    "cmd": "serve",
    "cpus": 0.1,
    "mem": 32,
    "portDefinitions": [{"name": "http", "port": 0}],
    "readinessChecks": [{**CHECK, "timeoutSeconds": 5, "intervalSeconds": 6}],
}


async def serve_ready(statuses: list[int]) -> TestServer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=statuses[0], text="warming up")

    app = web.Application()
    app.add_routes([web.get("/ready", answer)])
    server = TestServer(app)
    await server.start_server()
    return server


async def test_deployment_waits_until_its_task_is_ready(
    marathon: Marathon, master: FakeMaster
) -> None:
    statuses = [503]
    server = await serve_ready(statuses)
    quick = {**APP["readinessChecks"][0], "intervalSeconds": 0.05, "timeoutSeconds": 0.04}
    await marathon.ask("POST", "/v2/apps", {**APP, "readinessChecks": [quick]})
    await master.next("REVIVE")
    await master.offer("a1", ports=f"{server.port}-{server.port}")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING")

    def has_results(answer: Any) -> bool:
        return bool(answer[0]["currentActions"][0]["readinessCheckResults"])

    [deployment] = await marathon.until("/v2/deployments", has_results)
    [result] = deployment["currentActions"][0]["readinessCheckResults"]
    statuses[0] = 200
    await marathon.until("/v2/deployments", lambda answer: answer == [])
    await server.close()

    assert (result["ready"], result["taskId"]) == (False, task.task_id.value)
    assert result["lastResponse"]["status"] in (503, 504)


async def test_upgrade_keeps_the_old_task_until_the_new_one_is_ready(
    marathon: Marathon, master: FakeMaster
) -> None:
    statuses = [200]
    server = await serve_ready(statuses)
    quick = {**APP["readinessChecks"][0], "intervalSeconds": 0.05, "timeoutSeconds": 0.04}
    await marathon.ask("POST", "/v2/apps", {**APP, "readinessChecks": [quick]})
    await master.next("REVIVE")
    await master.offer("a1", ports=f"{server.port}-{server.port}")
    [old] = await master.tasks(1)
    await master.update(old, "TASK_RUNNING")
    await marathon.until("/v2/deployments", lambda answer: answer == [])

    statuses[0] = 503
    await marathon.ask("POST", "/v2/apps/web/restart")
    await master.next("REVIVE", seen=1)
    await master.offer("a1", ports=f"{server.port}-{server.port}")
    new = (await master.tasks(2))[1]
    await master.update(new, "TASK_RUNNING")
    await marathon.until(
        "/v2/deployments",
        lambda answer: len(answer[0]["currentActions"][0]["readinessCheckResults"]) == 2,
    )
    killed_early = master.of("KILL")
    statuses[0] = 200
    kill = (await master.next("KILL")).kill
    await server.close()

    assert killed_early == []
    assert kill is not None
    assert kill.task_id == old.task_id


async def test_app_of_a_role_takes_offers_of_that_role_only(
    marathon: Marathon, master: FakeMaster
) -> None:
    app = {"id": "/prod/web", "cmd": "x", "role": "prod", "cpus": 1, "portDefinitions": []}
    await marathon.ask("POST", "/v2/apps", app)
    update = (await master.next("UPDATE_FRAMEWORK")).update_framework
    revive = (await master.next("REVIVE")).revive
    await master.offer("a1", cpus=4)
    await master.next("DECLINE")
    _, queue = await marathon.ask("GET", "/v2/queue")
    plain = make_offer("a1", cpus=0.5, role="prod")
    own = mesos.Resource(
        name="cpus",
        type=mesos.ValueType.SCALAR,
        scalar=mesos.Scalar(value=0.75),
        role="prod",
        allocation_info=mesos.AllocationInfo(role="prod"),
    )
    mixed = mesos.Offer(
        id=plain.id,
        framework_id=plain.framework_id,
        agent_id=plain.agent_id,
        hostname=plain.hostname,
        resources=(*plain.resources, own),
        allocation_info=plain.allocation_info,
    )
    await master.send(Event(type="OFFERS", offers=Offers(offers=(mixed,))))
    [task] = await master.tasks(1)
    cpus = {r.role: r.scalar.value for r in task.resources if r.name == "cpus" and r.scalar}
    await master.update(task, "TASK_RUNNING")
    answer = await marathon.until("/v2/tasks", lambda answer: answer["tasks"])

    assert update is not None
    assert revive is not None
    assert "prod" in update.framework_info.roles
    assert revive.roles == ("prod",)
    summary = queue["queue"][0]["processedOffersSummary"]["rejectSummaryLastOffers"]
    assert summary[0] == {"reason": "UnfulfilledRole", "declined": 1, "processed": 1}
    assert cpus == {"prod": 0.75, "*": 0.25}
    assert answer["tasks"][0]["role"] == "prod"


async def test_gpus_are_for_who_asks_for_them(marathon: Marathon, master: FakeMaster) -> None:
    offer = make_offer("a1")
    gpus = mesos.Resource(
        name="gpus",
        type=mesos.ValueType.SCALAR,
        scalar=mesos.Scalar(value=2),
        role="*",
        allocation_info=mesos.AllocationInfo(role="*"),
    )
    rich = mesos.Offer(
        id=offer.id,
        framework_id=offer.framework_id,
        agent_id=offer.agent_id,
        hostname=offer.hostname,
        resources=(*offer.resources, gpus),
        allocation_info=offer.allocation_info,
    )
    await marathon.ask("POST", "/v2/apps", {"id": "/plain", "cmd": "x", "cpus": 0.1})
    await marathon.ask("POST", "/v2/apps", {"id": "/gpu", "cmd": "x", "cpus": 0.1, "gpus": 1})
    await marathon.until("/v2/queue", lambda answer: len(answer["queue"]) == 2)
    await master.send(Event(type="OFFERS", offers=Offers(offers=(rich,))))
    [task] = await master.tasks(1)
    _, queue = await marathon.ask("GET", "/v2/queue")

    assert task.task_id.value.startswith("gpu.")
    assert [r.scalar.value for r in task.resources if r.name == "gpus" and r.scalar] == [1.0]
    [waiting] = queue["queue"]
    last = waiting["processedOffersSummary"]["rejectSummaryLastOffers"][-1]
    assert (last["reason"], last["declined"]) == ("DeclinedScarceResources", 1)


async def test_an_app_that_fits_nowhere_holds_up_no_other(
    marathon: Marathon, master: FakeMaster
) -> None:
    await marathon.ask(
        "POST", "/v2/apps", {"id": "/big", "cmd": "x", "cpus": 99, "instances": 3000}
    )
    await marathon.ask("POST", "/v2/apps", {"id": "/small", "cmd": "x", "cpus": 0.1})
    await marathon.until("/v2/queue", lambda answer: len(answer["queue"]) == 2)
    await master.offer("a1")

    [task] = await master.tasks(1)
    _, queue = await marathon.ask("GET", "/v2/queue")

    assert task.task_id.value.startswith("small.")
    [waiting] = queue["queue"]
    reasons = waiting["processedOffersSummary"]["rejectSummaryLaunchAttempt"]
    assert [r["reason"] for r in reasons if r["declined"]] == ["InsufficientCpus"]
