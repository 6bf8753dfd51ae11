"""Old spellings of a definition, rewritten into today's (reference marathon §1.5)."""

from collections.abc import Mapping
from typing import Any

from phalanx.marathon.definition.problem import DefinitionError, Problem

Json = Mapping[str, Any]

BRIDGE_NAME = "mesos-bridge"  # what the bridge was called among networks with names

_ARCHIVES = (
    ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip", ".tar", ".gz",
)  # fmt: skip
_MODES = {"HOST": "host", "NONE": "host", "BRIDGE": "container/bridge", "USER": "container"}


def modernised(raw: Json) -> dict[str, Any]:
    """Return *raw* without old spellings; raise DefinitionError where old and new are mixed.

    Values of an unexpected type are left as they are: the parser names them.
    """
    new = {key: value for key, value in raw.items() if value is not None}
    _uris(new)
    _docker_network(new)
    _ip_address(new)
    _ports(new)
    for key in ("uris", "ports", "ipAddress", "storeUrls"):
        new.pop(key, None)
    return new


def _uris(new: dict[str, Any]) -> None:
    uris = new.get("uris")
    if not isinstance(uris, list) or not uris:
        return
    if new.get("fetch"):
        _refuse("/uris", "may not be set in conjunction with fetch")
    new["fetch"] = [
        {"uri": uri, "extract": isinstance(uri, str) and uri.endswith(_ARCHIVES)} for uri in uris
    ]


def _ports(new: dict[str, Any]) -> None:
    ports = new.get("ports")
    if not isinstance(ports, list):
        return
    if "portDefinitions" in new:
        _refuse("/ports", "cannot specify both ports and port definitions")
    fixed = [port for port in ports if port != 0]
    if len(fixed) != len(set(map(repr, fixed))):
        _refuse("/ports", "ports must be unique")
    networks = new.get("networks")
    if isinstance(networks, list) and networks:
        first = networks[0]
        if isinstance(first, dict) and first.get("mode", "container") != "host":
            _service_ports(new, ports)
            return
    new["portDefinitions"] = [{"port": port} for port in ports]


def _service_ports(new: dict[str, Any], ports: list[Any]) -> None:
    """Take *ports* for the service ports of mappings, as the old form means them off the host."""
    container = new.get("container")
    if not ports or not isinstance(container, dict):
        return
    given = container.get("portMappings")
    mappings = list(given) if isinstance(given, list) else []
    mappings += [{} for _ in ports[len(mappings) :]]
    for index, port in enumerate(ports):
        mapping = mappings[index]
        if isinstance(mapping, dict) and not mapping.get("servicePort"):
            mappings[index] = {**mapping, "servicePort": port}
    new["container"] = {**container, "portMappings": mappings}


def _docker_network(new: dict[str, Any]) -> None:
    container = new.get("container")
    docker = container.get("docker") if isinstance(container, dict) else None
    if not isinstance(container, dict) or not isinstance(docker, dict):
        return
    docker = dict(docker)
    network, mappings = docker.pop("network", None), docker.pop("portMappings", None)
    new["container"] = container = {**container, "docker": docker}
    if mappings is not None:
        if container.get("portMappings"):
            _refuse("/container/portMappings", "must not be set twice")
        container["portMappings"] = mappings
    if network is None:
        return
    definitions = new.get("portDefinitions")
    if network in ("BRIDGE", "USER") and isinstance(definitions, list):
        # The old form's service ports: off the host nothing else is defined by them.
        del new["portDefinitions"]
        ports = [one.get("port", 0) if isinstance(one, dict) else one for one in definitions]
        _service_ports(new, ports)
    if "networks" in new:
        _refuse("/networks", "must not specify both container.docker.network and networks")
    mode = _MODES.get(network) if isinstance(network, str) else None
    if mode is None:
        _refuse("/container/docker/network", f"{network!r} is none of {', '.join(_MODES)}")
    address = new.pop("ipAddress", None)
    joined: dict[str, Any] = {"mode": mode}
    if mode == "container" and isinstance(address, dict):
        given = {"name": address.get("networkName"), "labels": address.get("labels")}
        joined |= {key: value for key, value in given.items() if value}
    new["networks"] = [joined]


def _ip_address(new: dict[str, Any]) -> None:
    address = new.get("ipAddress")
    if not isinstance(address, dict):
        return
    if "networks" in new:
        _refuse("/networks", "must not specify both networks and ipAddress")
    if "ports" in new or "portDefinitions" in new:
        _refuse("/ipAddress", "cannot specify both an IP address and port")
    network: dict[str, Any] = {"mode": "container"}
    if address.get("networkName") == BRIDGE_NAME:
        network["mode"] = "container/bridge"
    elif address.get("networkName"):
        network["name"] = address["networkName"]
    if address.get("labels"):
        network["labels"] = address["labels"]
    new["networks"] = [network]
    container = new.get("container", {"type": "MESOS"})
    discovery = address.get("discovery")
    ports = discovery.get("ports") if isinstance(discovery, dict) else None
    if isinstance(container, dict) and isinstance(ports, list) and ports:
        container = {
            **container,
            "portMappings": [
                {
                    **{k: v for k, v in port.items() if k != "number"},
                    "containerPort": port["number"],
                }
                if isinstance(port, dict) and "number" in port
                else port
                for port in ports
            ],
        }
    new["container"] = container


def _refuse(path: str, error: str) -> None:
    raise DefinitionError([Problem(path, error)])
