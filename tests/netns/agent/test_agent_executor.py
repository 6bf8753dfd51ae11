"""Custom executors as processes of their own, in their container, over the executor API."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.executor import Call, Event
from phalanx.mesos.v1.protobuf import decode_protobuf, encode_protobuf

FRAMEWORK = "fw-0000"

# An executor on the standard library alone. What a task is to do is in its data: "hold" runs on
# until killed, "finish" ends at once, "silent" says nothing, "exit" ends the executor.
EXECUTOR = r"""
import base64, http.client, json, os, sys, threading, time, uuid
open("env.json", "w").write(json.dumps(dict(os.environ)))
host, port = os.environ["MESOS_AGENT_ENDPOINT"].split(":")
fid = {"value": os.environ["MESOS_FRAMEWORK_ID"]}
eid = {"value": os.environ["MESOS_EXECUTOR_ID"]}
def patience():
    time.sleep(0.1)  # waits: before it subscribes again
unacked, tasks, events = {}, {}, open("events", "a", buffering=1)
def call(kind, **rest):
    body = json.dumps({"type": kind, "framework_id": fid, "executor_id": eid, **rest})
    link = http.client.HTTPConnection(host, int(port))
    link.request("POST", "/api/v1/executor", body, {"Content-Type": "application/json"})
    return link, link.getresponse()
def update(task, state):
    status = {"task_id": task, "state": state, "source": "SOURCE_EXECUTOR",
              "uuid": base64.b64encode(uuid.uuid4().bytes).decode()}
    unacked[status["uuid"]] = {"status": status}
    try:
        link, answer = call("UPDATE", update={"status": status})
        events.write(json.dumps({"type": "ANSWER", "status": answer.status}) + "\n")
    except OSError:
        pass
def launch(task):
    do = base64.b64decode(task.get("data", "")).decode()
    tasks[task["task_id"]["value"]] = task
    if do == "exit":
        os._exit(7)
    if do == "silent":
        return
    update(task["task_id"], "TASK_RUNNING")
    if do == "finish":
        update(task["task_id"], "TASK_FINISHED")
    if do == "finish-later":
        while not os.path.exists("go"):
            time.sleep(0.02)  # waits: for the test to say go
        update(task["task_id"], "TASK_FINISHED")
def take(event):
    events.write(json.dumps(event) + "\n")
    kind = event["type"]
    if kind == "LAUNCH":
        threading.Thread(target=launch, args=(event["launch"]["task"],)).start()
    elif kind == "LAUNCH_GROUP":
        for task in event["launch_group"]["task_group"]["tasks"]:
            launch(task)
    elif kind == "KILL":
        update(event["kill"]["task_id"], "TASK_KILLED")
    elif kind == "ACKNOWLEDGED":
        unacked.pop(event["acknowledged"]["uuid"], None)
        tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif kind == "MESSAGE":
        call("MESSAGE", message={"data": event["message"]["data"]})
    elif kind == "SHUTDOWN" and not os.path.exists("stubborn"):
        os._exit(0)
while True:
    try:
        link, answer = call("SUBSCRIBE", subscribe={
            "unacknowledged_tasks": list(tasks.values()),
            "unacknowledged_updates": list(unacked.values())})
        while answer.status == 200:
            line = answer.readline()
            if not line:
                break
            take(json.loads(answer.read(int(line))))
    except (OSError, ValueError, http.client.HTTPException):
        pass
    if os.environ["MESOS_CHECKPOINT"] != "1":
        os._exit(1)
    patience()
"""


def framework(**rest: Any) -> dict[str, Any]:
    base = {"user": "root", "name": "test", "id": {"value": FRAMEWORK}, "checkpoint": True}
    return base | rest


def executor(name: str = "e1", command: str | None = None, **rest: Any) -> dict[str, Any]:
    return {
        "type": "CUSTOM",
        "executor_id": {"value": name},
        "command": {
            "shell": False,
            "value": "/usr/bin/env",
            "arguments": ["env", "python3", "-c", command or EXECUTOR],
            "environment": {"variables": [{"name": "OWN", "value": "mine"}]},
        },
        "resources": scalars(cpus=0.1, mem=64),
        **rest,
    }


def scalars(**amounts: float) -> list[dict[str, Any]]:
    return [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}}
        for name, value in amounts.items()
    ]


def task(name: str, do: str = "hold", **rest: Any) -> dict[str, Any]:
    return {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": "master-S0"},
        "resources": scalars(cpus=0.1, mem=32),
        "data": base64.b64encode(do.encode()).decode(),
        **rest,
    }


async def run(lead: Any, name: str, do: str = "hold", **rest: Any) -> None:
    await lead.say(
        "RUN_TASK",
        framework_info=rest.pop("framework", framework()),
        task=task(name, do, executor=rest.pop("executor", executor()), **rest),
    )


def events(node: Any, name: str = "e1") -> list[dict[str, Any]]:
    file: Path = node.sandbox(name) / "events"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def heard(node: Any, kind: str, count: int = 1, name: str = "e1") -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while True:
            found = [event for event in events(node, name) if event["type"] == kind]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def test_an_executor_runs_its_task_and_is_told_what_is_safe(lead: Any, up: Any) -> None:
    await run(lead, "t1", "finish")

    end = await lead.reached("t1", "FINISHED")

    assert lead.states("t1") == ["RUNNING", "FINISHED"]
    assert end.source == "SOURCE_EXECUTOR"
    assert end.executor_id.value == "e1"
    assert end.container_status.container_id.value == up.containers()[0]
    assert end.container_status.network_infos[0].ip_addresses[0].ip_address == "127.0.0.1"
    await heard(up, "ACKNOWLEDGED", 2)
    kinds = [event["type"] for event in events(up)]
    assert kinds[:2] == ["SUBSCRIBED", "LAUNCH"]
    subscribed = events(up)[0]["subscribed"]
    assert subscribed["executor_info"]["executor_id"] == {"value": "e1"}
    assert subscribed["framework_info"]["id"] == {"value": FRAMEWORK}
    assert subscribed["agent_info"]["id"] == {"value": "master-S0"}
    assert subscribed["container_id"] == {"value": up.containers()[0]}
    assert all(event["status"] == 202 for event in events(up) if event["type"] == "ANSWER")


async def test_an_executor_finds_its_environment(lead: Any, up: Any) -> None:
    await run(lead, "t1", "finish")
    await lead.reached("t1", "FINISHED")

    told = json.loads((up.sandbox("e1") / "env.json").read_text())
    # Where python3 is pyenv's, a shell that looks for it adds its own.
    found = {k: v for k, v in told.items() if "PYENV" not in k and k != "SHLVL"}

    sandbox = str(up.sandbox("e1"))
    assert found | {"PATH": "", "LC_CTYPE": ""} == {
        "HOME": "/root",
        "LC_CTYPE": "",
        "LIBPROCESS_IP": "127.0.0.1",
        "LIBPROCESS_PORT": "0",
        "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{up.port}",
        "MESOS_CHECKPOINT": "1",
        "MESOS_CONTAINER_IP": "127.0.0.1",
        "MESOS_DIRECTORY": sandbox,
        "MESOS_EXECUTOR_ID": "e1",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        "MESOS_FRAMEWORK_ID": FRAMEWORK,
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_RECOVERY_TIMEOUT": "15mins",
        "MESOS_SANDBOX": sandbox,
        "MESOS_SLAVE_ID": "master-S0",
        "MESOS_SLAVE_PID": f"slave(1)@127.0.0.1:{up.port}",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
        "OWN": "mine",
        "PATH": "",
        "PWD": sandbox,
    }


async def test_several_tasks_share_one_executor_and_its_cgroup(lead: Any, up: Any) -> None:
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")
    await run(lead, "t2")
    await lead.reached("t2", "RUNNING")

    [container] = up.containers()
    limit = Path(f"/sys/fs/cgroup/memory/{up.cgroups}/{container}/memory.limit_in_bytes")

    assert int(limit.read_text()) == 128 * 1024 * 1024
    await lead.say("KILL_TASK", framework_id={"value": FRAMEWORK}, task_id={"value": "t1"})
    await lead.reached("t1", "KILLED")
    assert "KILLED" not in lead.states("t2")
    # The hard limit of what runs is never lowered.
    soft = limit.with_name("memory.soft_limit_in_bytes")
    async with asyncio.timeout(30):
        while int(soft.read_text()) != 96 * 1024 * 1024:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)


async def test_a_group_reaches_a_custom_executor_as_one(lead: Any, up: Any) -> None:
    await lead.say(
        "RUN_TASK_GROUP",
        framework_info=framework(),
        executor=executor(),
        task_group={"tasks": [task("g1", "finish"), task("g2", "finish")]},
    )

    await lead.reached("g1", "FINISHED")
    await lead.reached("g2", "FINISHED")

    [launched] = await heard(up, "LAUNCH_GROUP")
    names = [one["task_id"]["value"] for one in launched["launch_group"]["task_group"]["tasks"]]
    assert names == ["g1", "g2"]


async def test_messages_pass_both_ways(lead: Any, up: Any) -> None:
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")

    await lead.say(
        "MESSAGE",
        framework_id={"value": FRAMEWORK},
        executor_id={"value": "e1"},
        data="aGVsbG8=",
    )

    await lead.until(lambda: any(call.message for call in lead.calls))
    [message] = [call.message for call in lead.calls if call.message]
    assert (message.data, message.executor_id.value) == (b"hello", "e1")


async def test_an_executor_that_ends_takes_its_tasks_along(lead: Any, up: Any) -> None:
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")
    await run(lead, "t2", "exit")

    first, second = await lead.ended("t1"), await lead.ended("t2")

    assert {first.state, second.state} == {"TASK_FAILED"}
    assert {first.reason, second.reason} == {"REASON_EXECUTOR_TERMINATED"}
    assert first.source == "SOURCE_AGENT"
    await lead.until(lambda: lead.has_exited("e1"))
    [exited] = [call.executor_exited for call in lead.calls if call.executor_exited]
    assert exited.status == 7 << 8
    await up.emptied()


async def test_an_executor_is_shut_down_with_grace(lead: Any, up: Any) -> None:
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")

    await lead.say(
        "SHUTDOWN_EXECUTOR", framework_id={"value": FRAMEWORK}, executor_id={"value": "e1"}
    )

    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED")
    # That an update was taken is heard on a connection of its own, at any time.
    assert [kind for event in events(up) if (kind := event["type"]) != "ANSWER"][-1] == "SHUTDOWN"
    await up.emptied()


async def test_a_stubborn_executor_is_destroyed_after_its_own_grace(lead: Any, up: Any) -> None:
    grace = {"nanoseconds": 300_000_000}
    await run(lead, "t1", executor=executor(shutdown_grace_period=grace))
    await lead.reached("t1", "RUNNING")
    (up.sandbox("e1") / "stubborn").touch()

    await lead.say("SHUTDOWN_FRAMEWORK", framework_id={"value": FRAMEWORK})

    await lead.ended("t1")
    await heard(up, "SHUTDOWN")
    await up.emptied()


async def test_a_launch_that_fails_fails_the_task(lead: Any, up: Any) -> None:
    broken = executor(container={"type": "MESOS", "network_infos": [{"name": "nosuch"}]})

    await run(lead, "t1", executor=broken)

    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_FAILED", "REASON_CONTAINER_LAUNCH_FAILED")
    assert "nosuch" in end.message
    await up.emptied()


async def test_a_running_executor_comes_back_after_the_agent_was_killed(lead: Any, up: Any) -> None:
    await run(lead, "t1", "finish-later")
    await lead.reached("t1", "RUNNING")
    await run(lead, "t2", "hold")
    await lead.reached("t2", "RUNNING")
    await up.end(signal.SIGKILL)
    # Its task ends while there is no agent: nobody acknowledges, it has to tell again.
    (up.sandbox("e1") / "go").touch()

    await up.start(lead.port)

    await lead.reached("t1", "FINISHED")
    assert lead.states("t1") == ["RUNNING", "FINISHED"]
    listed = lead.subscribes[-1]
    assert [info.executor_id.value for info in listed.executors] == ["e1"]
    assert {one.task_id.value for one in listed.tasks} == {"t1", "t2"}
    await lead.say("KILL_TASK", framework_id={"value": FRAMEWORK}, task_id={"value": "t2"})
    await lead.reached("t2", "KILLED")


async def test_an_executor_that_ended_without_an_agent_is_told(lead: Any, up: Any) -> None:
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")
    await up.end(signal.SIGKILL)
    [container] = up.containers()
    started = json.loads((up.runtime / "containers" / container / "started").read_text())
    os.kill(started["pid"], signal.SIGKILL)

    await up.start(lead.port)

    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_FAILED", "REASON_EXECUTOR_TERMINATED")
    await up.emptied()


async def test_an_end_before_any_master_is_there_is_told_to_the_next(lead: Any, up: Any) -> None:
    """The agent may have told of the executor when it subscribed: it would be held for ever."""
    await run(lead, "t1")
    await lead.reached("t1", "RUNNING")
    place = next((up.runtime / "containers").glob("*"))
    await up.end(signal.SIGKILL)
    os.kill(json.loads((place / "started").read_text())["pid"], signal.SIGKILL)

    await up.start(lead.port)

    await lead.until(lambda: lead.has_exited("e1"))
    await up.emptied()


async def test_without_checkpoints_an_executor_does_not_outlive_its_agent(
    lead: Any, up: Any
) -> None:
    stays = EXECUTOR.replace('os.environ["MESOS_CHECKPOINT"] != "1"', "False")
    await run(lead, "t1", framework=framework(checkpoint=False), executor=executor(command=stays))
    await lead.reached("t1", "RUNNING")
    await up.end(signal.SIGKILL)

    await up.start(lead.port)

    await lead.until(lambda: len(lead.subscribes) > 1)
    assert (lead.subscribes[1].tasks, lead.subscribes[1].executors) == ((), ())
    await up.emptied()
    assert lead.states("t1")[-1] == "RUNNING"


async def test_an_executor_that_does_not_come_back_is_destroyed(lead: Any, up: Any) -> None:
    deaf = EXECUTOR.replace("    patience()\n", "    threading.Event().wait()\n")
    aware = framework(capabilities=[{"type": "PARTITION_AWARE"}])
    await run(lead, "t1", framework=aware, executor=executor(command=deaf))
    await lead.reached("t1", "RUNNING")
    await up.end(signal.SIGKILL)

    await up.start(lead.port)

    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_GONE", "REASON_EXECUTOR_REREGISTRATION_TIMEOUT")
    await up.emptied()


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        pytest.param({"type": "HEARTBEAT"}, 403, "Executor is not subscribed", id="too-early"),
        pytest.param(
            {"type": "HEARTBEAT", "framework_id": {"value": "no"}},
            400,
            "Framework cannot be found",
            id="framework",
        ),
        pytest.param(
            {"type": "HEARTBEAT", "executor_id": {"value": "no"}},
            400,
            "Executor cannot be found",
            id="executor",
        ),
        pytest.param({"type": "UPDATE"}, 400, "Expecting 'update' to be present", id="update"),
        pytest.param({}, 400, "Expecting 'type' to be present", id="no-type"),
    ],
)
async def test_a_wrong_call_is_refused(
    lead: Any, up: Any, call: dict[str, Any], status: int, words: str
) -> None:
    await run(lead, "t1", executor=executor(command="import signal; signal.pause()"))
    async with asyncio.timeout(30):
        while not [*(up.runtime / "containers").glob("*/started")]:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)
    body = {"framework_id": {"value": FRAMEWORK}, "executor_id": {"value": "e1"}} | call

    async with aiohttp.ClientSession() as session:
        url = f"{up.url}/api/v1/executor"
        async with session.post(url, json=body) as answer:
            assert (answer.status, words in await answer.text()) == (status, True)


class Voice:
    """An executor's end of the API in protobuf, spoken from outside of its container."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = f"{url}/api/v1/executor"

    def _post(self, **rest: Any) -> Any:
        base = {"framework_id": {"value": FRAMEWORK}, "executor_id": {"value": "e1"}}
        raw = encode_protobuf(from_json(Call, base | rest))
        headers = {"Content-Type": "application/x-protobuf", "Accept": "application/x-protobuf"}
        return self._session.post(self._url, data=raw, headers=headers)

    async def call(self, **rest: Any) -> int:
        async with self._post(**rest) as answer:
            return int(answer.status)

    async def update(self, name: str, state: str, number: int) -> int:
        return await self.call(type="UPDATE", update=said(name, state, number))

    async def subscribe(self, **rest: Any) -> AsyncGenerator[Event, None]:
        async with self._post(type="SUBSCRIBE", subscribe=rest) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/x-protobuf"
            decoder = RecordDecoder()
            async for chunk in answer.content.iter_any():
                for record in decoder.feed(chunk):
                    yield decode_protobuf(Event, record)


def said(name: str, state: str, number: int) -> dict[str, Any]:
    uuid = base64.b64encode(bytes([number]) * 16).decode()
    return {"status": {"task_id": {"value": name}, "state": f"TASK_{state}", "uuid": uuid}}


@pytest.fixture
async def voice(lead: Any, up: Any) -> AsyncIterator[Voice]:
    """A voice for an executor whose process says nothing."""
    await run(lead, "t1", executor=executor(command="import signal; signal.pause()"))
    async with asyncio.timeout(30):
        while not [*(up.runtime / "containers").glob("*/started")]:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)
    async with aiohttp.ClientSession() as session:
        yield Voice(session, up.url)


async def test_protobuf_is_spoken(lead: Any, voice: Voice) -> None:
    events = voice.subscribe()
    first, second = await anext(events), await anext(events)
    assert first.subscribed is not None
    assert second.launch is not None

    answered = await voice.update("t1", "RUNNING", 1)

    assert (first.type, second.launch.task.task_id.value, answered) == ("SUBSCRIBED", "t1", 202)
    third = await anext(events)
    assert third.acknowledged is not None
    assert third.acknowledged.uuid == bytes([1]) * 16
    assert (await lead.reached("t1", "RUNNING")).uuid == bytes([1]) * 16


async def test_an_update_that_comes_twice_counts_once(lead: Any, voice: Voice) -> None:
    events = voice.subscribe()
    await anext(events), await anext(events)
    await voice.update("t1", "RUNNING", 1)
    await voice.update("t1", "RUNNING", 1)
    await anext(events), await anext(events)

    again = voice.subscribe(
        unacknowledged_tasks=[task("t1")], unacknowledged_updates=[said("t1", "RUNNING", 1)]
    )

    assert (await anext(again)).type == "SUBSCRIBED"
    assert (await anext(again)).type == "ACKNOWLEDGED"
    assert [event async for event in events] == []  # the second connection replaced the first
    assert await voice.update("t1", "FINISHED", 2) == 202
    await lead.reached("t1", "FINISHED")
    assert [status.uuid for status in lead.of("t1")] == [bytes([1]) * 16, bytes([2]) * 16]


async def test_a_task_that_never_reached_the_executor_is_told_as_lost(
    lead: Any, voice: Voice
) -> None:
    events = voice.subscribe()
    await anext(events), await anext(events)

    again = voice.subscribe()

    assert (await anext(again)).type == "SUBSCRIBED"
    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_LOST", "REASON_AGENT_RESTARTED")


async def test_an_executor_that_says_staging_is_shut_down(lead: Any, voice: Voice) -> None:
    events = voice.subscribe()
    await anext(events), await anext(events)

    await voice.update("t1", "STAGING", 1)

    assert (await anext(events)).type == "SHUTDOWN"


async def test_after_the_connection_is_gone_nothing_is_taken(lead: Any, voice: Voice) -> None:
    events = voice.subscribe()
    await anext(events), await anext(events)
    await events.aclose()

    async with asyncio.timeout(30):
        while await voice.call(type="HEARTBEAT") != 403:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)

    assert await voice.update("t1", "RUNNING", 1) == 403


async def test_kill_before_the_executor_is_there(lead: Any, up: Any) -> None:
    await run(lead, "t1", executor=executor(command="import signal; signal.pause()"))

    await lead.say("KILL_TASK", framework_id={"value": FRAMEWORK}, task_id={"value": "t1"})

    end = await lead.ended("t1")
    assert (end.state, end.reason) == ("TASK_KILLED", "REASON_TASK_KILLED_DURING_LAUNCH")
