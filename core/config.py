"""A daemon's configuration: one frozen dataclass from defaults, TOML, environment and flags.

Each field of the dataclass is one setting. Its key is the field's name; the
flag is ``--key-name`` (``--key_name`` works too, as Mesos spells it), the
environment variable ``PREFIX_KEY_NAME`` and the TOML key ``key_name``. A flag
beats the environment, which beats the file, which beats the default. What the
types can't say, a ``__post_init__`` of the dataclass checks.
"""

import argparse
import ipaddress
import os
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Generic, TypeVar

from phalanx.core.error import ConfigError

C = TypeVar("C")


def setting(help: str, *, default: Any = MISSING, metavar: str | None = None) -> Any:  # noqa: ANN401 - it stands where any field's default stands
    """Declare one setting with its help text; without a default it is required."""
    metadata = {"help": help, "metavar": metavar}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class HostPort:
    """The address of a daemon elsewhere."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the address as the base of an HTTP URL."""
        return f"http://{self.host}:{self.port}"


def _parse_bool(text: str) -> bool:
    lowered = text.lower()
    if lowered in ("true", "1", "yes", "on"):
        return True
    if lowered in ("false", "0", "no", "off"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _parse_host_port(text: str) -> HostPort:
    host, colon, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return HostPort(host, int(port))


_PARSERS: Mapping[type, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _parse_bool,
    Path: Path,
    HostPort: _parse_host_port,
    IPv4Address: ipaddress.IPv4Address,
    IPv4Network: ipaddress.IPv4Network,
}


def _parse(kind: Any, raw: object) -> Any:  # noqa: ANN401 - kind is any annotation, and so the result
    """Turn *raw*, a string or a TOML value, into a value of type *kind*; raise ValueError."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in kind.__args__ if part is not types.NoneType)
    if typing.get_origin(kind) is tuple:
        parts = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(parts, list):
            raise ValueError(f"{raw!r} is not a list")
        return tuple(_parse(typing.get_args(kind)[0], part) for part in parts if part != "")
    if isinstance(raw, bool) and kind is not bool:
        raise ValueError(f"{raw!r} is not of type {kind.__name__}")
    return _PARSERS[kind](str(raw))


class Loader(Generic[C]):
    """Reads the settings of one daemon into its configuration dataclass."""

    def __init__(self, kind: type[C], *, program: str, about: str, environ_prefix: str) -> None:
        self._kind = kind
        self._prefix = environ_prefix
        self._types = typing.get_type_hints(kind)
        self._fields: dict[str, Field[Any]] = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass, by contract
        self._parser = argparse.ArgumentParser(prog=program, description=about, allow_abbrev=False)
        self._parser.add_argument(
            "--config", metavar="FILE", help="read settings from this TOML file"
        )
        self._parser.add_argument(
            "--check-config", action="store_true", help="check the configuration and exit"
        )
        for name, item in self._fields.items():
            flag = f"--{name.replace('_', '-')}"
            flags = [flag] if "_" not in name else [flag, f"--{name}"]
            is_switch = self._types[name] is bool
            extra: dict[str, Any] = {"nargs": "?", "const": "true"} if is_switch else {}
            self._parser.add_argument(
                *flags,
                dest=name,
                default=None,
                metavar=item.metadata["metavar"] or name.upper(),
                help=_help_of(item),
                **extra,
            )

    def load(self, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> C:
        """Return the configuration; exit 0 after ``--help`` or a good ``--check-config``.

        Raises ConfigError whose message names the source, the key and the value.
        """
        environ = os.environ if environ is None else environ
        given = vars(self._parser.parse_args(arguments))
        table = _read_toml(given["config"])
        if unknown := sorted(table.keys() - self._fields.keys()):
            raise ConfigError(f"{given['config']}: {unknown[0]}: no such setting")
        values: dict[str, Any] = {}
        for name, item in self._fields.items():
            variable = f"{self._prefix}_{name.upper()}"
            if given[name] is not None:
                source, raw = f"--{name.replace('_', '-')}", given[name]
            elif variable in environ:
                source, raw = variable, environ[variable]
            elif name in table:
                source, raw = f"{given['config']}: {name}", table[name]
            elif item.default is not MISSING:
                continue
            else:
                raise ConfigError(f"--{name.replace('_', '-')}: is required")
            try:
                values[name] = _parse(self._types[name], raw)
            except ValueError as error:
                raise ConfigError(f"{source}: {raw!r}: {error}") from error
        config = self._kind(**values)
        if given["check_config"]:
            sys.stdout.write("configuration is good\n")
            raise SystemExit(0)
        return config


def _help_of(item: Field[Any]) -> str:
    text = item.metadata["help"].replace("%", "%%")
    if item.default is MISSING:
        return f"{text} (required)"
    if item.default in (None, "", ()):
        return str(text)
    shown = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
    return f"{text} (default: {shown})"


def _read_toml(name: str | None) -> Mapping[str, object]:
    if name is None:
        return {}
    try:
        return tomllib.loads(Path(name).read_text())
    except OSError as error:
        raise ConfigError(f"--config: {name!r}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config: {name!r}: {error}") from error


def check_port(key: str, value: int) -> None:
    """Raise ConfigError unless *value* is a TCP port; 0 lets the kernel choose."""
    if not 0 <= value < 65536:
        raise ConfigError(f"--{key}: {value!r}: is not a port")
