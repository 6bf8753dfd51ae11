"""Records of the feed, sans I/O: how a View travels from the leading master to every node.

A stream begins with a SNAPSHOT, or with the DELTAs that a resuming reader
lacks; numbers rise by one. The epoch names one leadership: numbers of
different epochs don't compare, so another epoch starts with a SNAPSHOT.

A reader that asks for it gets the SNAPSHOT of a large View in PARTs: to write
or read a hundred thousand objects at once would stop a daemon for a second.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from phalanx.core.error import ProtocolError
from phalanx.net.feed.text import of_text, to_text
from phalanx.net.model.objects import Object
from phalanx.net.model.view import FIELD_OF, Ref, View

PART_OBJECTS = 500  # are written or read in a few milliseconds
HEARTBEAT_SECONDS = 1.0


class Snapshot(msgspec.Struct, frozen=True, tag="SNAPSHOT", tag_field="type"):
    """A whole View."""

    epoch: str
    sequence: int
    objects: tuple[Object, ...]


class Part(msgspec.Struct, frozen=True, tag="PART", tag_field="type"):
    """Objects of the SNAPSHOT that ends this row of parts."""

    objects: tuple[Object, ...]


class Delta(msgspec.Struct, frozen=True, tag="DELTA", tag_field="type"):
    """The changes that make View number *sequence* out of the one before."""

    sequence: int
    upserts: tuple[Object, ...] = ()
    removals: tuple[Ref, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True, tag="HEARTBEAT", tag_field="type"):
    """Nothing new, and the sender lives."""


Record = Snapshot | Part | Delta | Heartbeat


class Position(msgspec.Struct, frozen=True):
    """Where a reader stands: the last View it has."""

    epoch: str
    sequence: int


class Numbered(msgspec.Struct, frozen=True):
    """A View with its position."""

    position: Position
    view: View


_encoder = msgspec.json.Encoder(enc_hook=to_text)
_decoder = msgspec.json.Decoder(Record, dec_hook=of_text)
_table_decoder = msgspec.json.Decoder(dict[str, Any])


def encode(record: Record) -> bytes:
    """Return the record as JSON bytes."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """Parse a record; raise ProtocolError if it is none.

    The sender may be of a later version: fields and kinds of objects that we
    don't know are left out.
    """
    try:
        record = _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"feed record: {error}") from error
    if isinstance(record, Delta) and any(kind not in FIELD_OF for kind, _ in record.removals):
        known = tuple(ref for ref in record.removals if ref[0] in FIELD_OF)
        record = msgspec.structs.replace(record, removals=known)
    return record


def _decode(raw: bytes) -> Record:
    try:
        known: Record = _decoder.decode(raw)
    except msgspec.ValidationError:
        # Seldom: then it is worth a second look, without the objects of other kinds.
        table = _table_decoder.decode(raw)
        for field in ("objects", "upserts"):
            if isinstance(each := table.get(field), list):
                table[field] = [item for item in each if not _is_of_another_kind(item)]
        known = msgspec.convert(table, Record, dec_hook=of_text)
    return known


def _is_of_another_kind(item: object) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(kind := item.get("kind"), str)
        and (kind not in FIELD_OF)
    )


def snapshot_of(numbered: Numbered) -> Snapshot:
    """Return the record that carries the whole View."""
    at = numbered.position
    return Snapshot(at.epoch, at.sequence, tuple(numbered.view.objects()))


def parts_of(numbered: Numbered, *, size: int = PART_OBJECTS) -> Iterator[Part | Snapshot]:
    """Yield the records that carry the whole View, *size* objects each; the last is a SNAPSHOT."""
    objects = tuple(numbered.view.objects())
    last = max(len(objects) - 1, 0) // size * size  # where the last part starts
    for start in range(0, last, size):
        yield Part(objects[start : start + size])
    yield Snapshot(numbered.position.epoch, numbered.position.sequence, objects[last:])


class Assembly:
    """What a reader has, record by record; it may begin with a View that it *knows*.

    Objects of a SNAPSHOT in PARTs that are equal to known ones, or to those of
    *alike*, are those: a new leader says the same of nearly everything, and
    nobody has to look at that again.
    """

    def __init__(self, known: Numbered | None = None, *, alike: View | None = None) -> None:
        self._known = known
        self._alike = alike
        self._parts: dict[str, dict[str, Any]] = {}
        self._news: set[str] = set()  # fields with objects that are not known

    def take(self, record: Record) -> Numbered | None:
        """Return what the reader has after *record*, as ``after`` does."""
        if isinstance(record, Part):
            self._gather(record.objects)
        elif isinstance(record, Snapshot) and self._parts:
            self._gather(record.objects)
            self._known = Numbered(Position(record.epoch, record.sequence), self._whole())
            self._parts, self._news = {}, set()
        else:
            self._known = after(self._known, record)
        return self._known

    def _whole(self) -> View:
        """Return the View of all parts; of what is known already in the known mapping."""
        known = self._alike if self._known is None else self._known.view
        fields: dict[str, Mapping[str, Any]] = dict(self._parts)
        for field in fields.keys() - self._news:
            old: Mapping[str, Any] = getattr(known, field)
            if len(old) == len(fields[field]):
                fields[field] = old
        return View(**fields)

    def _gather(self, objects: Iterable[Object]) -> None:
        known = self._alike if self._known is None else self._known.view
        for each in objects:
            field, key = FIELD_OF[each.kind], each.key
            if known is not None and (same := getattr(known, field).get(key)) == each:
                each = same
            else:
                self._news.add(field)
            self._parts.setdefault(field, {})[key] = each


def after(numbered: Numbered | None, record: Record) -> Numbered | None:
    """Return what a reader that had *numbered* has after *record*.

    Raises ProtocolError when a DELTA does not follow: the reader must ask for
    a SNAPSHOT. A PART alone changes nothing.
    """
    if isinstance(record, Snapshot):
        return Numbered(Position(record.epoch, record.sequence), View().changed(record.objects))
    if isinstance(record, Heartbeat | Part):
        return numbered
    if numbered is None or record.sequence != numbered.position.sequence + 1:
        have = "nothing" if numbered is None else numbered.position.sequence
        raise ProtocolError(f"feed delta {record.sequence} does not follow {have}")
    return Numbered(
        Position(numbered.position.epoch, record.sequence),
        numbered.view.changed(record.upserts, record.removals),
    )
