"""One layer of an image, laid over those below it (OCI image layer specification)."""

import os
import shutil
import tarfile
import threading
from pathlib import Path
from typing import IO

from phalanx.agent.image.scope import parts_of, resolve
from phalanx.core.error import ContainerError

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
CAPABILITY = "security.capability"
CHUNK = 1024 * 1024


class Budget:
    """How much an image may still take, and whether anybody still wants it."""

    def __init__(self, stop: threading.Event, *, size: int, entries: int) -> None:
        self._stop = stop
        self._size = size
        self._entries = entries

    def spend(self, size: int = 0, entries: int = 0) -> None:
        """Take a part; raise ContainerError when there is none left, or for nobody."""
        self._size -= size
        self._entries -= entries
        if self._stop.is_set():
            raise ContainerError("layer: nobody waits for it any more")
        if self._size < 0 or self._entries < 0:
            raise ContainerError("layer: the image is larger than images may be")


def apply_layer(stream: IO[bytes], root: Path, budget: Budget) -> None:
    """Lay the tar archive that *stream* yields over *root*; raise ContainerError, TarError."""
    made: set[Path] = set()
    with tarfile.open(fileobj=stream, mode="r|") as layer:
        for member in layer:
            budget.spend(entries=1)
            parts = parts_of(member.name)
            if not parts:
                continue
            parent = resolve(root, parts[:-1], make=True)
            if not parent.is_dir():
                raise ContainerError(f"layer: {member.name!r}: lies below a file")
            if parts[-1].startswith(WHITEOUT):
                _white_out(parent, parts[-1], made)
                continue
            path = parent / parts[-1]
            _make(layer, member, path, root, budget)
            made.add(path)
            made.update(above for above in path.parents if above.is_relative_to(root))


def _white_out(parent: Path, name: str, made: set[Path]) -> None:
    """Remove what a layer hides; what it brings itself stays."""
    if name == OPAQUE:
        _clear(parent, made)
        return
    hidden = name.removeprefix(WHITEOUT)
    if hidden in ("", ".", ".."):
        raise ContainerError(f"layer: {name!r}: leads out of the image")
    if parent / hidden not in made:
        _remove(parent / hidden)


def _clear(directory: Path, made: set[Path]) -> None:
    for child in tuple(directory.iterdir()):
        if child not in made:
            _remove(child)
        elif child.is_dir() and not child.is_symlink():
            _clear(child, made)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(
    layer: tarfile.TarFile, member: tarfile.TarInfo, path: Path, root: Path, budget: Budget
) -> None:
    """Make one entry of a layer in the place of what was there."""
    if member.ischr() or member.isblk():
        if path.relative_to(root).parts[0] != "dev":
            raise ContainerError(f"layer: {member.name!r}: is a device outside /dev")
        return  # containers have a /dev of their own
    if not (member.isdir() and path.is_dir() and not path.is_symlink()):
        _remove(path)
    if member.isdir():
        path.mkdir(exist_ok=True)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.islnk():
        target = parts_of(member.linkname)
        source = resolve(root, target[:-1]) / target[-1] if target else root
        os.link(source, path, follow_symlinks=False)
        return
    elif member.isfifo():
        os.mkfifo(path)
    elif member.isreg():
        _write(layer, member, path, budget)
    else:
        raise ContainerError(f"layer: {member.name!r}: is of the unknown type {member.type!r}")
    _dress(member, path)


def _write(layer: tarfile.TarFile, member: tarfile.TarInfo, path: Path, budget: Budget) -> None:
    source = layer.extractfile(member)
    if source is None:
        raise ContainerError(f"layer: {member.name!r}: has no content")
    with path.open("xb") as file:
        while chunk := source.read(CHUNK):
            budget.spend(size=len(chunk))
            file.write(chunk)


def _dress(member: tarfile.TarInfo, path: Path) -> None:
    """Give an entry its owner, then its mode (which a change of owner would cut down)."""
    os.lchown(path, member.uid, member.gid)
    if member.issym():
        return
    path.chmod(member.mode & 0o7777)
    capability = member.pax_headers.get(f"SCHILY.xattr.{CAPABILITY}")
    if capability is not None and member.isreg():
        os.setxattr(path, CAPABILITY, capability.encode("utf-8", "surrogateescape"))
    if not member.isdir():
        os.utime(path, (member.mtime, member.mtime))
