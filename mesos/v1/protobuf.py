"""The v1 messages as protobuf: descriptors are made of the structs' annotations at first use.

The structs are the one schema. What a field's annotation says (``wire.py``) and
what its Python type says make a proto2 field: a tuple is repeated, a dict a map,
the rest are optional to protobuf, and a struct refuses to be made without the
fields it requires. An enum number that we don't know counts as unset, as with
every proto2 reader.
"""

import typing
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Wire

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import Message, scrubbed
from phalanx.mesos.v1.shape import Enum, Shape, shapes

M = TypeVar("M", bound=Message)
Value = Any  # what a field of a parsed message holds; it has no static type
Field = descriptor_pb2.FieldDescriptorProto

PACKAGE = "phalanx.v1"
TYPES = {
    "string": Field.TYPE_STRING,
    "bytes": Field.TYPE_BYTES,
    "bool": Field.TYPE_BOOL,
    "double": Field.TYPE_DOUBLE,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
}


def has_protobuf(kind: type[Message]) -> bool:
    """Tell whether *kind* has numbers; the private messages between agent and master have none."""
    return all(shape.number > 0 for shape in shapes(kind))


def encode_protobuf(message: Message) -> bytes:
    """Return *message* as protobuf bytes; half a surrogate pair in a text becomes a ``?``."""
    write = _wire_kind(type(message))
    built = msgspec.to_builtins(message, builtin_types=(bytes,))
    try:
        raw: bytes = write(**built).SerializeToString()
    except UnicodeEncodeError:
        raw = write(**scrubbed(built)).SerializeToString()
    return raw


def decode_protobuf(kind: type[M], raw: bytes) -> M:
    """Parse protobuf bytes; raise InvalidError in Mesos' words, also for a missing field."""
    parsed = _wire_kind(kind)()
    try:
        parsed.ParseFromString(raw)
        message: M = _reader(kind)(parsed)
    # A struct without a required field is a TypeError.
    except (DecodeError, TypeError, ValueError) as error:
        raise InvalidError(f"Failed to parse body into {kind.__name__} protobuf") from error
    return message


@cache
def _reader(kind: type[M]) -> Callable[[Wire], M]:
    """Return what turns a parsed message into *kind*."""
    turns: dict[int, tuple[str, Callable[[Value], Value] | None]] = {}

    def read(parsed: Wire) -> M:
        if not turns:  # not before: a message may hold others of its own kind
            turns.update({shape.number: (shape.attribute, _turn(shape)) for shape in shapes(kind)})
        fields: dict[str, Value] = {}
        for descriptor, value in parsed.ListFields():
            name, turn = turns[descriptor.number]
            fields[name] = value if turn is None else turn(value)
        return kind(**fields)

    return read


def _turn(shape: Shape) -> Callable[[Value], Value] | None:
    """Return what turns one field's value, or None when it can stay as it is."""
    of = shape.of
    one: Callable[[Value], Value] | None
    if isinstance(of, str):
        one = _number if of == "double" else None
    elif isinstance(of, Enum):
        one = {number: of.made(name) for name, number in of.numbers.items()}.__getitem__
    else:
        one = _reader(typing.cast(type[Message], of))
    if shape.is_map:
        return lambda found: {
            key: item if one is None else one(item) for key, item in found.items()
        }
    if shape.is_repeated:
        return tuple if one is None else lambda found: tuple(map(one, found))
    return one


def _number(value: float) -> float:
    if value != value:
        raise ValueError("NaN is no number")
    return value


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    return descriptor_pool.DescriptorPool()


@cache
def _wire_kind(kind: type[Message]) -> Callable[..., Wire]:
    """Return the protobuf class of *kind*."""
    pool = _pool()
    _add_file(kind, pool)
    found: Callable[..., Wire] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName(_name(kind))
    )
    return found


def _name(kind: type[Message]) -> str:
    return f"{PACKAGE}.{kind.__module__.rpartition('.')[2]}_{kind.__name__}"


def _add_file(kind: type[Message], pool: descriptor_pool.DescriptorPool) -> None:
    """Describe *kind* and whatever it holds in one file, but for what other files describe."""
    file = descriptor_pb2.FileDescriptorProto(name=_name(kind), package=PACKAGE)
    file.syntax, file.edition = "editions", descriptor_pb2.EDITION_2023
    rules = file.options.features  # those of proto2, but that texts must be UTF-8
    rules.enum_type = descriptor_pb2.FeatureSet.CLOSED
    rules.repeated_field_encoding = descriptor_pb2.FeatureSet.EXPANDED
    rules.utf8_validation = descriptor_pb2.FeatureSet.VERIFY
    waiting, seen = [kind], {kind}
    while waiting:
        described = waiting.pop()
        try:
            known = pool.FindMessageTypeByName(_name(described))
        except KeyError:
            file.message_type.append(_described(described))
            held = (shape.of for shape in shapes(described))
            fresh = {of for of in held if isinstance(of, type)} - seen
            seen |= fresh
            waiting += fresh
        else:
            if known.file.name not in file.dependency:
                file.dependency.append(known.file.name)
    if file.message_type:
        pool.AddSerializedFile(file.SerializeToString())


def _described(kind: type[Message]) -> descriptor_pb2.DescriptorProto:
    """Return the descriptor of *kind*; names of enums are told apart by a message around each."""
    made = descriptor_pb2.DescriptorProto(name=_name(kind).rpartition(".")[2])
    for shape in shapes(kind):
        field = made.field.add(name=shape.name, number=shape.number)
        field.label = Field.LABEL_REPEATED if shape.is_repeated else Field.LABEL_OPTIONAL
        if shape.is_map:
            entry = made.nested_type.add(name=f"{_camel(shape.name)}Entry")
            entry.options.map_entry = True
            entry.field.add(
                name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL
            )
            _set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), shape)
            field.label = Field.LABEL_REPEATED
            field.type = Field.TYPE_MESSAGE
            field.type_name = f".{_name(kind)}.{entry.name}"
            continue
        _set_type(field, shape)
        if isinstance(shape.of, Enum):
            around = made.nested_type.add(name=f"{_camel(shape.name)}Enum")
            names = around.enum_type.add(name="Names")
            for name, number in shape.of.numbers.items():
                names.value.add(name=name, number=number)
            field.type_name = f".{_name(kind)}.{around.name}.Names"
    return made


def _set_type(field: Value, shape: Shape) -> None:
    if isinstance(shape.of, str):
        field.type = TYPES[shape.of]
    elif isinstance(shape.of, Enum):
        field.type = Field.TYPE_ENUM
    else:
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".{_name(shape.of)}"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
