"""Messages of every kind with random contents, made from the structs themselves."""

import math
from random import Random
from typing import Any

from phalanx.mesos.v1 import (
    agent,
    allocator,
    executor,
    maintenance,
    master,
    mesos,
    operator,
    quota,
    scheduler,
)
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.shape import Enum, Shape, shapes

MODULES = (mesos, scheduler, executor, operator, agent, master, maintenance, quota, allocator)


def kinds_of(*modules: Any) -> list[type[Message]]:
    return [
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Message)
        and kind.__module__ == module.__name__
    ]


KINDS = kinds_of(*MODULES)
TEXTS = ("", "x", "a/b", 'q"\\', "null", ":null,", "grüße", "\u2028", "\x00\n", "😀", "Infinity")
DOUBLES = (0.0, -0.0, 1.0, 0.1, -2.5, 1e16, 1e300, 5e-324, math.inf, -math.inf)
WHOLES = {
    "int32": (0, 1, -1, 2**31 - 1, -(2**31)),
    "int64": (0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1),
    "uint32": (0, 1, 2**32 - 1),
    "uint64": (0, 1, 2**64 - 1),
}


def one_of(shape: Shape, random: Random, depth: int) -> Any:
    """Return a value for one field."""
    match shape.of:
        case "string":
            return random.choice(TEXTS)
        case "bytes":
            return random.randbytes(random.choice((0, 1, 16)))
        case "bool":
            return random.random() < 0.5
        case "double":
            return random.choice(DOUBLES)
        case str(kind):
            return random.choice(WHOLES[kind])
        case Enum(numbers=numbers, made=made):
            return made(random.choice(list(numbers)))
        case kind:
            return any_message(kind, random, depth + 1)


def any_message(kind: type[Message], random: Random, depth: int = 0) -> Message:
    """Return a message of *kind* with some of its fields."""
    found: dict[str, Any] = {}
    for shape in shapes(kind):
        if not shape.is_required and random.random() < 0.3 + 0.15 * depth:
            continue
        if shape.is_map:
            keys = random.sample(TEXTS, random.randrange(3))
            found[shape.attribute] = {key: one_of(shape, random, depth) for key in keys}
        elif shape.is_repeated:
            some = range(random.randrange(3))
            found[shape.attribute] = tuple(one_of(shape, random, depth) for _ in some)
        else:
            found[shape.attribute] = one_of(shape, random, depth)
    return kind(**found)
