"""The commands on a Marathon whose master is told what to do: what they say, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.cli.follow import Progress, follow, unfinished

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster, Marathon

APP: dict[str, Any] = {"id": "/web", "cmd": "x", "cpus": 0.1, "mem": 1, "portDefinitions": []}
SECONDS = 60


class Command:
    """A command that runs; its lines can be awaited."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Return its next line."""
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            return (await self._process.stdout.readline()).decode()

    async def end(self) -> tuple[int, str, str]:
        """Return its exit status, and what it wrote that was not read yet."""
        async with asyncio.timeout(SECONDS):
            out, errors = await self._process.communicate()
        return int(self._process.returncode or 0), out.decode(), errors.decode()

    def stop(self) -> None:
        """End it if it still runs."""
        if self._process.returncode is None:
            self._process.kill()


class Shell:
    """Starts commands on one Marathon."""

    def __init__(self, marathon: Marathon) -> None:
        self._marathon = marathon
        self.started: list[Command] = []

    async def start(self, room: str, *words: str) -> Command:
        """Start a command."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-Im", "phalanx.cli.main", room),
            *("--marathon", self._marathon.url, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.started.append(Command(process))
        return self.started[-1]

    async def run(self, room: str, *words: str) -> tuple[int, str, str]:
        """Run a command to its end."""
        return await (await self.start(room, *words)).end()


@pytest.fixture
async def shell(marathon: Marathon) -> AsyncIterator[Shell]:
    """Yield a shell; nothing that it started outlives it."""
    shell = Shell(marathon)
    yield shell
    for command in shell.started:
        command.stop()
        await command.end()


async def deploying(marathon: Marathon, app: dict[str, Any] = APP) -> str:
    """Create an app and return the id of its deployment, which waits for offers."""
    _, answer = await marathon.ask("POST", "/v2/apps", app)
    return str(answer["deployments"][0]["id"])


async def test_a_deployment_that_another_replaces_ends_with_an_error(
    marathon: Marathon, shell: Shell
) -> None:
    deployment = await deploying(marathon)
    watch = await shell.start("deployment", "watch", deployment)
    assert await watch.line() == f"deployment {deployment}\n"
    assert "0/1 running" in await watch.line()

    await marathon.ask("PUT", "/v2/apps/web?force=true", {"cmd": "y"})

    status, _, errors = await watch.end()
    assert status == 1
    assert f"deployment {deployment} ended before it was done: /web is of version" in errors


async def test_a_deployment_that_is_stopped_ends_with_an_error(
    marathon: Marathon, shell: Shell
) -> None:
    deployment = await deploying(marathon)
    watch = await shell.start("deployment", "watch", deployment, "--json")
    first = json.loads(await watch.line())

    await marathon.ask("DELETE", f"/v2/deployments/{deployment}?force=true")

    status, _, errors = await watch.end()
    assert (first["deployment"], first["steps"], first["apps"]) == (
        deployment, 2, ["/web 0/1 running"],
    )  # fmt: skip
    assert status == 1
    assert "ended before it was done: /web 0/1 running" in errors


async def test_a_deployment_that_is_done_ends_well(
    marathon: Marathon, master: FakeMaster, shell: Shell
) -> None:
    deployment = await deploying(marathon)
    watch = await shell.start("deployment", "watch", "--json")
    await watch.line()
    await master.offer("a1")
    [task] = await master.tasks(1)
    await master.update(task, "TASK_RUNNING")

    status, out, _ = await watch.end()

    assert status == 0
    assert json.loads(out.splitlines()[-1]) == {"deployment": deployment, "done": True}


async def test_a_deployment_that_is_not_there_is_an_error(shell: Shell) -> None:
    status, _, errors = await shell.run("deployment", "watch", "none")

    assert (status, errors) == (1, "phalanx deployment: DeploymentPlan none does not exist\n")


async def test_a_rollback_that_is_over_at_once_ends_well(marathon: Marathon, shell: Shell) -> None:
    deployment = await deploying(marathon)

    status, out, errors = await shell.run("deployment", "rollback", deployment)

    assert (status, errors) == (0, "")
    assert out.startswith("deployment ")
    assert out.endswith("\ndone\n")


OLD, NEW = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z"


def spec(name: str, running: int, version: str = OLD) -> dict[str, Any]:
    return {"id": name, "version": version, "instances": 3, "tasksRunning": running}


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param([spec("/a", 3)], [spec("/a", 3)], [], id="done"),
        pytest.param([spec("/a", 2)], [spec("/a", 3)], [], id="done-since"),
        pytest.param([spec("/a", 3)], [spec("/a", 2)], [], id="a-task-exits-at-the-end"),
        pytest.param([spec("/a", 0)], [spec("/a", 2)], ["/a 2/3 running"], id="stopped"),
        pytest.param([spec("/a", 0)], [], [], id="deleted"),
        pytest.param(
            [spec("/a", 3), spec("/b", 2)], [spec("/a", 2), spec("/b", 2)], ["/b 2/3 running"],
            id="one-of-two",
        ),
        pytest.param(
            [spec("/a", 3)], [spec("/a", 3, NEW)], [f"/a is of version {NEW} now"], id="overtaken"
        ),
    ],
)  # fmt: skip
def test_what_a_deployment_left_undone_was_missing_before_its_end_too(
    before: list[dict[str, Any]], now: list[dict[str, Any]], expected: list[str]
) -> None:
    assert unfinished({"version": OLD}, before, now) == expected


class LameDoor:
    """Leads to a Marathon, but leaves the first to come for each path without an answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.refused: list[str] = []

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one request, whose connection the client closes after it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path in self.refused:
                theirs, ours = await asyncio.open_connection("127.0.0.1", self._port)
                ours.write(head)
                writer.write(await theirs.read())
                ours.close()
            else:
                self.refused.append(path)
        writer.close()


async def test_a_marathon_that_is_not_heard_for_a_moment_ends_no_watch(
    marathon: Marathon, master: FakeMaster
) -> None:
    deployment = await deploying(marathon)
    door = LameDoor(int(marathon.url.rpartition(":")[2]))
    async with await asyncio.start_server(door.pass_on, "127.0.0.1", 0) as server:
        said: asyncio.Queue[Progress] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(now: Progress) -> None:
            loop.call_soon_threadsafe(said.put_nowait, now)

        following = asyncio.create_task(
            asyncio.to_thread(
                follow,
                f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
                deployment,
                tell,
                timeout_seconds=SECONDS,
            )
        )
        async with asyncio.timeout(SECONDS):
            first = await said.get()
            door.refused.clear()
            await master.offer("a1")
            [task] = await master.tasks(1)
            await master.update(task, "TASK_RUNNING")
            await following

    assert first.apps == ("/web 0/1 running",)
    assert door.refused == ["/v2/deployments", "/v2/apps/web"]


async def test_a_pod_that_waits_says_why(marathon: Marathon, shell: Shell) -> None:
    pod = {"id": "/pair", "containers": [{"name": "a", "exec": {"command": {"shell": "x"}}}]}
    await marathon.ask("POST", "/v2/pods", pod)
    await marathon.until("/v2/queue", lambda answer: len(answer["queue"]) == 1)

    _, out, _ = await shell.run("deployment", "list")
    _, shown, _ = await shell.run("app", "show", "pair")

    assert "/pair: 1 wait: no offers have come" in out
    assert "/pair: 1 wait: no offers have come" in shown


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("{", "app.json: Expecting property name", id="no-json"),
        pytest.param("5", "app.json: an app needs an id", id="a-number"),
        pytest.param("{}", "app.json: an app needs an id", id="without-id"),
        pytest.param('{"apps": []}', "app.json: a group needs an id", id="group-without-id"),
        pytest.param('{"id": "/A_b", "cmd": "x"}', "/id: must fully match", id="bad-id"),
        pytest.param('{"id": "/a", "cmd": "x", "cpus": "1", "mem": []}',
                     "/cpus: error.expected.jsnumber\n  /mem: error.expected.jsnumber",
                     id="wrong-types"),
        pytest.param('[{"id": "/a", "cmd": "x"}, {"id": "/b", "cmd": "x", "instances": -1}]',
                     "(1)/instances: got -1", id="second-of-a-list"),
        pytest.param('{"id": "/p", "containers": [{"name": "P"}]}',
                     "/containers(0)/name: must fully match", id="pod"),
    ],
)  # fmt: skip
async def test_a_bad_file_is_an_error_with_its_place(
    shell: Shell, tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "app.json"
    file.write_text(text)

    status, out, errors = await shell.run("app", "deploy", str(file))

    assert (status, out) == (1, "")
    assert words in errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "none"], "App '/none' does not exist"),
        (["scale", "none", "2"], "App '/none' does not exist"),
        (["restart", "none"], "App '/none' does not exist"),
        (["delete", "none"], "App '/none' does not exist"),
        (["delete", "--pod", "none"], "Pod '/none' does not exist"),
        (["delete", "--group", "none"], "Group '/none' does not exist"),
        (["logs", "none"], "App '/none' does not exist"),
        (["deploy", "/none.json"], "/none.json: No such file"),
    ],
)
async def test_what_is_not_there_is_an_error(shell: Shell, words: list[str], expected: str) -> None:
    status, _, errors = await shell.run("app", *words)

    assert status == 1
    assert expected in errors


async def test_a_reader_that_goes_away_is_no_error_to_tell(marathon: Marathon) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-Im", "phalanx.cli.main", "app"),
        *("--marathon", marathon.url, "list", "--json"),
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(theirs)

    async with asyncio.timeout(SECONDS):
        _, errors = await process.communicate()

    assert (process.returncode, errors) == (141, b"")
