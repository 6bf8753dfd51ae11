"""Paths inside an image's root file system, whose links never lead out of it."""

from pathlib import Path

from phalanx.core.error import ContainerError

MOST_LINKS = 40


def parts_of(name: str) -> tuple[str, ...]:
    """Return the names that a path in a layer is made of; raise ContainerError for ``..``."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ContainerError(f"layer: {name!r}: leads out of the image")
    return parts


def resolve(root: Path, parts: tuple[str, ...], *, make: bool = False) -> Path:
    """Return where *parts* lead inside *root*, as its own processes would find it.

    Links are followed with *root* as their ``/``. *make* makes missing directories.
    """
    found = root
    left = list(reversed(parts))
    links = 0
    while left:
        part = left.pop()
        if part == "..":
            found = found if found == root else found.parent
            continue
        step = found / part
        if step.is_symlink():
            links += 1
            if links > MOST_LINKS:
                raise ContainerError(f"layer: {'/'.join(parts)!r}: too many links")
            target = str(step.readlink())
            found = root if target.startswith("/") else found
            left.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
            continue
        if make and not step.exists():
            step.mkdir()
            step.chmod(0o755)
        found = step
    return found


def has_program(root: Path, path: str) -> bool:
    """Tell whether an image has something to execute at *path*."""
    try:
        found = resolve(root, parts_of(path))
        return found.is_file() and found.stat().st_mode & 0o111 != 0
    except (ContainerError, OSError):
        return False
