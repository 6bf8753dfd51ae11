"""Archives of images: what ``docker save`` writes, or a tar of an OCI image layout."""

import gzip
import hashlib
import io
import json
import platform
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from phalanx.agent.image.manifest import (
    Plan,
    Wanted,
    blob_path,
    descriptor_of,
    docker_plan,
    oci_plan,
)
from phalanx.core.error import ContainerError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_JSON = 4 * 1024 * 1024
MOST_INDEXES = 4
CHUNK = 256 * 1024
GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Archive:
    """An open archive, its files by their plain names."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {posixpath.normpath(item.name): item for item in tar.getmembers()}

    def plan(self, wanted: Wanted) -> Plan:
        """Return which files are the image; raise ContainerError."""
        if "manifest.json" in self._members:
            return docker_plan(self.json("manifest.json"), wanted)
        if "index.json" not in self._members:
            raise ContainerError("has neither manifest.json (docker save) nor index.json (OCI)")
        architecture = ARCHITECTURES.get(platform.machine(), platform.machine())
        found = descriptor_of(self.json("index.json"), wanted, architecture)
        for _ in range(MOST_INDEXES):
            content = self.json(blob_path(found))
            if not isinstance(content, dict) or "manifests" not in content:
                return oci_plan(content)
            found = descriptor_of(content, Wanted(None, is_exact=True), architecture)
        raise ContainerError("index.json: leads from index to index")

    def json(self, name: str) -> object:
        """Return a JSON file; raise ContainerError."""
        return parse_json(self.read(name), name)

    def read(self, name: str) -> bytes:
        """Return a small file; raise ContainerError."""
        content = self.open(name).read(MOST_JSON + 1)
        if len(content) > MOST_JSON:
            raise ContainerError(f"{name}: is too large")
        return content

    def open(self, name: str) -> IO[bytes]:
        """Open a file; raise ContainerError."""
        member = self._members.get(posixpath.normpath(name))
        file = self._tar.extractfile(member) if member is not None else None
        if file is None:
            raise ContainerError(f"{name}: is not in the archive")
        return file

    @contextmanager
    def layer(self, name: str, digest: str) -> Iterator[IO[bytes]]:
        """Open a layer, packed or not; raise ContainerError at the end if it is another one."""
        file = self.open(name)
        magic = file.read(4)
        file.seek(0)
        if magic == ZSTD:
            raise ContainerError(f"{name}: is packed with zstd, which is not supported")
        plain = gzip.GzipFile(fileobj=file) if magic.startswith(GZIP) else file
        reader = _Hashing(plain)
        stream = io.BufferedReader(reader, CHUNK)
        yield stream
        while stream.read(CHUNK):  # the end of a layer is padding, but part of its digest
            pass
        if reader.digest != digest:
            raise ContainerError(f"{name}: is {reader.digest}, and not the image's {digest}")


class _Hashing(io.RawIOBase):
    """A stream that knows the digest of what was read from it."""

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        content = self._source.read(len(memoryview(buffer)))
        memoryview(buffer)[: len(content)] = content
        self._hash.update(content)
        return len(content)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an archive, packed or not; raise OSError, TarError."""
    with tarfile.open(path, "r:*") as tar:
        yield Archive(tar)


def parse_json(content: bytes, name: str) -> Any:  # noqa: ANN401 - any JSON
    """Return what JSON says; raise ContainerError."""
    try:
        return json.loads(content)
    except ValueError as error:
        raise ContainerError(f"{name}: {error}") from error


def parse_object(content: bytes, name: str) -> Mapping[str, Any]:
    """Return the JSON object that *content* is; raise ContainerError."""
    value = parse_json(content, name)
    if not isinstance(value, dict):
        raise ContainerError(f"{name}: is not an object")
    return value
