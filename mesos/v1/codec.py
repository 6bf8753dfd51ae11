"""Mesos' JSON rules over msgspec structs (reference mesos §0.2).

Out: a field is written if set; an empty repeated field is left out; a field
that declares an explicit default is always written; an infinite number is a
bare ``Infinity``. In: msgspec reads what is written plainly; whatever it
refuses goes the way of ``lenient.py``.
"""

import json
import math
import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.lenient import message_of

M = TypeVar("M", bound="Message")

# Where msgspec wrote null: for None, which a message never has to show, or for a number that
# JSON can't. A text can look the same, which costs time and no more.
NULL = re.compile(rb"[:,\[]null[,\]}]")
INFINITE = b"Infinity"


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Base of every v1 message.

    Optional fields default to None and repeated ones to ``()``: both are left
    out when unset. A field with an explicit default uses ``declared(value)``,
    which msgspec never leaves out. Frozen as they are they never form a cycle,
    so the garbage collector need not look at hundreds of thousands of them.
    """


def declared(value: Any) -> Any:  # noqa: ANN401 - it stands where a field's default stands
    """Declare a default that is written even when nobody set it."""
    return msgspec.field(default_factory=lambda: value)


def encode(message: Message) -> bytes:
    """Return *message* as JSON bytes."""
    return encode_value(message)


def encode_value(value: Any) -> bytes:  # noqa: ANN401 - any JSON, with messages in it
    """Return any JSON value as bytes; messages in it are written by Mesos' rules.

    Half a surrogate pair in a text, which UTF-8 can't carry, becomes a ``?``.
    """
    try:
        raw = msgspec.json.encode(value)
    except UnicodeEncodeError:
        value = scrubbed(msgspec.to_builtins(value))
        raw = msgspec.json.encode(value)
    if b"null" in raw and NULL.search(raw):
        built = msgspec.to_builtins(value)
        if _has_infinity(built):
            return json.dumps(built, ensure_ascii=False, separators=(",", ":")).encode()
    return raw


def to_json(message: Message) -> dict[str, Any]:
    """Return *message* as the dictionary that its JSON would parse to."""
    built: dict[str, Any] = msgspec.to_builtins(message)
    return built


def decode(kind: type[M], raw: bytes) -> M:
    """Parse JSON bytes; raise InvalidError with Mesos' first words for it."""
    try:
        try:
            message: M = _decoder(kind).decode(raw)
            return message
        except (msgspec.DecodeError, ValueError):
            pass  # a form that only the lenient way takes, or an error that it words
        return from_json(kind, _parsed(raw))
    except RecursionError as error:
        raise InvalidError("Failed to parse body into JSON: nested too deeply") from error


def from_json(kind: type[M], value: object) -> M:
    """Turn a parsed JSON value into a message; raise InvalidError if it can't be one."""
    try:
        if not isinstance(value, dict):
            raise InvalidError("Expecting a JSON object")
        message: M = message_of(kind, value)
    except InvalidError as error:
        raise InvalidError(
            f"Failed to convert JSON into {kind.__name__} protobuf: {error}"
        ) from error
    return message


def scrubbed(value: Any) -> Any:  # noqa: ANN401 - walks any JSON
    """Return *value* with ``?`` for each half of a surrogate pair, which UTF-8 can't carry."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {scrubbed(key): scrubbed(item) for key, item in value.items()}
        case list() | tuple():
            return [scrubbed(item) for item in value]
        case _:
            return value


@cache
def _decoder(kind: type[M]) -> msgspec.json.Decoder[M]:
    return msgspec.json.Decoder(kind)


def _parsed(raw: bytes) -> object:
    """Return what *raw* says as JSON, a bare ``Infinity`` included."""
    try:
        if INFINITE not in raw:
            return msgspec.json.decode(raw)
        parsed: object = json.loads(raw.decode(), parse_constant=_constant, parse_float=_finite)
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidError(f"Failed to parse body into JSON: {error}") from error
    return parsed


def _constant(text: str) -> float:
    if text == "NaN":
        raise ValueError("NaN is no number")
    return float(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("value out of range")
    return number


def _has_infinity(value: Any) -> bool:  # noqa: ANN401 - walks any JSON
    match value:
        case float():
            return math.isinf(value)
        case dict():
            return any(map(_has_infinity, value.values()))
        case list() | tuple():
            return any(map(_has_infinity, value))
        case _:
            return False
