"""The fetcher for real: servers, archives, users, a cache, a full disk."""

import asyncio
import gzip
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from aiohttp import web

from phalanx.agent.bundle.spec import User
from phalanx.agent.container.user import find_user
from phalanx.agent.fetch.fetcher import Fetcher, FetchWays
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import URI

ROOT = User()


class Server:
    """Pages over HTTP, and how often each was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.base = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            self.asked.append(request.path)
        if request.path == "/moved":
            raise web.HTTPFound("/file")
        if request.path == "/slow":
            stream = web.StreamResponse(headers={"Content-Length": "10"})
            await stream.prepare(request)
            await asyncio.Event().wait()
        if request.path not in self.pages:
            raise web.HTTPNotFound()
        return web.Response(body=self.pages[request.path])

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Server"]:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        self.base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().serve() as serving:
        yield serving


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every user can reach."""
    with tempfile.TemporaryDirectory(prefix="phxtest-fetch-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "sandbox").mkdir()
        yield place


Fetch = Callable[..., "asyncio.Future[None]"]


def fetcher(base: Path, **ways: object) -> Fetcher:
    return Fetcher(FetchWays(base / "cache", **ways))  # type: ignore[arg-type]  # fields by name


async def fetch(made: Fetcher, base: Path, *uris: URI, name: str = "root") -> Path:
    sandbox = base / "sandbox"
    user = find_user(name)
    os.chown(sandbox, user.uid, user.gid)
    await made.fetch("c1", uris, sandbox, name, user)
    return sandbox


def tar(files: dict[str, bytes], mode: Literal["w", "w:gz", "w:bz2", "w:xz"]) -> bytes:
    return tar_of([(name, content) for name, content in files.items()], mode)


def tar_of(
    files: list[tuple[str, bytes | str]], mode: Literal["w", "w:gz", "w:bz2", "w:xz"] = "w"
) -> bytes:
    """Make an archive of files, and of links where the content is text."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode=mode) as archive:
        for name, content in files:
            if isinstance(content, str):
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, content
                archive.addfile(link)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    return zip_of([(name, content) for name, content in files.items()])


def zip_of(files: list[tuple[str, bytes | str]]) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if isinstance(content, str) else 0o100755) << 16
            archive.writestr(entry, content)
    return whole.getvalue()


async def test_files_come_by_http_by_url_and_by_path(server: Server, base: Path) -> None:
    server.pages["/file"] = b"one"
    (base / "two").write_bytes(b"two")
    home = base / "home"
    home.mkdir()
    (home / "three").write_bytes(b"three")

    sandbox = await fetch(
        fetcher(base, frameworks_home=str(home)),
        base,
        URI(value=f"{server.base}/moved", output_file="deep/er/one"),
        URI(value=f"file://{base}/two", executable=True),
        URI(value="three"),
    )

    assert (sandbox / "deep" / "er" / "one").read_bytes() == b"one"
    assert (sandbox / "two").stat().st_mode & 0o777 == 0o755
    assert (sandbox / "three").read_bytes() == b"three"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tar", tar({"d/f": b"x"}, "w")),
        ("a.tgz", tar({"d/f": b"x"}, "w:gz")),
        ("a.tar.bz2", tar({"d/f": b"x"}, "w:bz2")),
        ("a.txz", tar({"d/f": b"x"}, "w:xz")),
        ("a.zip", zipped({"d/f": b"x"})),
    ],
)
@pytest.mark.parametrize("is_cached", [False, True])
async def test_archives_are_unpacked(
    server: Server, base: Path, name: str, content: bytes, is_cached: bool
) -> None:
    server.pages[f"/{name}"] = content

    sandbox = await fetch(fetcher(base), base, URI(value=f"{server.base}/{name}", cache=is_cached))

    assert (sandbox / "d" / "f").read_bytes() == b"x"
    assert (sandbox / "d" / "f").stat().st_mode & 0o700 == 0o700


async def test_gzip_alone_is_unpacked_beside_itself(base: Path) -> None:
    (base / "log.gz").write_bytes(gzip.compress(b"text"))

    sandbox = await fetch(fetcher(base), base, URI(value=str(base / "log.gz")))

    assert (sandbox / "log").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.tar", tar({"../../escaped": b"x"}, "w"), id="tar"),
        pytest.param("a.zip", zipped({"../../escaped": b"x"}), id="zip"),
    ],
)
async def test_what_an_archive_would_put_elsewhere_is_refused(
    base: Path, name: str, content: bytes
) -> None:
    (base / name).write_bytes(content)

    with pytest.raises(ContainerError, match="outside"):
        await fetch(fetcher(base), base, URI(value=str(base / name)))

    assert not (base.parent / "escaped").exists()
    assert not (base / "escaped").exists()


@pytest.mark.parametrize(("name", "pack"), [("a.tar", tar_of), ("a.zip", zip_of)])
async def test_a_link_may_lead_anywhere_but_nothing_is_unpacked_through_it(
    base: Path, name: str, pack: Callable[[list[tuple[str, bytes | str]]], bytes]
) -> None:
    """An archive of a Python environment has links to the machine's interpreter."""
    (base / "away").mkdir()
    (base / name).write_bytes(pack([("bin/python", "/usr/bin/python3"), ("lib/x", b"x")]))
    sandbox = await fetch(fetcher(base), base, URI(value=str(base / name)))
    assert (sandbox / "bin" / "python").readlink() == Path("/usr/bin/python3")

    for through, link in (("out/file", f"{base}/away"), ("out", f"{base}/away/f")):
        (base / name).write_bytes(pack([("out", link)]))
        await fetch(fetcher(base), base, URI(value=str(base / name)))
        (base / name).write_bytes(pack([(through, b"x")]))
        with pytest.raises(ContainerError, match="outside"):
            await fetch(fetcher(base), base, URI(value=str(base / name)))
        (sandbox / "out").unlink()

    assert not list((base / "away").iterdir())


@pytest.mark.parametrize(
    ("path", "seconds", "words"),
    [
        pytest.param("/nothing", 60.0, "nothing: 404 Not Found", id="status"),
        pytest.param("/slow", 0.5, "nothing came for 0.5 s", id="stalls"),
    ],
)
async def test_a_failure_is_told_with_its_uri(
    server: Server, base: Path, path: str, seconds: float, words: str
) -> None:
    with pytest.raises(
        ContainerError, match=f"Failed to fetch all URIs for container 'c1'.*{words}"
    ):
        await fetch(fetcher(base, stall_seconds=seconds), base, URI(value=server.base + path))


async def test_what_is_no_archive_is_said_to_be_none(base: Path) -> None:
    (base / "a.tgz").write_bytes(b"not packed at all")

    with pytest.raises(ContainerError, match=r"a\.tgz: is no archive"):
        await fetch(fetcher(base), base, URI(value=str(base / "a.tgz")))


async def test_files_are_fetched_as_the_user_and_belong_to_him(server: Server, base: Path) -> None:
    server.pages["/file"] = b"one"
    secret = base / "secret"
    secret.write_bytes(b"root's own")
    secret.chmod(0o600)
    nobody = find_user("nobody")

    sandbox = await fetch(fetcher(base), base, URI(value=f"{server.base}/file"), name="nobody")
    with pytest.raises(ContainerError, match="secret: Permission denied"):
        await fetch(fetcher(base), base, URI(value=str(secret)), name="nobody")

    assert (sandbox / "file").stat().st_uid == nobody.uid
    assert not (sandbox / "secret").exists()


async def test_a_cached_uri_comes_once_for_all_who_ask_at_once(server: Server, base: Path) -> None:
    server.pages["/file"] = b"one"
    made = fetcher(base)
    sandboxes = [base / f"s{number}" for number in range(4)]
    for sandbox in sandboxes:
        sandbox.mkdir()
    uri = URI(value=f"{server.base}/file", cache=True)

    await asyncio.gather(*(made.fetch(s.name, [uri], s, "root", ROOT) for s in sandboxes))

    assert [(sandbox / "file").read_bytes() for sandbox in sandboxes] == [b"one"] * 4
    assert server.asked == ["/file"]
    assert made.cache_used_bytes == 3


async def test_the_cache_lets_go_of_the_oldest_and_is_passed_by(server: Server, base: Path) -> None:
    for name in ("a", "b", "big"):
        server.pages[f"/{name}"] = name.encode() * 4
    made = fetcher(base, cache_bytes=7)

    for name in ("a", "b", "a", "big"):
        await fetch(made, base, URI(value=f"{server.base}/{name}", cache=True))

    assert server.asked == ["/a", "/b", "/a", "/big"]
    assert made.cache_used_bytes == 4
    assert len(list((base / "cache" / "root").iterdir())) == 1
    assert (base / "sandbox" / "big").read_bytes() == b"big" * 4


async def test_a_full_disk_is_told_and_the_cache_stays_whole(server: Server, base: Path) -> None:
    place = base / "small"
    place.mkdir()
    await asyncio.to_thread(
        subprocess.run, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=True
    )
    server.pages["/big"] = b"x" * 2 * 1024 * 1024
    try:
        made = Fetcher(FetchWays(place / "cache"))
        with pytest.raises(ContainerError, match="big: No space left on device"):
            await fetch(made, base, URI(value=f"{server.base}/big", cache=True))

        assert made.cache_used_bytes == 0
        assert not list((place / "cache" / "root").iterdir())
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(place)], check=True)


async def test_a_fetch_that_nobody_wants_any_more_ends(server: Server, base: Path) -> None:
    task = asyncio.create_task(fetch(fetcher(base), base, URI(value=f"{server.base}/slow")))
    async with asyncio.timeout(60.0):
        while not server.asked:  # noqa: ASYNC110 - another process asks
            await asyncio.sleep(0.01)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    shutil.rmtree(base / "sandbox")
    (base / "sandbox").mkdir()
