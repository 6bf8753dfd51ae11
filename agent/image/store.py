"""The root file systems of images, each extracted once and called by its content."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from phalanx.agent.image.archive import open_archive, parse_object
from phalanx.agent.image.config import ImageConfig, layer_digests, parse_config
from phalanx.agent.image.layer import Budget, apply_layer
from phalanx.agent.image.manifest import Wanted
from phalanx.agent.image.name import candidates, parse_name
from phalanx.agent.image.scope import has_program
from phalanx.core.error import ContainerError, InvalidError

log = structlog.get_logger()

EXTRACTIONS = 2
MOST_BYTES = 32 * 1024**3
MOST_ENTRIES = 2_000_000
UNFINISHED = ".new-"
SHELL = "/bin/sh"
LAUNCH_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Image:
    """An image that is ready for containers."""

    name: str
    rootfs: Path
    config: ImageConfig
    has_shell: bool


class Images:
    """Images of a directory of archives (*registry*), extracted below *store*."""

    def __init__(self, registry: Path | None, store: Path) -> None:
        self._registry = registry
        self._store = store
        self._locks: dict[Path, asyncio.Lock] = {}
        self._known: dict[tuple[Path, Wanted], tuple[tuple[int, ...], str]] = {}
        self._extractions = asyncio.Semaphore(EXTRACTIONS)
        self._handed: dict[str, float] = {}  # when each was last given to a launch

    async def provision(self, name: str, *, is_cached: bool = True) -> Image:
        """Return an image, extracted if it was not; raise ContainerError.

        Unless *is_cached* the archive is read again, though it looks unchanged.
        """
        path, wanted = self._find(name)
        async with self._locks.setdefault(path, asyncio.Lock()):
            try:
                print_ = _fingerprint(path)
                known = self._known.get((path, wanted)) if is_cached else None
                if known is None or known[0] != print_ or not (self._store / known[1]).is_dir():
                    known = print_, await self._install(path, wanted)
                    self._known[path, wanted] = known
                self._handed[known[1]] = asyncio.get_running_loop().time()
                return await asyncio.to_thread(_ready, name, self._store / known[1])
            except (ContainerError, OSError, EOFError, ValueError) as error:
                raise ContainerError(f"image {name!r}: {path}: {error}") from error
            except (tarfile.TarError, zlib.error) as error:
                raise ContainerError(f"image {name!r}: {path}: is no image: {error}") from error

    async def prune(self, kept: Set[str], is_used: Callable[[str], bool]) -> tuple[str, ...]:
        """Remove what is extracted of every image but those *kept* by name and those in use.

        *is_used* tells of a name in the store. What a launch was given a short
        time ago stays as well: its container may not be there yet. Returns what
        was removed.
        """
        names = {digest for (path, _), (_, digest) in self._known.items() if path in self._of(kept)}
        recent = asyncio.get_running_loop().time() - LAUNCH_SECONDS
        removed = []
        for place in sorted(self._store.glob("[0-9a-f]*")):
            digest = place.name
            if digest in names or self._handed.get(digest, recent) > recent or is_used(digest):
                continue
            gone = place.with_name(f"{UNFINISHED}{digest}")
            place.rename(gone)  # at once, so that nobody finds a part of it
            await asyncio.to_thread(shutil.rmtree, gone, ignore_errors=True)
            removed.append(digest)
        log.info("images_pruned", removed=len(removed))
        return tuple(removed)

    def _of(self, names: Set[str]) -> frozenset[Path]:
        """Return the archives of images, those that there are."""
        found = set()
        for name in names:
            try:
                found.add(self._find(name)[0])
            except (ContainerError, InvalidError):
                continue
        return frozenset(found)

    def _find(self, name: str) -> tuple[Path, Wanted]:
        image = parse_name(name)
        if self._registry is None:
            raise ContainerError(f"image {name!r}: there is no --docker-registry to look in")
        looked = candidates(self._registry, image)
        for candidate in looked:
            if candidate.path.is_file():
                return candidate.path, Wanted(image.tag, candidate.is_exact)
        places = " nor ".join(str(candidate.path) for candidate in looked)
        raise ContainerError(f"image {name!r}: neither {places} is there")

    async def _install(self, path: Path, wanted: Wanted) -> str:
        stop = threading.Event()
        async with self._extractions:
            try:
                return await asyncio.to_thread(install, path, wanted, self._store, stop)
            finally:
                stop.set()  # a thread can't be cancelled, but it looks


def install(path: Path, wanted: Wanted, store: Path, stop: threading.Event) -> str:
    """Extract an archive's image unless it is there; return its name in the store.

    Raises ContainerError, OSError, EOFError, TarError, zlib.error, ValueError.
    """
    with open_archive(path) as archive:
        plan = archive.plan(wanted)
        content = archive.read(plan.config)
        raw = parse_object(content, plan.config)
        parse_config(raw)
        digests = layer_digests(raw)
        if len(digests) != len(plan.layers):
            raise ContainerError(f"has {len(plan.layers)} layers, but names {len(digests)}")
        name = hashlib.sha256(content).hexdigest()
        if (store / name).is_dir():
            return name
        budget = Budget(stop, size=MOST_BYTES, entries=MOST_ENTRIES)
        with _unfinished(store) as place:
            root = place / "rootfs"
            root.mkdir()
            root.chmod(0o755)
            for layer, digest in zip(plan.layers, digests, strict=True):
                with archive.layer(layer, digest) as stream:
                    apply_layer(stream, root, budget)
            (place / "config.json").write_bytes(content)
            os.sync()  # whole, also after a loss of power, before it has its name
            _give_name(place, store / name)
    log.info("image_extracted", archive=str(path), store=name)
    return name


def remove_unfinished(store: Path) -> None:
    """Remove what extractions that were cut short have left; those under way are locked."""
    for place in store.glob(f"{UNFINISHED}*"):
        with _locked(place) as is_ours:
            if is_ours:
                shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _unfinished(store: Path) -> Iterator[Path]:
    """Give a directory to extract into, which is gone at the end unless it was renamed."""
    store.mkdir(0o700, parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=store))
    with _locked(place):
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(place: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _give_name(place: Path, name: Path) -> None:
    """Rename to the final name, unless another agent of this store was faster."""
    try:
        place.rename(name)
    except OSError:
        if not name.is_dir():
            raise


def _fingerprint(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _ready(name: str, place: Path) -> Image:
    raw = parse_object((place / "config.json").read_bytes(), "config.json")
    rootfs = place / "rootfs"
    return Image(name, rootfs, parse_config(raw), has_program(rootfs, SHELL))
