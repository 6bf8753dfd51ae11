"""What a plugin answered: results of CNI 0.1 to 1.1, and errors; pure."""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from phalanx.core.error import ContainerError


@dataclass(frozen=True, slots=True)
class Dns:
    """Resolver settings."""

    nameservers: tuple[str, ...] = ()
    domain: str | None = None
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attached:
    """A network's result: addresses without prefix, in the plugin's order."""

    addresses: tuple[str, ...] = ()
    dns: Dns = Dns()


def parse_result(raw: bytes) -> dict[str, Any]:
    """Return a plugin's result as JSON; nothing at all is an empty one; raise ContainerError."""
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise ContainerError(f"result is not JSON: {raw[:200]!r}") from error
    if not isinstance(value, dict):
        raise ContainerError(f"result is not an object: {raw[:200]!r}")
    return value


def attached(result: dict[str, Any]) -> Attached:
    """Read addresses and DNS of a result, whichever version it is; raise ContainerError."""
    given = [result[key].get("ip") for key in ("ip4", "ip6") if isinstance(result.get(key), dict)]
    interfaces = _list(result.get("interfaces"))
    for item in _list(result.get("ips")):
        if isinstance(item, dict) and _is_inside(item.get("interface"), interfaces):
            given.append(item.get("address"))
    addresses = []
    for text in given:
        try:
            addresses.append(str(ipaddress.ip_interface(text).ip))
        except ValueError as error:
            raise ContainerError(f"result has a bad address: {text!r}") from error
    return Attached(tuple(dict.fromkeys(addresses)), _dns(result.get("dns")))


def _is_inside(index: object, interfaces: list[Any]) -> bool:
    """Tell whether an address is the container's: a bridge's own has an interface outside."""
    if not isinstance(index, int) or not 0 <= index < len(interfaces):
        return True
    return not isinstance(interfaces[index], dict) or bool(interfaces[index].get("sandbox"))


def _dns(value: object) -> Dns:
    if not isinstance(value, dict):
        return Dns()
    domain = value.get("domain")
    return Dns(
        nameservers=_texts(value.get("nameservers")),
        domain=domain if isinstance(domain, str) and domain else None,
        search=_texts(value.get("search")),
        options=_texts(value.get("options")),
    )


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in _list(value) if isinstance(item, str))


def code_of(out: bytes) -> int | None:
    """Return the code of a failed plugin's error; None when it printed none."""
    try:
        value = json.loads(out)
    except ValueError:
        return None
    code = value.get("code") if isinstance(value, dict) else None
    return code if isinstance(code, int) else None


def words_of(out: bytes, err: bytes) -> str:
    """Return a failed plugin's own words: its error's message and details, or its output."""
    try:
        value = json.loads(out)
    except ValueError:
        value = None
    if isinstance(value, dict) and value.get("msg"):
        return ": ".join(str(value[key]) for key in ("msg", "details") if value.get(key))
    text = out.decode(errors="replace").strip()
    return f"stdout='{text}', stderr='{err.decode(errors='replace').strip()}'"
