"""CNI network configurations: what files say, and where plugins are."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from phalanx.core.error import ContainerError

log = structlog.get_logger()

ENDINGS = (".conf", ".json", ".conflist")
OLDEST = "0.1.0"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """One network: the plugins that make it, in order, as the operator wrote them."""

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    is_list: bool = False


def parse_config(raw: bytes) -> NetworkConfig:
    """Parse a ``.conf`` or a ``.conflist``; raise ContainerError that names the key."""
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise ContainerError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ContainerError("is not a JSON object")
    name = _text(value, "name")
    version = value.get("cniVersion", OLDEST)
    if not isinstance(version, str):
        raise ContainerError(f"cniVersion: {version!r}: is not text")
    if "plugins" not in value:
        _text(value, "type")
        return NetworkConfig(name, version, (value,))
    plugins = value["plugins"]
    if not isinstance(plugins, list) or not plugins:
        raise ContainerError("plugins: is not a list of plugins")
    for plugin in plugins:
        if not isinstance(plugin, dict):
            raise ContainerError(f"plugins: {plugin!r}: is not an object")
        _text(plugin, "type")
    return NetworkConfig(
        name,
        version,
        tuple({**plugin, "name": name, "cniVersion": version} for plugin in plugins),
        is_list=True,
    )


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    if not isinstance(text, str) or not text:
        raise ContainerError(f"{key}: {text!r}: is not text")
    return text


def takes_result_on_delete(version: str) -> bool:
    """Tell whether DEL of this CNI version is given the result of ADD (0.4.0 and later)."""
    numbers = [int(part) if part.isdecimal() else 0 for part in version.split(".")[:2]]
    return numbers >= [0, 4]


def read_configs(directory: Path) -> dict[str, NetworkConfig]:
    """Read every configuration of a directory, by name; the first file of a name wins.

    A file that can't be used is logged and holds up no other.
    """
    found: dict[str, NetworkConfig] = {}
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix in ENDINGS)
    except OSError as error:
        log.warning("cni_directory_unreadable", directory=str(directory), error=str(error))
        return found
    for path in paths:
        try:
            config = parse_config(path.read_bytes())
        except (ContainerError, OSError) as error:
            log.warning("cni_config_skipped", file=str(path), error=str(error))
            continue
        if config.name in found:
            log.warning("cni_config_skipped", file=str(path), error=f"again {config.name!r}")
            continue
        found[config.name] = config
    return found


def find_plugin(kind: str, directories: Sequence[Path]) -> Path:
    """Return the executable of a plugin type; raise ContainerError if it is in no directory."""
    if "/" in kind or kind in ("", ".", ".."):
        raise ContainerError(f"CNI plugin {kind!r}: is not a file name")
    for directory in directories:
        path = directory / kind
        if os.access(path, os.X_OK) and path.is_file():
            return path
    raise ContainerError(f"CNI plugin {kind!r}: not found in {_joined(directories)}")


def _joined(directories: Iterable[Path]) -> str:
    return ":".join(map(str, directories)) or "an empty search path"
