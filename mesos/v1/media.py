"""The two content types of a message, and what a header says of them (reference mesos §0.3)."""

import enum
from typing import TypeVar

from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.protobuf import decode_protobuf, encode_protobuf

M = TypeVar("M", bound=Message)

RECORDIO = "application/recordio"


class Media(enum.StrEnum):
    """How a message is written; the value is its content type."""

    JSON = "application/json"
    PROTOBUF = "application/x-protobuf"


def encode_as(media: Media, message: Message) -> bytes:
    """Return *message* as bytes of *media*."""
    return encode(message) if media is Media.JSON else encode_protobuf(message)


def decode_as(media: Media, kind: type[M], raw: bytes) -> M:
    """Parse bytes of *media*; raise InvalidError in Mesos' words."""
    return decode(kind, raw) if media is Media.JSON else decode_protobuf(kind, raw)


def accepts(header: str | None, content_type: str) -> bool:
    """Tell whether an ``Accept`` header allows *content_type*; without a header all is allowed.

    A quality of zero refuses what it stands beside; the most exact match decides.
    """
    if header is None:
        return True
    major = content_type.partition("/")[0]
    return _allows(header, (content_type, f"{major}/*", "*/*"))


def accepts_gzip(header: str | None) -> bool:
    """Tell whether an ``Accept-Encoding`` header allows gzip; without one it does not."""
    return header is not None and _allows(header, ("gzip", "*"))


def _allows(header: str, wanted: tuple[str, ...]) -> bool:
    """Decide by the first of *wanted* that *header* lists."""
    listed: dict[str, bool] = {}
    for part in header.split(","):
        name, *parameters = (item.strip().lower() for item in part.split(";"))
        refused = any(_is_zero_quality(item) for item in parameters)
        listed[name] = listed.get(name, False) or not refused
    return next((listed[name] for name in wanted if name in listed), False)


def _is_zero_quality(parameter: str) -> bool:
    key, _, value = parameter.partition("=")
    if key.strip() != "q":
        return False
    try:
        return float(value) <= 0.0
    except ValueError:
        return False
