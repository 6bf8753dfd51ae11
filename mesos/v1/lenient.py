"""From a parsed JSON value to a message, by every rule of Mesos (reference mesos §0.2).

The slow and patient way: it is walked when msgspec's strict decoder refuses a
body, and it words what is wrong.
"""

import binascii
import math
import re
from base64 import b64decode
from functools import cache
from typing import Any, NoReturn, TypeVar

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.shape import Enum, Shape, shapes

Value = Any  # any JSON
S = TypeVar("S", bound=msgspec.Struct)
NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII)
LONGEST_NUMBER = 400  # characters
INFINITIES = {"Infinity": math.inf, "-Infinity": -math.inf}
SPANS = {
    "int32": range(-(2**31), 2**31),
    "int64": range(-(2**63), 2**63),
    "uint32": range(2**32),
    "uint64": range(2**64),
}
UNSET = object()
NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\s]")


def message_of(kind: type[S], value: Value) -> S:
    """Return the message of *kind* that *value* says.

    Raises InvalidError for a value of the wrong type, or with the paths of all
    required fields that are missing.
    """
    missing: list[str] = []
    made = _message(kind, value, "", missing)
    if made is None:
        raise InvalidError(f"Missing required fields: {', '.join(missing)}")
    return made


@cache
def _by_name(kind: type[msgspec.Struct]) -> dict[str, Shape]:
    return {shape.name: shape for shape in shapes(kind)}


def _message(kind: type[S], value: Value, path: str, missing: list[str]) -> S | None:
    """Return a message, or None after noting what it lacks."""
    if isinstance(value, kind):
        return value
    found: dict[str, Value] = {}
    inner: list[str] = []
    for name, shape in _by_name(kind).items():
        given = value.get(name)
        if given is not None:
            made = _field(shape, given, f"{path}{name}", inner)
            if made is not UNSET:
                found[shape.attribute] = made
    own = [
        f"{path}{shape.name}"
        for shape in shapes(kind)
        if shape.is_required and shape.attribute not in found
    ]
    missing += own + inner
    if own or inner:
        return None
    try:
        return kind(**found)
    except ValueError as error:
        raise InvalidError(str(error)) from error


def _field(shape: Shape, value: Value, path: str, missing: list[str]) -> Value:
    if shape.is_map:
        if not isinstance(value, dict):
            _refuse(value, shape.name)
        made = {
            str(key): _one(shape, item, f"{path}[{place}].value", missing)
            for place, (key, item) in enumerate(value.items())
            if item is not None
        }
        return {key: item for key, item in made.items() if item is not UNSET}
    if shape.is_repeated:
        items = value if isinstance(value, list | tuple) else [value]
        some = [
            _one(shape, item, f"{path}[{place}]", missing)
            for place, item in enumerate(item for item in items if item is not None)
        ]
        return tuple(item for item in some if item is not UNSET)
    return _one(shape, value, path, missing)


def _one(shape: Shape, value: Value, path: str, missing: list[str]) -> Value:
    """Return one value of a field, or UNSET for an enum's name that we don't know."""
    of = shape.of
    if isinstance(of, Enum):
        if not isinstance(value, str):
            _refuse(value, shape.name)
        if value in of.numbers:
            return of.made(value)
        if shape.is_required:
            raise InvalidError(f"Failed to find enum for '{value}'")
        return UNSET
    if not isinstance(of, str):
        if not isinstance(value, dict | of):
            _refuse(value, shape.name)
        return _message(of, value, f"{path}.", missing)
    match of:
        case "string":
            if not isinstance(value, str):
                _refuse(value, shape.name)
            return value
        case "bytes":
            return _bytes(value, shape.name)
        case "bool":
            return _bool(value, shape.name)
        case _:
            return _number(of, value, shape.name)


def _bytes(value: Value, name: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        _refuse(value, name)
    strange = NOT_BASE64.search(value)
    if strange is not None:
        text = f"Invalid character '{strange.group()}'"
        raise InvalidError(f"Failed to base64 decode bytes field '{name}': {text}")
    bare = "".join(value.split()).rstrip("=")
    try:
        return b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error as error:
        raise InvalidError(f"Failed to base64 decode bytes field '{name}': {error}") from error


def _bool(value: Value, name: str) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        _refuse(value, name)
    if value not in ("true", "false"):
        raise InvalidError(f"Failed to parse '{value}' as a JSON boolean for field '{name}'")
    return value == "true"


def _number(of: str, value: Value, name: str) -> float:
    """Return a number of the protobuf type *of*; a fraction is cut from an integer."""
    if isinstance(value, str):
        if of == "double" and value in INFINITIES:
            return INFINITIES[value]
        if len(value) > LONGEST_NUMBER or not NUMBER.fullmatch(value):
            text = value[:LONGEST_NUMBER]
            raise InvalidError(f"Failed to parse '{text}' as a JSON number for field '{name}'")
        value = float(value) if of == "double" or not value.lstrip("-").isdigit() else int(value)
        if isinstance(value, float) and math.isinf(value):
            raise InvalidError(f"Value out of range for field '{name}'")
    elif isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(value, name)
    try:
        if of == "double":
            exact = float(value)
            if math.isnan(exact):
                raise InvalidError(f"Value is no number for field '{name}'")
            return exact
        whole = int(value)
    except (OverflowError, ValueError) as error:  # an infinity has no integer
        raise InvalidError(f"Value out of range for field '{name}'") from error
    if whole not in SPANS[of]:
        raise InvalidError(f"Value out of range for field '{name}'")
    return whole


def _refuse(value: Value, name: str) -> NoReturn:
    match value:
        case bool():
            kind = "boolean"
        case int() | float():
            kind = "number"
        case str() | bytes():
            kind = "string"
        case list() | tuple():
            kind = "array"
        case dict() | msgspec.Struct():
            kind = "object"
        case _:
            kind = "null"
    raise InvalidError(f"Not expecting a JSON {kind} for field '{name}'")
