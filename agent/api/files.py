"""Sandboxes and the log over HTTP: ``/files/*``, LIST_FILES, READ_FILE (reference mesos §3.4)."""

import asyncio
import grp
import os
import pwd
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page
from phalanx.mesos.v1.mesos import FileInfo, TimeInfo

PAGE_BYTES = 16 * 4096  # the most that one read returns
LATEST = "latest"

Places = Callable[[], Mapping[str, Path]]


class Files:
    """Real files and directories by the paths that clients name them with.

    *places* is asked anew each time: sandboxes come and go.
    """

    def __init__(self, places: Places) -> None:
        self.places = places

    def resolve(self, path: str) -> Path:
        """Return the real path; raise NotFoundError, without words as Mesos does.

        Nothing outside of the places is there, whatever links say.
        """
        wanted = "/" + path.strip("/")
        places = self.places()
        virtual = wanted
        while virtual not in places:
            virtual = virtual.rpartition("/")[0]
            if not virtual:
                raise NotFoundError
        home = places[virtual].resolve()
        found = (home / wanted[len(virtual) :].lstrip("/")).resolve()
        if not found.is_relative_to(home) or not found.exists():
            raise NotFoundError
        return found

    def browse(self, path: str) -> tuple[FileInfo, ...]:
        """Return what is in a directory, by name; a file has nothing in it."""
        real = self.resolve(path)
        if not real.is_dir():
            return ()
        head = path.rstrip("/")
        return tuple(_info(child, f"{head}/{child.name}") for child in sorted(real.iterdir()))

    def read(self, path: str, offset: int, length: int | None) -> tuple[int, bytes]:
        """Return a file's size and at most ``PAGE_BYTES`` of it; raise NotFoundError."""
        real = self.resolve(path)
        if real.is_dir():
            raise InvalidError("Cannot read a directory.\n")
        with real.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(min(offset, size))
            return size, file.read(PAGE_BYTES if length is None else min(length, PAGE_BYTES))


FILES: web.AppKey[Files] = web.AppKey("files", Files)


def sandbox_places(sandboxes: Mapping[tuple[str, str], list[Path]]) -> dict[str, Path]:
    """Return the virtual paths of sandboxes, oldest run first for each framework and executor.

    Each is known by its own path, the last run as ``latest`` beside it, and below
    ``/frameworks``, where links need not know the agent.
    """
    places = {}
    for (framework, executor), runs in sandboxes.items():
        for run in runs:
            places[str(run)] = run
        last = runs[-1]
        places[str(last.parent / LATEST)] = last
        places[f"/frameworks/{framework}/executors/{executor}/runs/{LATEST}"] = last
    return places


def pages() -> list[Page]:
    """Return the pages of files."""
    return [
        Page("/files/browse", browse, is_exact=True),
        Page("/files/read", read, is_exact=True),
        Page("/files/download", download, is_exact=True),
        Page("/files/debug", debug, is_exact=True),
    ]


async def browse(request: web.Request) -> web.Response:
    """List a directory."""
    found = await asyncio.to_thread(request.app[FILES].browse, _path(request))
    return json_answer([_listed(info) for info in found])


async def read(request: web.Request) -> web.Response:
    """Return part of a file; without an offset, or with -1, how long it is."""
    path = _path(request)
    offset, length = _number(request, "offset"), _number(request, "length")
    if offset < -1:
        raise InvalidError(f"Negative offset provided: {offset}.\n")
    if length < -1:
        raise InvalidError(f"Negative length provided: {length}.\n")
    files = request.app[FILES]
    if offset == -1:
        size, _ = await asyncio.to_thread(files.read, path, 0, 0)
        return json_answer({"data": "", "offset": size})
    wanted = None if length == -1 else length
    _, data = await asyncio.to_thread(files.read, path, offset, wanted)
    return json_answer({"data": data.decode(errors="replace"), "offset": offset})


async def download(request: web.Request) -> web.StreamResponse:
    """Send a whole file."""
    path = request.app[FILES].resolve(_path(request))
    if path.is_dir():
        raise InvalidError("Cannot download a directory.\n")
    headers = {
        "Content-Disposition": f'attachment; filename="{path.name}"',
        "Content-Type": "application/octet-stream",
    }
    return web.FileResponse(path, headers=headers)


async def debug(request: web.Request) -> web.Response:
    """Tell which real path each virtual one stands for."""
    places = request.app[FILES].places()
    return json_answer({virtual: str(places[virtual]) for virtual in sorted(places)})


def _path(request: web.Request) -> str:
    path = request.query.get("path")
    if not path:
        raise InvalidError("Expecting 'path=value' in query.\n")
    return path


def _number(request: web.Request, key: str) -> int:
    text = request.query.get(key, "-1")
    try:
        return int(text)
    except ValueError as error:
        words = f"Failed to parse {key}: Failed to convert '{text}' to number.\n"
        raise InvalidError(words) from error


def _listed(info: FileInfo) -> dict[str, Any]:
    return {
        "gid": info.gid,
        "mode": stat.filemode(info.mode or 0),
        "mtime": (info.mtime.nanoseconds if info.mtime is not None else 0) // 1_000_000_000,
        "nlink": info.nlink,
        "path": info.path,
        "size": info.size,
        "uid": info.uid,
    }


def _info(real: Path, path: str) -> FileInfo:
    facts = real.lstat()
    return FileInfo(
        path=path,
        nlink=facts.st_nlink,
        size=facts.st_size,
        mtime=TimeInfo(nanoseconds=int(facts.st_mtime) * 1_000_000_000),
        mode=facts.st_mode,
        uid=_user(facts.st_uid),
        gid=_group(facts.st_gid),
    )


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
