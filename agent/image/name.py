"""Names of images, and which archives of a directory can hold them; pure."""

import re
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import ContainerError

DEFAULT_TAG = "latest"

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class ImageName:
    """An image as a task names it; *tag* is None when the task names none."""

    repository: str
    tag: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An archive that may hold an image; *is_exact* when its own name says the tag."""

    path: Path
    is_exact: bool


def parse_name(text: str) -> ImageName:
    """Return the image that *text* names, as ``team/web:1.2``; raise ContainerError."""
    if "@" in text:
        raise ContainerError(f"image {text!r}: names a digest; only tags can be looked for")
    head, slash, last = text.rpartition("/")
    last, colon, tag = last.partition(":")
    first, *rest = (head.split("/") if slash else []) + [last]
    is_good = (_HOST if rest else _COMPONENT).fullmatch(first) is not None
    is_good = is_good and all(_COMPONENT.fullmatch(part) for part in rest)
    if not is_good or (colon and not _COMPONENT.fullmatch(tag)):
        raise ContainerError(f"image {text!r}: is not a name of an image")
    return ImageName(head + slash + last, tag or None)


def candidates(registry: Path, name: ImageName) -> tuple[Candidate, ...]:
    """Return the archives in which an image is looked for, best first."""
    tagged = registry / f"{name.repository}:{name.tag or DEFAULT_TAG}.tar"
    return (Candidate(tagged, True), Candidate(registry / f"{name.repository}.tar", not name.tag))
