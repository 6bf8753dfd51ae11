"""Copies of the whole state in files: written by who leads, put back by who leads next.

A file has one line of JSON for each key, base64 around its value, all of it compressed.
"""

import asyncio
import base64
import binascii
import gzip
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

from phalanx.core.error import InvalidError
from phalanx.core.files import write_whole
from phalanx.core.store.store import Store
from phalanx.marathon.ledger.long import LongStore

log = structlog.get_logger()

KINDS = (
    "framework", "apps", "pods", "groups", "history", "failures", "deployments", "instances",
    "versions",
)  # fmt: skip
REQUEST = "archive/restore"  # names the file that whoever leads next puts back
AT_ONCE = 100  # writes


class Archives:
    """The archives of one directory; without a *directory* there are none."""

    def __init__(self, directory: Path | None, store: Store) -> None:
        self._directory = directory
        self._store = LongStore(store)

    def file_of(self, uri: str) -> Path:
        """Return the file that *uri* names, ``file:///…`` or a name; raise InvalidError.

        It lies in our directory: whoever may call us must not choose what root writes and reads.
        """
        if self._directory is None:
            raise InvalidError("backup and restore need --backup-location")
        top = self._directory.resolve()
        words = f"{uri!r} is neither a file:/// URI nor a name"
        try:
            parts = urlsplit(uri)
            path = Path(unquote(parts.path))
            file = (top / path).resolve()
        except ValueError as error:  # brackets of no address, or a byte that is in no name
            raise InvalidError(words) from error
        if parts.scheme not in ("", "file") or parts.netloc or not path.name:
            raise InvalidError(words)
        if not file.is_relative_to(top) or file == top:
            raise InvalidError(f"{uri!r} is not in {str(top)!r}")
        return file

    async def keep(self, uri: str) -> None:
        """Write the state to a file; raise InvalidError when that can't be.

        Nobody else may change it meanwhile.
        """
        file = self.file_of(uri)
        entries: dict[str, bytes] = {}
        for kind in KINDS:
            found = await self._store.list(kind)
            entries |= {key: stored.value for key, stored in found.items()}
        try:
            await asyncio.to_thread(_write, file, entries)
        except OSError as error:
            raise InvalidError(f"{str(file)!r}: {error.strerror}") from error
        log.info("state_archived", file=str(file), keys=len(entries))

    async def ask(self, uri: str) -> None:
        """Let whoever leads next begin with the state of a file; raise InvalidError."""
        file = self.file_of(uri)
        await asyncio.to_thread(_read, file)
        await self._store.put(REQUEST, str(file).encode())

    async def restore_if_asked(self) -> None:
        """Put back the state that somebody asked for; call before anything is read.

        A crash in between begins anew. A file that is not here changes nothing.
        """
        asked = await self._store.get(REQUEST)
        if asked is None:
            return
        file = Path(asked.value.decode())
        try:
            entries = await asyncio.to_thread(_read, file)
        except InvalidError as error:
            log.exception("restore_failed", file=str(file), error=str(error))
        else:
            await self._replace(entries)
            log.info("state_restored", file=str(file), keys=len(entries))
        await self._store.remove(REQUEST)

    async def _replace(self, entries: Mapping[str, bytes]) -> None:
        for kind in KINDS:
            for key in (await self._store.list(kind)).keys() - entries.keys():
                await self._store.remove(key)
        pairs = list(entries.items())
        for begin in range(0, len(pairs), AT_ONCE):
            some = pairs[begin : begin + AT_ONCE]
            await asyncio.gather(*(self._store.put(key, value) for key, value in some))


def _write(file: Path, entries: Mapping[str, bytes]) -> None:
    lines = (
        msgspec.json.encode([key, base64.b64encode(value).decode()])
        for key, value in sorted(entries.items())
    )
    write_whole(file, gzip.compress(b"\n".join(lines), 1), durable=True, mode=0o600)


def _read(file: Path) -> dict[str, bytes]:
    try:
        return dict(_entries(gzip.decompress(file.read_bytes())))
    except FileNotFoundError as error:
        raise InvalidError(f"{str(file)!r}: {error.strerror}") from error
    except (OSError, EOFError, ValueError, zlib.error, msgspec.MsgspecError) as error:
        raise InvalidError(f"{str(file)!r} is no archive: {error}") from error


def _entries(raw: bytes) -> Iterator[tuple[str, bytes]]:
    for line in raw.splitlines():
        key, value = msgspec.json.decode(line, type=tuple[str, str])
        if key.partition("/")[0] not in KINDS:
            raise InvalidError(f"{key!r} is no key of ours")
        try:
            yield key, base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise InvalidError(f"{key!r}: {error}") from error
