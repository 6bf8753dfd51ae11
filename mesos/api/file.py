"""Files of a daemon over HTTP: ``/files/*`` (reference mesos §3.4)."""

import asyncio
import stat
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page
from phalanx.mesos.file import VirtualFiles
from phalanx.mesos.v1.mesos import FileInfo

FILES: web.AppKey[VirtualFiles] = web.AppKey("files", VirtualFiles)


def pages(*, is_open: bool = False) -> list[Page]:
    """Return the pages of files; open ones are answered by masters that do not lead, too."""
    return [
        Page("/files/browse", browse, is_open=is_open),
        Page("/files/read", read, is_open=is_open),
        Page("/files/download", download, is_open=is_open),
        Page("/files/debug", debug, is_open=is_open),
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
    files, path = request.app[FILES], _path(request)
    try:
        place = await asyncio.to_thread(files.resolve, path)
    except NotFoundError as error:
        raise web.HTTPNotFound from error  # with words, other than the pages above
    if place.is_dir():
        raise InvalidError("Cannot download a directory.\n")
    name = quote(PurePosixPath(path).name, safe=" !#$&'()+,;=@[]^`{}~")
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Type": "application/octet-stream",
    }
    with files.opened(path) as descriptor:
        answer = _Sent(f"/proc/self/fd/{descriptor}", headers=headers)
        await answer.prepare(request)  # all of it is sent
    return answer


class _Sent(web.FileResponse):
    """A file that was sent while it was open: whoever gets the answer must not open it again."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it, once."""
        return None if self.prepared else await super().prepare(request)


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
