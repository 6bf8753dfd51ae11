"""What each field of a message is on the wire, read from the struct's annotations."""

import enum
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

KINDS: Mapping[object, str] = {str: "string", bytes: "bytes", bool: "bool", float: "double"}


@dataclass(frozen=True, eq=False, slots=True)
class Enum:
    """The names of an enum with their numbers; *made* turns a name into the field's value."""

    numbers: Mapping[str, int]
    made: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class Shape:
    """One field; *of* is the protobuf name of a scalar type, an enum or a message's struct."""

    attribute: str
    name: str
    number: int  # 0 without one
    of: "str | Enum | type[Any]"
    is_required: bool
    is_repeated: bool
    is_map: bool


@cache
def shapes(kind: type[Any]) -> tuple[Shape, ...]:
    """Return what each field of the struct *kind* is on the wire."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return tuple(_shape(field, hints[field.name]) for field in msgspec.structs.fields(kind))


def _shape(field: msgspec.structs.FieldInfo, hint: Any) -> Shape:  # noqa: ANN401 - any annotation
    facts: dict[str, Any] = {}
    is_repeated = is_map = False
    while True:
        for meta in getattr(hint, "__metadata__", ()):
            facts |= meta.extra or {}
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            hint = inner[0]
        elif origin in (types.UnionType, typing.Union):
            hint = next(part for part in inner if part is not types.NoneType)
        elif origin is tuple:
            hint, is_repeated = inner[0], True
        elif origin is dict:
            hint, is_map = inner[1], True
        else:
            break
    return Shape(
        attribute=field.name,
        name=field.encode_name,
        number=facts.get("number", 0),
        of=_of(hint, facts),
        is_required=field.required,
        is_repeated=is_repeated,
        is_map=is_map,
    )


def _of(hint: Any, facts: Mapping[str, Any]) -> "str | Enum | type[Any]":  # noqa: ANN401
    if isinstance(hint, type) and issubclass(hint, enum.StrEnum):
        return Enum(_numbers(hint), hint)
    if "enum" in facts:
        return Enum(facts["enum"])
    if hint is int:
        return str(facts.get("kind", "int64"))
    return KINDS.get(hint) or hint


def _numbers(kind: type[enum.StrEnum]) -> Mapping[str, int]:
    """Return the table of a StrEnum, which its module keeps under ``NUMBERS``."""
    tables: Mapping[type[enum.StrEnum], Mapping[str, int]] = sys.modules[kind.__module__].NUMBERS
    return tables[kind]
