"""A disk that is full: what is known is told, what can't be written is refused, nothing is lost."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.marathon.conftest import running_marathon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster

APP: dict[str, Any] = {
    "id": "/job", "cmd": "x", "cpus": 0.1, "mem": 32, "portDefinitions": [], "backoffSeconds": 0,
}  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield where a small file system is mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as whole:
        try:
            while True:
                whole.write(bytes(4096))
        except OSError:
            return


def acknowledged(master: FakeMaster) -> set[bytes | None]:
    return {call.acknowledge.uuid for call in master.of("ACKNOWLEDGE") if call.acknowledge}


async def test_a_full_disk_stops_changes_alone(master: FakeMaster, disk: Path) -> None:
    large = {**APP, "id": "/other", "env": {str(n): f"{n * 7919}" for n in range(20_000)}}
    async with running_marathon(master, disk / "work") as marathon:
        await marathon.ask("POST", "/v2/apps", {**APP, "instances": 2})
        await master.next("REVIVE")
        await master.offer("a1")
        first, second = await master.tasks(2)
        for task in (first, second):
            await master.update(task, "TASK_RUNNING")
        await marathon.until("/v2/deployments", lambda answer: answer == [])
        fill(disk / "other")

        failed = await master.update(first, "TASK_FAILED")
        told = {await master.update(second, "TASK_RUNNING")}
        while not told & acknowledged(master):  # nothing to write, but perhaps taken together
            told.add(await master.update(second, "TASK_RUNNING"))
            await marathon.ask("GET", "/ping")
        status, answer = await marathon.ask("POST", "/v2/apps", large)
        _, listed = await marathon.ask("GET", "/v2/apps")
        assert failed not in acknowledged(master)
        assert status == 503
        assert "full" in answer["message"]
        assert [app["id"] for app in listed["apps"]] == ["/job"]

        (disk / "other").unlink()
        await master.update(first, "TASK_FAILED")  # as agents do until it is acknowledged
        await master.next("REVIVE", seen=1)
        await master.offer("a1")
        replacement = (await master.tasks(3))[-1]
        await master.update(replacement, "TASK_RUNNING")
        await marathon.until("/v2/apps/job", lambda answer: answer["app"]["tasksRunning"] == 2)
        assert (await marathon.ask("POST", "/v2/apps", large))[0] == 201

    async with running_marathon(master, disk / "work") as marathon:
        _, tasks = await marathon.ask("GET", "/v2/apps/job/tasks")
        _, listed = await marathon.ask("GET", "/v2/apps")

    assert {task["id"] for task in tasks["tasks"]} == {
        task.task_id.value for task in (second, replacement)
    }
    assert [app["id"] for app in listed["apps"]] == ["/job", "/other"]
