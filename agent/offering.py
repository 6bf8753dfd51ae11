"""What an agent has to offer: resources and attributes (reference mesos §5.1); pure."""

import json
import re
from dataclasses import dataclass

from phalanx.core.error import ConfigError, InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Attribute, Range, Ranges, Resource, Scalar, Text, ValueType

PORTS = "ports:[31000-32000]"
_SPAN = re.compile(r"^(\d+)-(\d+)$")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine has, before anything is kept back."""

    cpus: int
    memory_megabytes: int
    disk_megabytes: int


def offered_resources(text: str, machine: Machine, role: str = "*") -> tuple[Resource, ...]:
    """Return what *text* names and, of the usual four, what it leaves out; raise ConfigError.

    What names no role is of *role*.
    """
    given = parse_resources(text, role)
    named = _names(text)
    memory, disk = machine.memory_megabytes, machine.disk_megabytes
    found = {
        "cpus": f"cpus:{machine.cpus}",
        "mem": f"mem:{memory - 1024 if memory >= 2048 else memory // 2}",
        "disk": f"disk:{disk - 5120 if disk >= 10240 else disk // 2}",
        "ports": PORTS,
    }
    missing = ";".join(form for name, form in found.items() if name not in named)
    return (given + parse_resources(missing, role)).messages()


def _names(text: str) -> set[str]:
    """Return the names in a text that was parsed before; also of nothing, ``cpus:0``."""
    if text.lstrip().startswith("["):
        return {str(item.get("name")) for item in json.loads(text)}
    return {part.partition(":")[0].partition("(")[0].strip() for part in text.split(";")}


def parse_resources(text: str, role: str = "*") -> Resources:
    """Parse ``cpus:2;mem(role):1024;ports:[1-9]`` or a JSON array; raise ConfigError."""
    try:
        return Resources.parse(text, default_role=role)
    except InvalidError as error:
        raise ConfigError(f"--resources: {text!r}: {error}") from error


def parse_attributes(text: str) -> tuple[Attribute, ...]:
    """Parse ``rack:r1;level:10;ids:[1-4]``; raise ConfigError."""
    attributes = []
    for part in filter(str.strip, text.split(";")):
        name, colon, value = (piece.strip() for piece in part.partition(":"))
        if not colon or not name or not value or value.startswith("{"):
            raise ConfigError(f"--attributes: {part!r}: is not name:value")
        attributes.append(_attribute(name, value))
    return tuple(attributes)


def _attribute(name: str, value: str) -> Attribute:
    if value.startswith("["):
        spans = [_SPAN.match(span.strip()) for span in value.strip("[]").split(",")]
        ranges = tuple(Range(begin=int(s[1]), end=int(s[2])) for s in spans if s is not None)
        if len(ranges) != len(spans):
            raise ConfigError(f"--attributes: {name}: {value!r}: is not [begin-end]")
        return Attribute(name=name, type=ValueType.RANGES, ranges=Ranges(range=ranges))
    try:
        return Attribute(name=name, type=ValueType.SCALAR, scalar=Scalar(value=float(value)))
    except ValueError:
        return Attribute(name=name, type=ValueType.TEXT, text=Text(value=value))
