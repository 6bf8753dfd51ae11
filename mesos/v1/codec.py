"""Mesos' JSON rules over msgspec structs (reference mesos §0.2).

Out: a field is written if set; an empty repeated field is left out; a field
that declares an explicit default is always written. In: unknown fields are
ignored, ``null`` is absent, a lone object stands for a list of one, numbers
and booleans may come as strings, an unknown enum name in an optional field is
dropped.
"""

import enum
import types
import typing
from functools import cache
from typing import Any, TypeVar

import msgspec

from phalanx.core.error import InvalidError

M = TypeVar("M", bound="Message")


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of every v1 message.

    Optional fields default to None and repeated ones to ``()``: both are left
    out when unset. A field with an explicit default uses ``declared(value)``,
    which msgspec never leaves out.
    """


def declared(value: Any) -> Any:  # noqa: ANN401 - it stands where a field's default stands
    """Declare a default that is written even when nobody set it."""
    return msgspec.field(default_factory=lambda: value)


def encode(message: Message) -> bytes:
    """Return *message* as JSON bytes."""
    try:
        return msgspec.json.encode(message)
    except UnicodeEncodeError:
        return msgspec.json.encode(scrubbed(to_json(message)))


def to_json(message: Message) -> dict[str, Any]:
    """Return *message* as the dictionary that its JSON would parse to."""
    built: dict[str, Any] = msgspec.to_builtins(message)
    return built


def decode(kind: type[M], raw: bytes) -> M:
    """Parse JSON bytes; raise InvalidError with Mesos' first words for it."""
    try:
        return _decode(kind, raw)
    except RecursionError as error:
        raise InvalidError("Failed to parse body into JSON: nested too deeply") from error


def _decode(kind: type[M], raw: bytes) -> M:
    try:
        message: M = _decoder(kind).decode(raw)
        return message
    except msgspec.ValidationError:
        pass  # a form that only the lenient way takes, or an error that it words
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"Failed to parse body into JSON: {error}") from error
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # in what *kind* does not have
        raise InvalidError(f"Failed to parse body into JSON: {error}") from error
    return from_json(kind, value)


def from_json(kind: type[M], value: object) -> M:
    """Turn a parsed JSON value into a message; raise InvalidError if it can't be one."""
    try:
        return msgspec.convert(_lenient(kind, value), kind, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidError(
            f"Failed to convert JSON into {kind.__name__} protobuf: {error}"
        ) from error


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


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


@cache
def _optional_enums(kind: type) -> dict[str, frozenset[str]]:
    """Return the names that each optional enum field of *kind* knows."""
    found = {}
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        inner = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        if isinstance(inner, types.UnionType) or typing.get_origin(inner) is typing.Union:
            for part in typing.get_args(inner):
                for meta in getattr(part, "__metadata__", ()):
                    if isinstance(meta, msgspec.Meta) and meta.extra and "enum" in meta.extra:
                        found[key] = frozenset(meta.extra["enum"])
    return found


def _lenient(kind: Any, value: Any) -> Any:  # noqa: ANN401 - walks any annotation and any JSON
    """Rewrite *value* into the one form that msgspec takes for *kind*."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not types.NoneType)
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return [_lenient(typing.get_args(kind)[0], item) for item in items if item is not None]
    if origin is dict and isinstance(value, dict):
        of = typing.get_args(kind)[1]
        return {key: _lenient(of, item) for key, item in value.items() if item is not None}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and isinstance(value, dict):
        hints = _hints(kind)
        rewritten = {}
        enums = _optional_enums(kind)
        for key, item in value.items():
            if key not in hints or item is None or _is_unknown_enum(hints[key], item):
                continue
            if key in enums and (not isinstance(item, str) or item not in enums[key]):
                continue
            rewritten[key] = _lenient(hints[key], item)
        return rewritten
    return value


def _is_unknown_enum(hint: Any, value: object) -> bool:  # noqa: ANN401 - hint is any annotation
    """Tell whether an *optional* enum field holds a name that we don't know."""
    if not isinstance(hint, types.UnionType):
        return False
    kind = next(part for part in hint.__args__ if part is not types.NoneType)
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        return False
    return value not in {member.value for member in kind}
