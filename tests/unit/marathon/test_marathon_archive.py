"""``DELETE /v2/leader`` with ``backup`` and ``restore``: the state in a file, and back."""

from __future__ import annotations

import gzip
from base64 import b64encode
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from phalanx.core.error import InvalidError
from phalanx.core.store.memory import MemoryStore
from phalanx.marathon.ledger.archive import Archives

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.unit.marathon.conftest import FakeMaster, Marathon

    Start = Callable[[], AbstractAsyncContextManager[Marathon]]


def app(id: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "cmd": "x", "cpus": 0.1, "mem": 1, **more}


def damaged(archive: bytes) -> bytes:
    """Return *archive* with its compressed part begun by a block of no known kind."""
    header = 10  # bytes, without a name in it
    return archive[:header] + b"\xff" + archive[header + 1 :]


async def test_what_was_backed_up_is_restored_by_whoever_leads_next(
    master: FakeMaster, start: Start, tmp_path: Path
) -> None:
    long = b64encode(Random(1).randbytes(600_000)).decode()  # more than a row of the store takes
    file = tmp_path / "work" / "backup" / "monday"
    pod = {"id": "/pair", "containers": [{"name": "a", "exec": {"command": {"shell": "x"}}}]}
    async with start() as marathon:
        await master.subscribed()
        await marathon.ask("POST", "/v2/apps", app("/kept", env={"LONG": long}))
        await master.next("REVIVE")
        await master.offer("a1")
        [task] = await master.tasks(1)
        await master.update(task, "TASK_RUNNING")
        before = await marathon.until("/v2/apps/kept", lambda a: a["app"]["tasksRunning"] == 1)
        await marathon.ask("POST", "/v2/pods", pod)
        await marathon.ask("PUT", "/v2/groups/g", {"dependencies": ["/kept"]})
        _, versions = await marathon.ask("GET", "/v2/apps/kept/versions")
        kept = await marathon.ask("DELETE", "/v2/leader?backup=monday")
        await marathon.ask("DELETE", "/v2/apps/kept")
        await marathon.ask("POST", "/v2/apps", app("/later"))
        asked = await marathon.ask("DELETE", f"/v2/leader?restore=file://{file}")

    assert kept == asked == (200, {"message": "Leadership abdicated"})
    assert file.stat().st_mode & 0o777 == 0o600
    async with start() as marathon:
        _, after = await marathon.ask("GET", "/v2/apps/kept")
        _, apps = await marathon.ask("GET", "/v2/apps")
        _, group = await marathon.ask("GET", "/v2/groups/g")
        _, again = await marathon.ask("GET", "/v2/apps/kept/versions")
        _, pods = await marathon.ask("GET", "/v2/pods")

    assert [one["id"] for one in apps["apps"]] == ["/kept"]
    assert after["app"]["env"] == before["app"]["env"]
    assert [one["id"] for one in after["app"]["tasks"]] == [task.task_id.value]
    assert again == versions
    assert group["dependencies"] == ["/kept"]
    assert [one["id"] for one in pods] == ["/pair"]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.unlink(), id="gone"),
        pytest.param(lambda file: file.write_bytes(damaged(file.read_bytes())), id="damaged"),
    ],
)
async def test_a_restore_happens_once_and_needs_its_file(
    master: FakeMaster, start: Start, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    async with start() as marathon:
        await master.subscribed()
        await marathon.ask("DELETE", "/v2/leader?backup=empty")
        await marathon.ask("POST", "/v2/apps", app("/a"))
        await marathon.ask("DELETE", "/v2/leader?restore=empty")
    spoil(tmp_path / "work" / "backup" / "empty")
    found = []
    for _ in range(2):
        async with start() as marathon:
            _, answer = await marathon.ask("GET", "/v2/apps")
            found.append([one["id"] for one in answer["apps"]])

    assert found == [["/a"], ["/a"]]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("restore=none", "No such file"),
        ("restore=garbage", "is no archive"),
        ("restore=damaged", "is no archive"),
        ("restore=torn", "is no archive"),
        ("restore=strange", "is no key of ours"),
        ("backup=../outside", "is not in"),
        ("backup=/etc/passwd", "is not in"),
        ("backup=file:///etc/passwd", "is not in"),
        ("backup=http://host/x", "is neither a file:/// URI nor a name"),
        ("backup=file://host/x", "is neither a file:/// URI nor a name"),
        ("backup=", "is neither a file:/// URI nor a name"),
        ("backup=a%2500b", "is neither a file:/// URI nor a name"),
        ("backup=a%00b", "is neither a file:/// URI nor a name"),
        ("restore=//[x", "is neither a file:/// URI nor a name"),
        ("backup=dir", "Is a directory"),
    ],
)
async def test_what_is_no_archive_is_refused(
    marathon: Marathon, tmp_path: Path, query: str, words: str
) -> None:
    directory = tmp_path / "work" / "backup"
    (directory / "dir").mkdir(parents=True)
    (directory / "garbage").write_bytes(b"x")
    (directory / "damaged").write_bytes(damaged(gzip.compress(b"x" * 100)))
    (directory / "torn").write_bytes(gzip.compress(b"x" * 100)[:-9])
    (directory / "strange").write_bytes(gzip.compress(b'["other/x","eA=="]'))

    status, answer = await marathon.ask("DELETE", f"/v2/leader?{query}")

    assert status == 400
    assert words in answer["message"]


def test_without_a_directory_there_are_no_archives() -> None:
    with pytest.raises(InvalidError, match="need --backup-location"):
        Archives(None, MemoryStore()).file_of("x")
