"""Sandboxes over HTTP: ``/files/browse``, ``/files/read``, ``/files/download``."""

import grp
import pwd
import stat
from pathlib import Path
from typing import Any

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError

PAGE_BYTES = 16 * 4096
ROOT: web.AppKey[Path] = web.AppKey("files_root", Path)


def resolve(root: Path, text: str | None) -> Path:
    """Return the file that a query names; raise InvalidError, NotFoundError.

    Nothing outside of the sandboxes is there, whatever links say.
    """
    if not text:
        raise InvalidError("Expecting 'path=value' in query.")
    path = Path(text).resolve()
    if not path.is_relative_to(root.resolve()) or not path.exists():
        raise NotFoundError(f"path: {text!r}: is not there")
    return path


def file_form(path: Path) -> dict[str, Any]:
    """Return one file as ``/files/browse`` has it."""
    facts = path.lstat()
    return {
        "path": str(path),
        "mode": stat.filemode(facts.st_mode),
        "nlink": facts.st_nlink,
        "uid": _user(facts.st_uid),
        "gid": _group(facts.st_gid),
        "size": facts.st_size,
        "mtime": facts.st_mtime,
    }


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


async def browse(request: web.Request) -> web.Response:
    """List a directory."""
    path = resolve(request.app[ROOT], request.query.get("path"))
    if not path.is_dir():
        return web.json_response([])
    return web.json_response([file_form(child) for child in sorted(path.iterdir())])


async def read(request: web.Request) -> web.Response:
    """Return part of a file; an offset of -1 asks how long it is."""
    path = resolve(request.app[ROOT], request.query.get("path"))
    if path.is_dir():
        raise InvalidError("Cannot read from a directory.")
    try:
        offset = int(request.query.get("offset", "-1"))
        length = int(request.query.get("length", str(PAGE_BYTES)))
    except ValueError as error:
        raise InvalidError(f"offset, length: {error}") from error
    if offset < -1 or length < -1:
        raise InvalidError(f"Negative offset or length provided: {offset}, {length}")
    if offset == -1:
        return web.json_response({"data": "", "offset": path.stat().st_size})
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(min(length, PAGE_BYTES) if length >= 0 else PAGE_BYTES)
    return web.json_response({"data": data.decode(errors="replace"), "offset": offset})


async def download(request: web.Request) -> web.FileResponse:
    """Send a whole file."""
    path = resolve(request.app[ROOT], request.query.get("path"))
    if path.is_dir():
        raise InvalidError("Cannot download a directory.")
    disposition = {"Content-Disposition": f'attachment; filename="{path.name}"'}
    return web.FileResponse(path, headers=disposition)
