"""From the URIs of a command to what is fetched from where to where; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import URI

REMOTE = ("http", "https", "ftp", "ftps")
ARCHIVES = (
    *(".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar"),
    *(".zip", ".gz"),
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to fetch: *source* is a URL or a path, *output* is below the sandbox."""

    uri: str
    source: str
    output: str
    is_remote: bool
    extracts: bool
    is_executable: bool
    is_cached: bool


def plan(uris: Iterable[URI], frameworks_home: str | None = None) -> tuple[Item, ...]:
    """Return what is to be done for each URI, in their order; raise ContainerError."""
    return tuple(_item(uri, frameworks_home) for uri in uris)


def _item(uri: URI, frameworks_home: str | None) -> Item:
    text = uri.value
    if not text or any(sign in text for sign in "\\'\0\n"):
        raise ContainerError(f"uri {text!r}: has characters that are not allowed")
    is_remote, source, name = _located(text, frameworks_home)
    output = _output(text, uri.output_file or name)
    return Item(
        uri=text,
        source=source,
        output=output,
        is_remote=is_remote,
        extracts=uri.extract and not uri.executable and output.lower().endswith(ARCHIVES),
        is_executable=bool(uri.executable),
        is_cached=bool(uri.cache),
    )


def _located(text: str, frameworks_home: str | None) -> tuple[bool, str, str]:
    """Return whether a URI is of another machine, where it is, and what it is called there."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        if text.startswith("/"):
            return False, text, PurePosixPath(text).name
        if frameworks_home is None:
            raise ContainerError(f"uri {text!r}: is relative, and there is no --frameworks-home")
        return False, str(PurePosixPath(frameworks_home, text)), PurePosixPath(text).name
    if scheme.lower() == "file":
        if not rest.startswith(("/", "localhost/")):
            raise ContainerError(f"uri {text!r}: names another host")
        path = unquote(rest.removeprefix("localhost"))
        return False, path, PurePosixPath(path).name
    if scheme.lower() not in REMOTE:
        raise ContainerError(f"uri {text!r}: {scheme}: is not supported")
    try:
        path = urlsplit(text).path
    except ValueError as error:
        raise ContainerError(f"uri {text!r}: {error}") from error
    return True, text, unquote(path.rpartition("/")[2])


def _output(text: str, name: str) -> str:
    """Return a name that lies in the sandbox; raise ContainerError for any other."""
    path = PurePosixPath(name)
    if path.name in ("", "..") or path.is_absolute() or ".." in path.parts or "\0" in name:
        if not name:
            raise ContainerError(f"uri {text!r}: Malformed URI (missing path)")
        raise ContainerError(f"uri {text!r}: output file {name!r}: is not in the sandbox")
    return str(path)
