"""Containers that are started by calls of the agent's API, and sessions in them."""

import asyncio
import base64
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from phalanx.mesos.recordio import RecordDecoder, encode_record

FRAMEWORK = {"value": "fw-0000"}
STREAMING = {"Accept": "application/recordio", "Message-Accept": "application/json"}
INPUT = {
    "Content-Type": "application/recordio",
    "Message-Content-Type": "application/json",
    "Accept": "application/json",
}


async def command_task(lead: Any, name: str, command: str, **rest: Any) -> str:
    """Run a command task; return its container's id."""
    await lead.say(
        "RUN_TASK",
        framework_info={"user": "root", "name": "test", "id": FRAMEWORK, "checkpoint": True},
        task={
            "name": name,
            "task_id": {"value": name},
            "agent_id": {"value": "master-S0"},
            "command": {
                "value": command,
                "environment": {"variables": [{"name": "OWN", "value": "mine"}]},
            },
            "resources": [
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            ],
            **rest,
        },
    )
    running = await lead.reached(name, "RUNNING")
    return str(running.container_status.container_id.value)


@pytest.fixture
async def parent(lead: Any, up: Any) -> dict[str, Any]:
    return {"value": await command_task(lead, "t1", "sleep 1000")}


def child(parent: dict[str, Any]) -> dict[str, Any]:
    return {"value": uuid4().hex, "parent": parent}


def shell(text: str) -> dict[str, Any]:
    return {"value": text}


async def records(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    decoder = RecordDecoder()
    async for chunk in response.content.iter_any():
        for record in decoder.feed(chunk):
            yield json.loads(record)


async def outputs(response: aiohttp.ClientResponse) -> dict[str, bytes]:
    found = {"STDOUT": b"", "STDERR": b""}
    async with asyncio.timeout(30):
        async for record in records(response):
            if record["type"] == "DATA":
                found[record["data"]["type"]] += base64.b64decode(record["data"]["data"])
    return found


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def session_call(container_id: dict[str, Any], command: dict[str, Any], **rest: Any) -> Any:
    return {
        "type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {
            "container_id": container_id,
            "command": command,
            **rest,
        },
    }


def input_record(**process_io: Any) -> bytes:
    call = {
        "type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "PROCESS_IO", "process_io": process_io},
    }
    return encode_record(json.dumps(call).encode())


def stdin(data: bytes) -> bytes:
    text = base64.b64encode(data).decode()
    return input_record(type="DATA", data={"type": "STDIN", "data": text})


def first_record(container_id: dict[str, Any]) -> bytes:
    call = {
        "type": "ATTACH_CONTAINER_INPUT",
        "attach_container_input": {"type": "CONTAINER_ID", "container_id": container_id},
    }
    return encode_record(json.dumps(call).encode())


@pytest.mark.parametrize("old", [pytest.param("", id="new"), pytest.param("_NESTED", id="old")])
async def test_a_nested_container_lives_and_is_waited_for(
    up: Any, parent: dict[str, Any], old: str
) -> None:
    name = child(parent)

    launched = await up.call(f"LAUNCH{old}_CONTAINER", container_id=name, command=shell("exit 1"))
    again = await up.call(f"LAUNCH{old}_CONTAINER", container_id=name, command=shell("exit 1"))
    waited = await up.call(f"WAIT{old}_CONTAINER", container_id=name)
    twice = await up.call(f"WAIT{old}_CONTAINER", container_id=name)
    removed = await up.call(f"REMOVE{old}_CONTAINER", container_id=name)
    gone = await up.call(f"WAIT{old}_CONTAINER", container_id=name)

    kind = f"wait{old.lower()}_container"
    assert [launched[0], again[0]] == [200, 202]
    assert waited[1][kind] == {"exit_status": 256}
    assert twice == waited
    assert (removed[0], gone[0]) == (200, 404)
    sandbox = up.sandbox("t1") / "containers" / name["value"]
    assert not sandbox.exists()


async def test_a_nested_container_is_killed_and_not_removed_before(
    up: Any, parent: dict[str, Any]
) -> None:
    name = child(parent)
    await up.call("LAUNCH_CONTAINER", container_id=name, command=shell("sleep 1000"))
    early = await up.call("REMOVE_CONTAINER", container_id=name)

    killed = await up.call("KILL_CONTAINER", container_id=name)
    waited = await up.call("WAIT_CONTAINER", container_id=name)
    late = await up.call("KILL_CONTAINER", container_id=name)

    assert early[0] == 500
    assert killed[0] == 200
    assert waited[1]["wait_container"]["exit_status"] == 9
    assert late[0] == 404


async def test_a_signal_reaches_the_command(up: Any, parent: dict[str, Any]) -> None:
    name = child(parent)
    wait = "trap 'exit 5' USR1; touch ready; while :; do sleep 0.05; done"
    await up.call("LAUNCH_CONTAINER", container_id=name, command=shell(wait))
    async with asyncio.timeout(30):
        while not (up.sandbox("t1") / "containers" / name["value"] / "ready").exists():  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)

    await up.call("KILL_CONTAINER", container_id=name, signal=int(signal.SIGUSR1))

    waited = await up.call("WAIT_CONTAINER", container_id=name)
    assert waited[1]["wait_container"]["exit_status"] == 5 << 8


@pytest.mark.parametrize(
    ("container_id", "status"),
    [
        pytest.param({"value": "x", "parent": {"value": "nosuch"}}, 400, id="no-parent"),
        pytest.param({"value": "a.b"}, 400, id="dot"),
        pytest.param({"value": "x" * 300}, 400, id="long"),
    ],
)
async def test_a_container_that_can_not_be_is_refused(
    up: Any, container_id: dict[str, Any], status: int
) -> None:
    made = await up.call("LAUNCH_CONTAINER", container_id=container_id, command=shell("true"))

    assert made[0] == status


async def test_a_launch_that_fails_says_why(up: Any, parent: dict[str, Any]) -> None:
    net = {"type": "MESOS", "network_infos": [{"name": "nosuch"}]}
    name = child(parent)

    made = await up.call(
        "LAUNCH_CONTAINER", container_id=name, command=shell("true"), container=net
    )

    assert made[0] == 400
    assert "nosuch" in made[1]
    assert (await up.call("WAIT_CONTAINER", container_id=name))[0] == 404


async def test_a_standalone_container_belongs_to_nobody(lead: Any, up: Any) -> None:
    name = {"value": f"alone-{uuid4().hex[:8]}"}
    mem = [{"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}]
    command = shell("while [ ! -e go ]; do sleep 0.05; done; exit 2")
    made = await up.call("LAUNCH_CONTAINER", container_id=name, command=command, resources=mem)
    listed = await up.call("GET_CONTAINERS", show_standalone=True)
    hidden = await up.call("GET_CONTAINERS")
    await up.end(signal.SIGKILL)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)
    (up.base / "work" / "containers" / name["value"] / "go").touch()

    waited = await up.call("WAIT_CONTAINER", container_id=name)

    assert made[0] == 200
    [row] = listed[1]["get_containers"]["containers"]
    assert row["container_id"] == name
    assert hidden[1]["get_containers"] == {}
    assert waited[1]["wait_container"]["exit_status"] == 2 << 8
    assert (await up.call("REMOVE_CONTAINER", container_id=name))[0] == 200
    await up.emptied()


async def test_nested_containers_are_listed_when_asked_for(up: Any, parent: dict[str, Any]) -> None:
    name = child(parent)
    await up.call("LAUNCH_CONTAINER", container_id=name, command=shell("sleep 1000"))

    usual = await up.call("GET_CONTAINERS")
    every = await up.call("GET_CONTAINERS", show_nested=True)

    assert [row["container_id"] for row in usual[1]["get_containers"]["containers"]] == [parent]
    rows = {row["container_id"]["value"]: row for row in every[1]["get_containers"]["containers"]}
    assert rows[name["value"]]["container_id"] == name
    assert rows[name["value"]]["executor_id"] == {"value": "t1"}


async def test_nested_containers_end_with_their_parent(
    lead: Any, up: Any, parent: dict[str, Any]
) -> None:
    name = child(parent)
    await up.call("LAUNCH_CONTAINER", container_id=name, command=shell("sleep 1000"))

    await lead.say("KILL_TASK", framework_id=FRAMEWORK, task_id={"value": "t1"})

    await lead.ended("t1")
    await up.emptied()
    assert not [*(up.runtime / "runc").glob("*")]


async def test_a_nested_container_outlives_the_agent(
    lead: Any, up: Any, parent: dict[str, Any]
) -> None:
    name = child(parent)
    await up.call("LAUNCH_CONTAINER", container_id=name, command=shell("sleep 0.5; exit 3"))
    await up.end(signal.SIGKILL)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)

    waited = await up.call("WAIT_CONTAINER", container_id=name)

    assert waited[1]["wait_container"]["exit_status"] == 3 << 8


async def test_a_session_shows_what_its_command_writes(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    name = child(parent)
    command = shell("echo out; echo err >&2; echo $OWN; readlink /proc/self/ns/mnt; exit 3")

    async with client.post(
        f"{up.url}/api/v1", json=session_call(name, command), headers=STREAMING
    ) as response:
        said = await outputs(response)
        headers = response.headers

    assert response.status == 200
    assert headers["Content-Type"] == "application/recordio"
    assert headers["Message-Content-Type"] == "application/json"
    lines = said["STDOUT"].decode().split()
    assert lines[:2] == ["out", "mine"]
    assert said["STDERR"] == b"err\n"
    place = up.runtime / "containers" / parent["value"] / "started"
    init = json.loads(place.read_text())["pid"]
    assert lines[2] == os.readlink(f"/proc/{init}/ns/mnt")
    waited = await up.call("WAIT_CONTAINER", container_id=name)
    assert waited[1]["wait_container"]["exit_status"] == 3 << 8


async def test_short_sessions_lose_no_word(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    """Containers that have ended before anybody could listen, several at a time."""

    async def said() -> bytes:
        call = session_call(child(parent), shell("echo word"))
        async with client.post(f"{up.url}/api/v1", json=call, headers=STREAMING) as response:
            return (await outputs(response))["STDOUT"]

    for _ in range(3):
        assert await asyncio.gather(*(said() for _ in range(8))) == [b"word\n"] * 8


async def test_a_session_takes_input(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    name = child(parent)
    url = f"{up.url}/api/v1"
    async with client.post(
        url, json=session_call(name, shell("cat; echo end")), headers=STREAMING
    ) as response:
        body = first_record(name) + stdin(b"hello ") + stdin(b"there\n") + stdin(b"")
        async with client.post(url, data=body, headers=INPUT) as sent:
            assert sent.status == 200
        said = await outputs(response)

    assert said["STDOUT"] == b"hello there\nend\n"


async def test_a_session_can_have_a_terminal(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    name = child(parent)
    url = f"{up.url}/api/v1"
    tty = {"type": "MESOS", "tty_info": {"window_size": {"rows": 24, "columns": 80}}}
    command = shell("tty; stty size; read line; stty size; echo said $line")
    async with client.post(
        url, json=session_call(name, command, container=tty), headers=STREAMING
    ) as response:
        size = {"window_size": {"rows": 50, "columns": 132}}
        resize = input_record(type="CONTROL", control={"type": "TTY_INFO", "tty_info": size})
        seen = b""
        decoded = records(response)
        async with asyncio.timeout(30):
            while b"24 80" not in seen:
                seen += base64.b64decode((await anext(decoded))["data"]["data"])
            body = first_record(name) + resize + stdin(b"this\n")
            async with client.post(url, data=body, headers=INPUT) as sent:
                assert sent.status == 200
            async for record in decoded:
                seen += base64.b64decode(record["data"]["data"])

    assert b"/dev/" in seen
    assert b"50 132" in seen
    assert b"said this" in seen


async def test_a_session_ends_with_its_connection(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    name = child(parent)
    command = shell("echo up; sleep 1000 & sleep 1000")
    async with client.post(
        f"{up.url}/api/v1", json=session_call(name, command), headers=STREAMING
    ) as response:
        await anext(records(response))

    waited = await up.call("WAIT_CONTAINER", container_id=name)

    assert waited[1]["wait_container"]["exit_status"] == 9
    text = f"{parent['value']}.{name['value']}"
    async with asyncio.timeout(30):
        while text in up.containers():  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.1, 0.2])
async def test_whoever_hangs_up_while_a_session_begins_leaves_nothing(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession, seconds: float
) -> None:
    name = child(parent)
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(seconds),
            client.post(
                f"{up.url}/api/v1",
                json=session_call(name, shell("sleep 1000")),
                headers=STREAMING,
            ),
        ):
            await asyncio.Event().wait()

    async with asyncio.timeout(30):
        while up.containers() != [parent["value"]]:  # noqa: ASYNC110 - not in this process
            await asyncio.sleep(0.02)


async def test_a_session_does_not_outlive_the_agent(
    lead: Any, up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    name = child(parent)
    async with client.post(
        f"{up.url}/api/v1",
        json=session_call(name, shell("echo up; sleep 1000")),
        headers=STREAMING,
    ) as response:
        await anext(records(response))
        await up.end(signal.SIGKILL)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)

    waited = await up.call("WAIT_CONTAINER", container_id=name)

    assert waited[1]["wait_container"]["exit_status"] == 9


async def test_the_output_of_a_task_with_a_terminal_can_be_heard_after_a_restart(
    lead: Any, up: Any, client: aiohttp.ClientSession
) -> None:
    tty = {"type": "MESOS", "tty_info": {}}
    command = "read one; echo got $one; read two; echo got $two; sleep 0.2"
    name = {"value": await command_task(lead, "t2", command, container=tty)}
    url = f"{up.url}/api/v1"
    attach = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": name}}
    async with client.post(url, json=attach, headers=STREAMING) as response:
        async with client.post(url, data=first_record(name) + stdin(b"1\n"), headers=INPUT):
            seen = b""
            decoded = records(response)
            while b"got 1" not in seen:
                seen += base64.b64decode((await anext(decoded))["data"]["data"])
        await up.end(signal.SIGKILL)
    await up.start(lead.port)
    await lead.until(lambda: len(lead.subscribes) == 2)

    async with (
        client.post(url, json=attach, headers=STREAMING) as response,
        client.post(url, data=first_record(name) + stdin(b"2\n"), headers=INPUT),
    ):
        said = await outputs(response)

    assert b"got 2" in said["STDOUT"]
    assert (await lead.ended("t2")).state == "TASK_FINISHED"
    assert "got 1" in (up.sandbox("t2") / "stdout").read_text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(first_record({"value": "nosuch"}), 404, id="unknown"),
        pytest.param(stdin(b"hello"), 400, id="no-name-first"),
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"12\nnot json at", 400, id="cut"),
        pytest.param(b"x\n", 400, id="no-record"),
    ],
)
async def test_wrong_input_is_refused(
    up: Any, client: aiohttp.ClientSession, body: bytes, status: int
) -> None:
    async with client.post(f"{up.url}/api/v1", data=body, headers=INPUT) as response:
        assert response.status == status


async def test_a_container_without_a_session_has_nothing_to_attach_to(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    call = {
        "type": "ATTACH_CONTAINER_OUTPUT",
        "attach_container_output": {"container_id": parent},
    }

    async with client.post(f"{up.url}/api/v1", json=call, headers=STREAMING) as response:
        assert response.status == 500
        text = "I/O switchboard server was disabled for this container"
        assert await response.text() == text


async def test_who_comes_too_late_for_a_session_is_told_apart(
    up: Any, parent: dict[str, Any], client: aiohttp.ClientSession
) -> None:
    gone = {"value": "gone", "parent": parent}
    stranger = {"value": "gone", "parent": {"value": "nosuch"}}

    for name, status, words in (
        (gone, 500, f"Container {parent['value']}.gone has ended"),
        (stranger, 404, "Container nosuch.gone cannot be found"),
    ):
        body = first_record(name)
        async with client.post(f"{up.url}/api/v1", data=body, headers=INPUT) as response:
            assert (response.status, await response.text()) == (status, words)
