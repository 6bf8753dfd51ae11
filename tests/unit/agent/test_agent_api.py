"""The agent's own pages: what files are shown under which paths, and what resources look like."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from phalanx.agent.api.form import amounts_form, by_role_form, by_role_full, full_form
from phalanx.agent.api.metrics import resource_metrics
from phalanx.agent.sandbox import sandbox_places
from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import InvalidError, NotFoundError
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.api.answer import errors_in_words
from phalanx.mesos.api.file import FILES, pages
from phalanx.mesos.api.route import Pages, attach
from phalanx.mesos.api.system import VERBOSITY
from phalanx.mesos.api.system import pages as system_pages
from phalanx.mesos.file import PAGE_BYTES, VirtualFiles
from phalanx.mesos.machine import machine_metrics
from phalanx.mesos.resources import Resources


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of one executor, the second the last."""
    base = tmp_path / "slaves" / "S0" / "frameworks" / "f" / "executors" / "e" / "runs"
    for name in ("r1", "r2"):
        (base / name / "tasks").mkdir(parents=True)
        (base / name / "stdout").write_text(name)
    return base / "r1", base / "r2"


@pytest.fixture
def files(runs: tuple[Path, Path]) -> VirtualFiles:
    return VirtualFiles(lambda: sandbox_places({("f", "e"): [run for run in runs if run.is_dir()]}))


def test_a_sandbox_is_known_by_its_path_and_by_latest(
    files: VirtualFiles, runs: tuple[Path, Path]
) -> None:
    first, last = runs
    for path, said in (
        (f"{first}/stdout", b"r1"),
        (f"{last}/stdout", b"r2"),
        (f"{last.parent}/latest/stdout", b"r2"),
        ("/frameworks/f/executors/e/runs/latest/stdout", b"r2"),
    ):
        assert files.read(path, 0, None) == (2, said)


def test_links_inside_a_sandbox_are_followed_and_none_leads_out(
    files: VirtualFiles, runs: tuple[Path, Path]
) -> None:
    """A task's directory of a pod is a link to its container's."""
    _, last = runs
    (last / "containers" / "n").mkdir(parents=True)
    (last / "containers" / "n" / "stdout").write_text("nested")
    (last / "tasks" / "t").symlink_to("../containers/n")
    (last / "out").symlink_to("/etc/passwd")

    assert files.read(f"{last}/tasks/t/stdout", 0, None)[1] == b"nested"
    for path in (f"{last}/out", f"{last}/../../x", "/etc/passwd", "/", f"{last.parent}", "/none"):
        with pytest.raises(NotFoundError):
            files.resolve(path)


def test_only_regular_files_are_read(files: VirtualFiles, runs: tuple[Path, Path]) -> None:
    """A pipe would hang who reads it; a device that a task makes is the machine's."""
    last = runs[1]
    os.mkfifo(last / "pipe")
    os.mknod(last / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))

    for name in ("pipe", "null"):
        with pytest.raises(InvalidError, match="what is no file"):
            files.read(f"{last}/{name}", 0, None)


@pytest.mark.parametrize("name", ["circle", "zero\0byte", "long" * 100, "stdout/below", "dangling"])
def test_what_can_not_be_there_is_not_found(
    files: VirtualFiles, runs: tuple[Path, Path], name: str
) -> None:
    (runs[1] / "circle").symlink_to("circle")
    (runs[1] / "dangling").symlink_to("nowhere")

    with pytest.raises(NotFoundError):
        files.read(f"{runs[1]}/{name}", 0, None)


def test_who_swaps_a_file_for_a_link_is_not_followed(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """The look at a path and its opening are two moments; a task may write in between."""
    (tmp_path / "secret").write_text("secret")
    out, inside = runs[1] / "out", runs[1] / "inside"
    inside.mkdir()
    (inside / "secret").write_text("plain")

    class Swapped(VirtualFiles):
        def resolve(self, path: str) -> Path:
            found = super().resolve(path)
            inside.rename(out)
            inside.symlink_to(tmp_path)
            return found

    files = Swapped(lambda: {"/s": runs[1]})
    with pytest.raises(NotFoundError):
        files.read("/s/inside/secret", 0, None)


def test_what_was_collected_is_gone(files: VirtualFiles, runs: tuple[Path, Path]) -> None:
    (runs[0] / "stdout").unlink()
    (runs[0] / "tasks").rmdir()
    runs[0].rmdir()

    with pytest.raises(NotFoundError):
        files.resolve(str(runs[0]))


def test_a_listing_has_what_ls_tells(files: VirtualFiles, runs: tuple[Path, Path]) -> None:
    found = {info.path: info for info in files.browse(str(runs[0]))}

    assert sorted(found) == [f"{runs[0]}/stdout", f"{runs[0]}/tasks"]
    assert found[f"{runs[0]}/stdout"].size == 2
    assert found[f"{runs[0]}/stdout"].uid == "root"


@pytest.fixture
async def url(files: VirtualFiles) -> AsyncIterator[str]:
    app = web.Application(middlewares=[errors_in_words])
    app[FILES], app[VERBOSITY] = files, Verbosity()
    attach(app, Pages("slave(1)", [*pages(), *system_pages()]))
    async with serve(app, Listener("127.0.0.1", 0)) as bound:
        [here] = bound
        assert isinstance(here, Listener)
        yield f"http://127.0.0.1:{here.port}"
    app[VERBOSITY].reset()


@pytest.mark.parametrize(
    ("query", "status", "answer"),
    [
        ("path=P/stdout&offset=0", 200, {"data": "r2", "offset": 0}),
        ("path=P/stdout&offset=1&length=1", 200, {"data": "2", "offset": 1}),
        ("path=P/stdout&offset=0&length=-1", 200, {"data": "r2", "offset": 0}),
        ("path=P/stdout&offset=-1", 200, {"data": "", "offset": 2}),
        ("path=P/stdout", 200, {"data": "", "offset": 2}),
        ("path=P/stdout&offset=99", 200, {"data": "", "offset": 99}),
        ("path=P/none&offset=0", 404, None),
        ("offset=0", 400, None),
        ("path=P/stdout&offset=x", 400, None),
        ("path=P/stdout&offset=-2", 400, None),
        ("path=P/stdout&offset=0&length=-2", 400, None),
        ("path=P&offset=0", 400, None),
    ],
)
async def test_files_are_read_by_pages(
    url: str, runs: tuple[Path, Path], query: str, status: int, answer: object
) -> None:
    target = f"{url}/files/read?{query.replace('P', str(runs[1]))}"
    async with aiohttp.ClientSession() as session, session.get(target) as response:
        assert response.status == status
        if answer is not None:
            assert await response.json() == answer


async def test_one_read_returns_a_page_at_most(url: str, runs: tuple[Path, Path]) -> None:
    (runs[0] / "big").write_bytes(b"x" * (PAGE_BYTES + 10))
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/files/read?path={runs[0]}/big&offset=0") as response:
            assert len((await response.json())["data"]) == PAGE_BYTES
        async with session.get(f"{url}/files/download?path={runs[0]}/big") as response:
            assert len(await response.read()) == PAGE_BYTES + 10
            assert response.headers["Content-Disposition"] == 'attachment; filename="big"'
        async with session.get(f"{url}/files/download?path={runs[0]}") as response:
            assert response.status == 400
        (runs[0] / 'a"\nb').write_text("odd")
        odd = {"path": f'{runs[0]}/a"\nb'}
        async with session.get(f"{url}/files/download", params=odd) as response:
            assert await response.text() == "odd"
            assert response.headers["Content-Disposition"] == 'attachment; filename="a%22%0Ab"'
        os.mkfifo(runs[0] / "pipe")
        async with session.get(f"{url}/files/download?path={runs[0]}/pipe") as response:
            assert response.status == 400
        async with session.get(f"{url}/files/browse?path={runs[0]}") as response:
            listed = {item["path"]: item for item in await response.json()}
            assert listed[f"{runs[0]}/big"]["mode"] == "-rw-r--r--"
        async with session.get(f"{url}/files/debug") as response:
            assert str(runs[0]) in await response.json()


async def test_the_log_level_is_told_and_raised(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/logging/toggle?level=1&duration=1mins") as response:
            assert response.status == 200
        async with session.get(f"{url}/logging/toggle") as response:
            assert await response.text() == "1\n"
        for query in ("level=1", "duration=1mins", "level=x&duration=1mins", "level=1&duration=y"):
            async with session.get(f"{url}/logging/toggle?{query}") as response:
                assert response.status == 400
        async with session.get(f"{url}/system/stats.json") as response:
            assert (await response.json())["cpus_total"] == os.cpu_count()


def test_a_directory_is_not_read(files: VirtualFiles, runs: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidError):
        files.read(str(runs[0]), 0, None)


def test_amounts_are_shown_by_role() -> None:
    total = Resources.parse("cpus:3;cpus(web):1;mem:64;ports:[1-2,5-6];kinds:{b,a}")

    assert amounts_form(total) == {
        **{"disk": 0.0, "mem": 64.0, "gpus": 0.0, "cpus": 4.0},
        **{"ports": "[1-2, 5-6]", "kinds": "{a, b}"},
    }
    assert by_role_form(total)["web"]["cpus"] == 1.0
    assert list(by_role_full(total)) == ["web"]
    assert {item["role"] for item in full_form(total.unreserved)} == {"*"}


def test_metrics_have_totals_and_shares() -> None:
    found = resource_metrics("", Resources.parse("cpus:4;mem:64"), Resources.parse("cpus:1"))

    assert found["slave/cpus_percent"] == 0.25
    assert found["slave/gpus_percent"] == 0.0
    assert machine_metrics()["system/cpus_total"] == os.cpu_count()
