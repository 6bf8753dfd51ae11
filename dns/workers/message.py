"""What a plane and its workers say to each other, sans I/O: MessagePack behind its length.

The socket between them is a worker's life: it ends when the plane does.
"""

import struct
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from typing import Any

import msgspec

from phalanx.dns.tally import Tally
from phalanx.dns.zones.ledger import HeldVips
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.feed.record import Delta, Snapshot, decode, encode
from phalanx.net.model.view import FIELD_OF, Ref, View

LENGTH = struct.Struct("!I")
COUNT_SECONDS = 1.0  # between two tallies of a worker


class Start(msgspec.Struct, frozen=True, tag="START"):
    """All that a worker is told once."""

    node: str
    servers: tuple[str, ...]  # addresses of the resolver, as zones name them
    places: tuple[tuple[str, int], ...]  # to answer at
    settings: ZoneSettings
    serial: int
    awaits_view: bool = False  # names are known already: answer once they are known there, too
    secrets: tuple[bytes, ...] = ()  # of cookies
    allowed: tuple[str, ...] = ()
    transfers: tuple[str, ...] = ()
    per_second: int = 0
    query_log: int = 0
    log_level: str = "info"


class Publish(msgspec.Struct, frozen=True, tag="PUBLISH"):
    """A View, as a record of the feed, and the VIPs that are held; unset: as before."""

    serial: int
    record: bytes
    held: dict[str, tuple[str, ...]] | msgspec.UnsetType | None = msgspec.UNSET


class Route(msgspec.Struct, frozen=True, tag="ROUTE"):
    """Whom to ask about others' names, and which of them lead back to us."""

    upstreams: tuple[str, ...]
    zones: tuple[str, ...]
    leading_back: tuple[str, ...] = ()


class Probed(msgspec.Struct, frozen=True, tag="PROBED"):
    """A worker was asked what somebody asks to find a loop: perhaps its plane."""

    question: bytes


ToWorker = Start | Publish | Route
FromWorker = Tally | Probed

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def framed(message: ToWorker | FromWorker) -> bytes:
    """Return the message as it is sent."""
    raw = _encoder.encode(message)
    return LENGTH.pack(len(raw)) + raw


def parse_to_worker(raw: bytes) -> ToWorker:
    """Return what a plane said."""
    message: ToWorker = _to_worker.decode(raw)
    return message


def parse_from_worker(raw: bytes) -> FromWorker:
    """Return what a worker said."""
    message: FromWorker = _from_worker.decode(raw)
    return message


def publish_whole(view: View, held: HeldVips | None, serial: int) -> Publish:
    """Return the message for a worker that knows nothing yet."""
    record = encode(Snapshot("", 0, tuple(view.objects())))
    return Publish(serial, record, _texts_of(held))


def publish_change(
    view: View, touched: Collection[Ref], held: HeldVips | None, serial: int, *, is_held_new: bool
) -> Publish:
    """Return the message for one that knows the View before; *touched* may differ in this one."""
    found = {(kind, key): getattr(view, FIELD_OF[kind]).get(key) for kind, key in touched}
    record = Delta(
        0,
        tuple(each for each in found.values() if each is not None),
        tuple(ref for ref, each in found.items() if each is None),
    )
    return Publish(
        serial,
        encode(record),
        _texts_of(held) if is_held_new else msgspec.UNSET,
    )


def published(view: View, message: Publish) -> tuple[View, Sequence[Ref] | None]:
    """Return the View after *message*, and what differs; None: that is to be found."""
    record: Any = decode(message.record)
    if isinstance(record, Snapshot):
        return View().changed(record.objects), None
    touched = [*((each.kind, each.key) for each in record.upserts), *record.removals]
    return view.changed(record.upserts, record.removals), touched


def held_of(message: Publish, before: HeldVips | None) -> HeldVips | None:
    """Return the VIPs that are held after *message*."""
    if message.held is msgspec.UNSET:
        return before
    if message.held is None:
        return None
    return {name: tuple(map(ip_address, each)) for name, each in message.held.items()}


def _texts_of(held: HeldVips | None) -> dict[str, tuple[str, ...]] | None:
    if held is None:
        return None
    return {name: tuple(map(str, each)) for name, each in held.items()}
