"""A daemon's configuration: one frozen dataclass from defaults, TOML, environment and flags.

Each field of the dataclass is one setting. Its key is the field's name; the
flag is ``--key-name`` (``--key_name`` works too, as Mesos spells it), the
environment variable ``PREFIX_KEY_NAME`` and the TOML key ``key_name``. A flag
beats the environment, which beats the file, which beats the default. What the
types can't say, a ``__post_init__`` of the dataclass checks.

As in Mesos (reference mesos §8) a switch is ``--name``, ``--name=true`` or
``--no-name``; the value ``file:///path`` stands for what the file holds; old
spellings of a name are its aliases; and variables of the environment that
nobody knows are ignored. A flag of Mesos that can't be honoured is declared
with ``fixed``: giving it another value is refused with the reason.
"""

import argparse
import ipaddress
import os
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from phalanx.core.error import ConfigError

C = TypeVar("C")


def setting(
    help: str,
    *,
    default: Any = MISSING,  # noqa: ANN401 - it stands where any field's default stands
    metavar: str | None = None,
    aliases: Sequence[str] = (),
) -> Any:  # noqa: ANN401 - likewise
    """Declare one setting with its help text; without a default it is required.

    *aliases* are other names of it, as fields are spelled.
    """
    metadata = {"help": help, "metavar": metavar, "aliases": tuple(aliases)}
    if default is MISSING:
        return field(metadata=metadata)
    return field(default=default, metadata=metadata)


def fixed(
    why: str,
    *,
    default: Any = None,  # noqa: ANN401 - it stands where any field's default stands
    also: Sequence[Any] = (),
    aliases: Sequence[str] = (),
) -> Any:  # noqa: ANN401 - likewise
    """Declare a flag of Mesos that can't be honoured: only its default, or *also*, is accepted.

    *why* completes "is refused: ". An empty value counts as the default.
    """
    metadata = {
        "help": f"as in Mesos; any other value is refused: {why}",
        "metavar": None,
        "aliases": tuple(aliases),
        "why": why,
        "only": (default, *also),
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class HostPort:
    """The address of a daemon elsewhere."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the address as the base of an HTTP URL."""
        return f"http://{self}"


@dataclass(frozen=True, slots=True)
class ZooKeeperAddress:
    """Where an ensemble is and which node of it is ours: ``zk://user:password@h1:2181,h2/path``."""

    hosts: str
    path: str
    credentials: str = ""  # user:password, of the digest scheme

    def __str__(self) -> str:
        """Return the address as it is shown: without the password."""
        user = f"{self.credentials.partition(':')[0]}:***@" if self.credentials else ""
        return f"zk://{user}{self.hosts}{self.path}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that *text* spells; raise ValueError."""
        rest = text.strip().removeprefix("zk://")
        authority, _, path = rest.partition("/")
        credentials, _, hosts = authority.rpartition("@")
        path = path.strip("/")
        if (
            rest == text.strip()
            or not all(host.strip() for host in hosts.split(","))
            or not all(part not in ("", ".", "..") for part in path.split("/"))
            or (credentials and not all(credentials.partition(":")))
        ):
            raise ValueError("is not zk://[USER:PASSWORD@]HOST:PORT,HOST:PORT/PATH")
        return cls(hosts, f"/{path}", credentials)


@dataclass(frozen=True, slots=True)
class MasterAddress:
    """Where to find the leading master: by asking any of several masters, or ZooKeeper."""

    hosts: tuple[HostPort, ...] = ()
    zookeeper: ZooKeeperAddress | None = None

    def __str__(self) -> str:
        return ",".join(map(str, self.hosts)) if self.zookeeper is None else str(self.zookeeper)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that *text* spells; raise ValueError."""
        if text.strip().startswith("zk://"):
            return cls(zookeeper=ZooKeeperAddress.parse(text))
        hosts = tuple(_parse_host_port(part) for part in text.split(",") if part)
        if not hosts:
            raise ValueError("names no master")
        return cls(hosts)


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
    IPv6Network: ipaddress.IPv6Network,
    IPv6Address: ipaddress.IPv6Address,
    ZooKeeperAddress: ZooKeeperAddress.parse,
    MasterAddress: MasterAddress.parse,
}

FILE = "file://"


def _parse(kind: Any, raw: object) -> Any:  # noqa: ANN401 - kind is any annotation, and so the result
    """Turn *raw*, a string or a TOML value, into a value of type *kind*; raise ValueError."""
    if isinstance(kind, types.UnionType):
        kind = next(part for part in kind.__args__ if part is not types.NoneType)
        if raw == "" and kind is not str:
            return None
    if typing.get_origin(kind) is tuple:
        if isinstance(raw, str) and raw.startswith(FILE):
            raw = _content_of(raw.removeprefix(FILE))
        parts = raw.split(",") if isinstance(raw, str) else raw
        if not isinstance(parts, list):
            raise ValueError(f"{raw!r} is not a list")
        return tuple(_parse(typing.get_args(kind)[0], part) for part in parts if part != "")
    if isinstance(raw, bool) and kind is not bool:
        raise ValueError(f"{raw!r} is not of type {kind.__name__}")
    text = str(raw)
    if text.startswith(FILE):
        text = text.removeprefix(FILE) if kind is Path else _content_of(text.removeprefix(FILE))
    return _PARSERS[kind](text)


def _content_of(path: str) -> str:
    """Return what a file holds, without the line end that editors add; raise ValueError."""
    try:
        return Path(path).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"can't be read: {error}") from error


class Loader(Generic[C]):
    """Reads the settings of one daemon into its configuration dataclass."""

    def __init__(
        self,
        kind: type[C],
        *,
        program: str,
        about: str,
        environ_prefix: str,
        version: str | None = None,
    ) -> None:
        """Prepare to read settings of *kind*; *version* is what ``--version`` prints."""
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
        if version is not None:
            self._parser.add_argument(
                "--version", action="version", version=version, help="print the version and exit"
            )
        for name, item in self._fields.items():
            is_switch = self._types[name] in (bool, bool | None)
            extra: dict[str, Any] = {"nargs": "?", "const": "true"} if is_switch else {}
            spelled = [name, *_aliases(item)]
            self._parser.add_argument(
                *_flags(spelled),
                dest=name,
                default=None,
                metavar=item.metadata["metavar"] or name.upper(),
                help=_help_of(item),
                **extra,
            )
            if is_switch:
                self._parser.add_argument(
                    *_flags([f"no_{each}" for each in spelled]),
                    dest=name,
                    action="store_const",
                    const="false",
                    help=argparse.SUPPRESS,
                )

    def load(self, arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> C:
        """Return the configuration; exit 0 after ``--help`` or a good ``--check-config``.

        Raises ConfigError whose message names the source, the key and the value.
        """
        environ = os.environ if environ is None else environ
        given = vars(self._parser.parse_args([_dashed(each) for each in arguments]))
        table = _read_toml(given["config"])
        if unknown := sorted(table.keys() - self._fields.keys()):
            raise ConfigError(f"{given['config']}: {unknown[0]}: no such setting")
        values: dict[str, Any] = {}
        for name, item in self._fields.items():
            variable = self._variable(item, environ)
            if given[name] is not None:
                source, raw = _flag(name), given[name]
            elif variable is not None:
                source, raw = variable, environ[variable]
            elif name in table:
                source, raw = f"{given['config']}: {name}", table[name]
            elif item.default is not MISSING:
                continue
            else:
                raise ConfigError(f"{_flag(name)}: is required")
            if raw == "" and "only" in item.metadata:
                continue
            try:
                values[name] = _parse(self._types[name], raw)
            except ValueError as error:
                raise ConfigError(f"{source}: {_shown(raw)!r}: {error}") from error
            if values[name] not in item.metadata.get("only", (values[name],)):
                raise ConfigError(f"{source}: {raw!r}: is refused: {item.metadata['why']}")
        config = self._kind(**values)
        if given["check_config"]:
            sys.stdout.write("configuration is good\n")
            raise SystemExit(0)
        return config

    def _variable(self, item: Field[Any], environ: Mapping[str, str]) -> str | None:
        """Return the variable of the environment that gives a setting, if one does."""
        names = (f"{self._prefix}_{name.upper()}" for name in (item.name, *_aliases(item)))
        return next((name for name in names if name in environ), None)


def rendered(config: Any) -> Mapping[str, str]:  # noqa: ANN401 - any configuration dataclass
    """Return every setting that has a value as text, as ``/flags`` shows it."""
    shown = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, bool):
            shown[item.name] = str(value).lower()
        elif isinstance(value, tuple):
            shown[item.name] = ",".join(map(str, value))
        elif value is not None:
            shown[item.name] = str(value)
    return {name: text for name, text in shown.items() if text}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _flags(names: Sequence[str]) -> Sequence[str]:
    return [_flag(name) for name in names]


def _dashed(argument: str) -> str:
    """Return a flag as argparse knows it: with dashes, whatever it was spelled with."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return f"{name.replace('_', '-')}{equals}{value}"


def _aliases(item: Field[Any]) -> tuple[str, ...]:
    return tuple(item.metadata.get("aliases", ()))


def _shown(raw: object) -> object:
    """Return a value as a message may show it: no passwords of addresses."""
    return re.sub(r"//[^/@]*@", "//***@", raw) if isinstance(raw, str) else raw


def _help_of(item: Field[Any]) -> str:
    """Return the help text as argparse wants it: each percent sign twice."""
    return _described(item).replace("%", "%%")


def _described(item: Field[Any]) -> str:
    text = str(item.metadata["help"])
    if item.default is MISSING:
        return f"{text} (required)"
    if item.default in (None, "", ()):
        return text
    shown = ",".join(map(str, item.default)) if isinstance(item.default, tuple) else item.default
    shown = str(shown).lower() if isinstance(shown, bool) else shown
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
