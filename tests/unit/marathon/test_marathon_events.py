"""Each kind of event of the reference's list (marathon §2.9), with its fields."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.marathon.engine.bus import MAX_BEHIND, MOST_BYTES, Bus, Reader
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import Event, FrameworkMessage, Update

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.marathon.conftest import FakeMaster, Marathon

WEB = {"id": "/web", "cmd": "x", "cpus": 1}
SECONDS = 30.0


@pytest.fixture
def reader(marathon: Marathon) -> Iterator[Reader]:
    """Yield a reader of all events."""
    with marathon.board.bus.reading() as found:
        yield found


async def told(reader: Reader, kind: str) -> dict[str, Any]:
    """Return the next event of one kind, without what all of them have."""
    async with asyncio.timeout(SECONDS):
        while True:
            before = reader.at
            events = await reader.next()
            assert events is not None
            for event in events:
                if event.kind == kind:
                    reader.at = before + events.index(event) + 1
                    assert str(event.fields["timestamp"]).endswith("Z")
                    assert event.fields["eventType"] == kind
                    common = ("eventType", "timestamp")
                    return {k: v for k, v in event.fields.items() if k not in common}


async def launched(marathon: Marathon, master: FakeMaster, **more: Any) -> mesos.TaskInfo:
    """Create the app and return its task, which runs."""
    await marathon.ask("POST", "/v2/apps", {**WEB, **more})
    await master.offer("h1")
    task = (await master.tasks(1))[-1]
    await master.update(task, "TASK_RUNNING")
    return task


async def test_a_refused_change_is_told(marathon: Marathon, reader: Reader) -> None:
    await marathon.ask("POST", "/v2/apps", {**WEB, "instances": 0})
    await marathon.ask("POST", "/v2/apps", WEB)

    event = await told(reader, "group_change_failed")

    assert (event["groupId"], "already exists" in event["reason"]) == ("/", True)
    assert set(event) == {"groupId", "version", "reason"}


async def test_a_change_is_told_from_its_request_to_its_end(
    marathon: Marathon, master: FakeMaster, reader: Reader
) -> None:
    await launched(marathon, master)

    posted = await told(reader, "api_post_event")
    changed = await told(reader, "group_change_success")
    began = await told(reader, "deployment_info")
    status = await told(reader, "status_update_event")
    instance = await told(reader, "instance_changed_event")
    stepped = await told(reader, "deployment_step_success")
    ended = await told(reader, "deployment_success")

    assert (posted["uri"], posted["appDefinition"]["id"]) == ("/v2/apps", "/web")
    assert set(changed) == {"groupId", "version"}
    assert set(began) == set(stepped) == {"plan", "currentStep"}
    assert set(began["plan"]) == {"id", "version", "original", "target", "steps"}
    assert began["currentStep"] == {"actions": [{"action": "StartApplication", "app": "/web"}]}
    assert set(status) == {
        *("slaveId", "taskId", "taskStatus", "message", "appId", "host", "ipAddresses"),
        *("ports", "version"),
    }
    assert (instance["condition"], instance["runSpecId"]) == ("Running", "/web")
    assert ended["id"] == began["plan"]["id"]


async def test_a_cancelled_deployment_fails_its_step(marathon: Marathon, reader: Reader) -> None:
    _, app = await marathon.ask("POST", "/v2/apps", WEB)
    [deployment] = app["deployments"]

    await marathon.ask("DELETE", f"/v2/deployments/{deployment['id']}?force=true")

    failed = await told(reader, "deployment_step_failure")
    ended = await told(reader, "deployment_failed")
    assert failed["plan"]["id"] == ended["id"] == deployment["id"]
    assert "cancelled" in ended["reason"]


async def test_a_forced_change_fails_the_step_before(marathon: Marathon, reader: Reader) -> None:
    _, app = await marathon.ask("POST", "/v2/apps", WEB)

    await marathon.ask("PUT", "/v2/apps/web?force=true", {"cmd": "y"})

    failed = await told(reader, "deployment_step_failure")
    assert failed["plan"]["id"] == app["deployments"][0]["id"]


@pytest.mark.parametrize(
    ("state", "condition"),
    [
        ("TASK_FAILED", "Failed"),
        ("TASK_LOST", "Gone"),
        ("TASK_GONE_BY_OPERATOR", "GoneByOperator"),
    ],
)
async def test_the_end_of_a_strangers_task_is_told(
    master: FakeMaster, reader: Reader, state: str, condition: str
) -> None:
    status = mesos.TaskStatus(
        task_id=mesos.TaskID(value="prod_web.instance-0._app.3"), state=mesos.TaskState(state)
    )
    await master.send(Event(type="UPDATE", update=Update(status=status)))

    assert await told(reader, "unknown_instance_terminated_event") == {
        "instanceId": "prod_web.instance-0",
        "runSpecId": "/prod/web",
        "condition": condition,
    }


async def test_a_message_of_an_executor_is_told(master: FakeMaster, reader: Reader) -> None:
    message = FrameworkMessage(
        agent_id=mesos.AgentID(value="a1"),
        executor_id=mesos.ExecutorID(value="e1"),
        data=b"hello \xff",
    )

    await master.send(Event(type="MESSAGE", message=message))

    assert await told(reader, "framework_message_event") == {
        "executorId": "e1", "slaveId": "a1", "message": "hello \ufffd",
    }  # fmt: skip


async def test_losing_and_finding_the_master_is_told(master: FakeMaster, reader: Reader) -> None:
    master.hang_up()

    lost = await told(reader, "scheduler_disconnected_event")
    found = await told(reader, "scheduler_reregistered_event")
    master.framework_id = "fw-0001"
    master.hang_up()
    anew = await told(reader, "scheduler_registered_event")

    assert lost == {}
    assert found["master"].endswith(str(master.address))
    assert anew["frameworkId"] == "fw-0001"


async def test_the_end_of_an_app_is_told(
    marathon: Marathon, master: FakeMaster, reader: Reader
) -> None:
    task = await launched(marathon, master)
    await marathon.ask("DELETE", "/v2/apps/web")
    await master.next("KILL")
    await master.update(task, "TASK_KILLED")

    assert await told(reader, "app_terminated_event") == {"appId": "/web"}


async def test_health_that_the_agent_tells_is_told(
    marathon: Marathon, master: FakeMaster, reader: Reader
) -> None:
    check = {"protocol": "MESOS_TCP"}
    task = await launched(marathon, master, healthChecks=[check])
    await master.update(task, "TASK_RUNNING", healthy=True)

    added = await told(reader, "add_health_check_event")
    changed = await told(reader, "health_status_changed_event")
    instance = await told(reader, "instance_health_changed_event")

    assert added["healthCheck"]["protocol"] == "MESOS_TCP"
    assert set(changed) == {"appId", "instanceId", "version", "alive"}
    assert (instance["runSpecId"], instance["healthy"]) == ("/web", True)


async def test_changes_of_pods_are_told(marathon: Marathon, reader: Reader) -> None:
    containers = [{"name": "c", "exec": {"command": {"shell": "x"}}}]
    pod = {"id": "/p", "containers": containers, "scaling": {"kind": "fixed", "instances": 0}}
    changed = {**pod, "labels": {"a": "b"}}
    assert (await marathon.ask("POST", "/v2/pods", pod))[0] == 201
    assert (await marathon.ask("PUT", "/v2/pods/p?force=true", changed))[0] == 200
    assert (await marathon.ask("DELETE", "/v2/pods/p?force=true"))[0] == 202

    for kind in ("created", "updated", "deleted"):
        assert set(await told(reader, f"pod_{kind}_event")) == {"clientIp", "uri"}


@pytest.mark.parametrize("kind", ["scheduler_reregistered_event", "scheduler_disconnected_event"])
async def test_what_old_clients_refuse_is_sent_only_when_asked_for(
    marathon: Marathon, kind: str
) -> None:
    accept = {"Accept": "text/event-stream"}
    asked = await marathon.request("GET", f"/v2/events?event_type={kind}", headers=accept)
    unasked = await marathon.request("GET", "/v2/events", headers=accept)
    assert await unasked.content.readline() == b"event: event_stream_attached\r\n"

    marathon.board.bus.publish(kind)
    marathon.board.bus.publish("subscribe_event")

    assert await asked.content.readline() == f"event: {kind}\r\n".encode()
    rest = await unasked.content.readuntil(b"event: subscribe_event")
    assert kind.encode() not in rest
    asked.close()
    unasked.close()


async def test_a_burst_drops_nobody_who_reads() -> None:
    bus = Bus(lambda: 0.0)
    seen: list[object] = []
    with bus.reading() as reader:
        for number in range(5 * MAX_BEHIND):
            bus.publish("x", number=number)

        while len(seen) < 5 * MAX_BEHIND:
            seen += [event.fields["number"] for event in await reader.next() or ()]

    assert seen == [*range(5 * MAX_BEHIND)]


async def test_whoever_does_not_read_for_long_is_dropped() -> None:
    now, dropped = [0.0], list[str]()
    bus = Bus(lambda: now[0])
    with (
        bus.reading(drop=lambda: dropped.append("slow")) as slow,
        bus.reading(["y"], drop=lambda: dropped.append("quick")) as quick,
    ):
        for _ in range(MAX_BEHIND):
            bus.publish("x")
        assert quick.at < bus.end
        bus.publish("y")
        found = list[str]()
        while not found:
            found = [event.kind for event in await quick.next() or ()]
        now[0] = 60.0
        bus.publish("x")

        assert await slow.next() is None

    assert found == ["y"]
    assert dropped == ["slow"]


async def test_nothing_is_kept_that_everybody_has_or_nobody_wants() -> None:
    now = [0.0]
    bus = Bus(lambda: now[0])
    bus.publish("x")
    assert bus.kept == 0

    with bus.reading() as reader:
        for _ in range(10):
            bus.publish("x")
        assert len(await reader.next() or ()) == 10
        now[0] = 60.0
        bus.publish("x")
        assert bus.kept == 1
        assert len(await reader.next() or ()) == 1

    assert bus.kept == 0


async def test_large_events_are_kept_for_nobody_who_is_slow() -> None:
    now, dropped = [0.0], list[str]()
    bus = Bus(lambda: now[0])
    with bus.reading(drop=lambda: dropped.append("slow")), bus.reading() as quick:
        for _ in range(9):
            bus.publish("x", plan="a" * (MOST_BYTES // 8))
        for event in await quick.next() or ():
            event.framed(is_light=False)
        now[0] = 60.0
        bus.publish("y")

        assert bus.kept < 9
        assert [event.kind for event in await quick.next() or ()] == ["y"]

    assert dropped == ["slow"]


async def test_an_event_is_written_once_for_all_readers() -> None:
    bus = Bus(lambda: 0.0)
    plan = {"id": "1", "original": {}, "target": {}}
    with bus.reading() as one, bus.reading() as other:
        bus.publish("deployment_info", plan=plan)
        [[mine], [theirs]] = [await reader.next() or () for reader in (one, other)]

    for is_light in (True, False):
        raw = mine.framed(is_light=is_light)
        assert raw is theirs.framed(is_light=is_light)
        kind, data = raw.decode().removesuffix("\r\n\r\n").split("\r\n")
        assert kind == "event: deployment_info"
        told = json.loads(data.removeprefix("data: "))["plan"]
        assert told == ({"id": "1"} if is_light else plan)
