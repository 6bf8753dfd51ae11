"""Name servers of networks whose plugins name none: ``--default-container-dns`` (mesos §7.2)."""

import json
from collections.abc import Mapping
from typing import Any

from phalanx.agent.cni.result import Attached, Dns
from phalanx.core.error import ConfigError

FLAG = "--default-container-dns"
MODE = "CNI"

Defaults = Mapping[str, Dns]  # by the name of a network, "" for all others


def parse_defaults(text: str) -> Defaults:
    """Return the settings of CNI networks in the flag's JSON; raise ConfigError.

    Docker's part of it is the engine's own affair and is only looked at for its form.
    """
    if not text:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{FLAG}: is not JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("docker", []), list):
        raise ConfigError(f"{FLAG}: {text!r}: is not an object with mesos and docker")
    entries = value.get("mesos", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ConfigError(f"{FLAG}: mesos: is not a list of objects")
    found: dict[str, Dns] = {}
    for entry in entries:
        if entry.get("network_mode") != MODE:
            raise ConfigError(f"{FLAG}: network_mode: {entry.get('network_mode')!r}: is not {MODE}")
        name = entry.get("network_name") or ""
        if not isinstance(name, str) or name in found:
            raise ConfigError(f"{FLAG}: network_name: {name!r}: is no name, or stands there twice")
        found[name] = _dns(entry.get("dns"))
    return found


def completed(name: str, result: Attached, defaults: Defaults) -> Attached:
    """Return a network's result with name servers: its own, its network's, or everyone's."""
    if result.dns.nameservers or not defaults:
        return result
    return Attached(result.addresses, defaults.get(name, defaults.get("", result.dns)))


def _dns(value: object) -> Dns:
    if not isinstance(value, dict):
        raise ConfigError(f"{FLAG}: dns: {value!r}: is not an object")
    domain = value.get("domain")
    if domain is not None and not isinstance(domain, str):
        raise ConfigError(f"{FLAG}: dns.domain: {domain!r}: is not text")
    return Dns(
        nameservers=_texts(value, "nameservers"),
        domain=domain,
        search=_texts(value, "search"),
        options=_texts(value, "options"),
    )


def _texts(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = value.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ConfigError(f"{FLAG}: dns.{key}: {found!r}: is not a list of texts")
    return tuple(found)
