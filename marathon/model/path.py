"""App and group ids (reference marathon §1.1)."""

import re
from collections.abc import Iterator

_SEGMENT = (
    r"^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$"
)
_SEGMENT_PATTERN = re.compile(
    r"(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])"
)
ROOT = "/"
RESERVED = ("restart", "tasks", "versions", ".", "..")


def absolute(path: str, parent: str = "/") -> str:
    """Resolve *path* against the group *parent*: ``.``, ``..`` and empty segments vanish."""
    segments: list[str] = [] if path.startswith("/") else _segments(parent)
    for segment in _segments(path):
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    return "/" + "/".join(segments)


def errors_of(path: str) -> list[str]:
    """Say what is wrong with an absolute app id; nothing if it is good."""
    segments = _segments(path)
    if not segments:
        return ["Path must contain at least one path element"]
    errors = [
        f"must fully match regular expression '{_SEGMENT}'"
        for segment in segments
        if not _SEGMENT_PATTERN.fullmatch(segment)
    ]
    if segments[-1] in RESERVED:
        errors.append(
            f"must not end with any of the following reserved keywords: {', '.join(RESERVED)}"
        )
    return errors


def hostname_form(path: str) -> str:
    """Return the name of the app's tasks: ``/prod/web/api`` is ``api.web.prod``."""
    return ".".join(reversed(_segments(path)))


def safe_form(path: str) -> str:
    """Return the id as part of task ids and keys: ``/prod/web`` is ``prod_web``."""
    return "_".join(_segments(path))


def parent_of(path: str) -> str:
    """Return the group that holds *path*; the root's parent is the root."""
    return "/" + "/".join(_segments(path)[:-1])


def top_of(path: str) -> str | None:
    """Return the name of the topmost group that holds *path*; None at the top itself."""
    segments = _segments(path)
    return segments[0] if len(segments) > 1 else None


def groups_above(path: str) -> Iterator[str]:
    """Yield every group that *path* is in, from its own upwards; the root is left out."""
    segments = _segments(path)
    for count in range(len(segments) - 1, 0, -1):
        yield "/" + "/".join(segments[:count])


def is_within(path: str, group: str) -> bool:
    """Tell whether *path* is *group* or lies below it."""
    return group == "/" or path == group or path.startswith(f"{group}/")


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]
