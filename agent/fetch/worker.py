"""Fetch files for one container, as the user that its command runs as.

Run as a program of its own, ``python -I worker.py``, with nothing but the standard
library; a JSON object on standard input says what to do, one on standard output what
became of it. It imports all that it needs before it becomes the user, who may not be
allowed to read the installation. Nothing here leaves the directory that is named.
"""

import ftplib
import gzip
import http.client
import json
import lzma
import os
import shutil
import ssl
import stat
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CHUNK = 256 * 1024
TAR_ENDS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar")
FAILURES = (
    *(OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, tarfile.TarError),
    *(zipfile.BadZipFile, http.client.HTTPException, ftplib.Error, NotImplementedError),
)


class UnfetchableError(Exception):
    """One URI can't be fetched."""


def main() -> int:
    """Do what standard input says."""
    order = json.load(sys.stdin)
    become(order["user"])
    os.umask(0o022)
    answer: dict[str, object] = {}
    uri = ""
    try:
        for item in order["items"]:
            uri = item["uri"]
            if order["mode"] == "size":
                answer["size"] = size_of(item, order["stall_seconds"])
            else:
                fetch(item, order["directory"], order["stall_seconds"])
    except urllib.error.HTTPError as error:
        answer["error"] = f"{uri}: {error.code} {error.reason}"
    except urllib.error.URLError as error:
        answer["error"] = f"{uri}: {error.reason}"
    except TimeoutError:
        answer["error"] = f"{uri}: nothing came for {order['stall_seconds']:g} s"
    except UnfetchableError as error:
        answer["error"] = f"{uri}: {error}"
    except tarfile.ReadError:
        answer["error"] = f"{uri}: is no archive that can be unpacked"
    except FAILURES as error:
        words = error.strerror if isinstance(error, OSError) else None
        answer["error"] = f"{uri}: {words or str(error) or type(error).__name__}"
    json.dump(answer, sys.stdout)
    return 0


def become(user: "dict[str, Any]") -> None:
    """Become the user for good, if we are somebody else."""
    ssl.create_default_context()  # reads the certificates that there are
    "host.example".encode("idna")
    if os.getuid() == 0 and user["uid"] != 0:
        os.setgroups(user["groups"])
        os.setgid(user["gid"])
        os.setuid(user["uid"])


def size_of(item: "dict[str, Any]", stall_seconds: float) -> "int | None":
    """Return how many bytes there are to fetch; None if that is not told."""
    if not item["is_remote"]:
        return os.stat(item["source"]).st_size
    request = urllib.request.Request(item["source"], method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=stall_seconds) as answer:
            length = answer.headers.get("Content-Length")
    except urllib.error.HTTPError:
        return None
    return int(length) if length is not None and length.isdecimal() else None


def fetch(item: "dict[str, Any]", directory: str, stall_seconds: float) -> None:
    """Bring one item into the directory, and unpack it there if it is to be."""
    target = os.path.join(directory, item["output"])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if not is_inside(os.path.dirname(target), directory):
        raise UnfetchableError(f"output file {item['output']!r}: is not in the sandbox")
    held = item.get("held")  # a copy in the cache, unpacked from there
    if held is not None and item["extracts"]:
        extract(held, item["output"], os.path.dirname(target))
        return
    if os.path.lexists(target) and not os.path.isdir(target):
        os.unlink(target)
    if item["is_remote"] and held is None:
        download(item["source"], target, stall_seconds)
    else:
        copy(held or item["source"], target)
    if item["is_executable"]:
        os.chmod(target, 0o755)
    elif item["extracts"]:
        extract(target, item["output"], os.path.dirname(target))


def download(url: str, target: str, stall_seconds: float) -> None:
    """Write what a URL answers, redirects followed; each read may take so many seconds."""
    with urllib.request.urlopen(url, timeout=stall_seconds) as answer:
        length = answer.headers.get("Content-Length")
        with open(target, "xb") as file:
            shutil.copyfileobj(answer, file, CHUNK)
            came = file.tell()
    if length is not None and length.isdecimal() and came != int(length):
        raise UnfetchableError(f"{came} of {length} bytes came")


def copy(source: str, target: str) -> None:
    """Copy a file, with its permissions, or a whole directory."""
    if os.path.isdir(source):
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    elif not stat.S_ISREG(os.stat(source).st_mode):
        raise UnfetchableError("is no file")
    else:
        shutil.copyfile(source, target)
        os.chmod(target, os.stat(source).st_mode & 0o755 | 0o600)


def extract(archive: str, name: str, directory: str) -> None:
    """Unpack an archive into a directory; what would lie outside of it is refused."""
    lower = name.lower()
    if lower.endswith(TAR_ENDS):
        with tarfile.open(archive) as tar:
            tar.extractall(directory, filter=admitted)
    elif lower.endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                unzip(packed, entry, directory)
    else:
        plain = os.path.join(directory, os.path.basename(name)[: -len(".gz")])
        with gzip.open(archive) as source, open(plain, "wb") as file:
            shutil.copyfileobj(source, file, CHUNK)


def admitted(entry: tarfile.TarInfo, directory: str) -> "tarfile.TarInfo | None":
    """Return an entry of an archive as it is unpacked; raise what tells that it must not be.

    A symbolic link may lead anywhere, as links to the machine's programs do: it is written
    only, and nothing is unpacked through it.
    """
    if not entry.issym():
        return tarfile.data_filter(entry, directory)
    placed = tarfile.tar_filter(entry, directory)
    # None leaves each out, which the types of some versions do not say.
    return placed.replace(uid=None, gid=None, uname=None, gname=None, deep=False)  # type: ignore[arg-type]


def unzip(packed: zipfile.ZipFile, entry: zipfile.ZipInfo, directory: str) -> None:
    """Unpack one entry, with its permissions."""
    target = os.path.join(directory, entry.filename)
    if os.path.isabs(entry.filename) or not is_inside(target, directory):
        raise UnfetchableError(f"{entry.filename!r}: would lie outside of the directory")
    mode = entry.external_attr >> 16
    if entry.is_dir():
        os.makedirs(target, exist_ok=True)
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if stat.S_ISLNK(mode):
        os.symlink(packed.read(entry).decode(), target)
        return
    with packed.open(entry) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file, CHUNK)
    if mode & 0o777:
        os.chmod(target, mode & 0o755 | 0o600)


def is_inside(path: str, directory: str) -> bool:
    """Tell whether a path, its links followed, lies in a directory."""
    top = os.path.realpath(directory)
    return os.path.commonpath([os.path.realpath(path), top]) == top


if __name__ == "__main__":
    sys.exit(main())
