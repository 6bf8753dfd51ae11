"""A topology as TOML, and as JSON in a lab's record."""

import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from phalanx.core.error import ConfigError, InvalidError
from phalanx.labs.topology import (
    DEFAULT_RESOURCES,
    DEFAULT_SEGMENTS,
    Node,
    Role,
    Segment,
    Topology,
    check,
    parse_address,
    place_node,
)
from phalanx.mesos.resources import Resources

TOP_KEYS = {"zookeeper", "segments", "nodes"}
SEGMENT_KEYS = {"name", "subnet"}
NODE_KEYS = {"name", "segment", "address", "resources"}


def read_topology(path: Path) -> Topology:
    """Return the topology that a TOML file describes; raise ConfigError naming the file."""
    try:
        return parse_topology(path.read_text())
    except OSError as error:
        raise ConfigError(f"--topology: {str(path)!r}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--topology: {str(path)!r}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"--topology: {str(path)!r}: {error}") from error


def parse_topology(text: str) -> Topology:
    """Return the topology that *text* describes.

    ``[[segments]]`` have ``name`` and ``subnet`` (default: s1 and s2), ``[[nodes]]``
    have ``name``, and may have ``segment`` (default: the segments in turn),
    ``address`` and ``resources``; ``zookeeper`` is true or false.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error)) from error
    _check_keys("topology", table, TOP_KEYS)
    segments = tuple(_segment(item) for item in _tables(table, "segments")) or DEFAULT_SEGMENTS
    zookeeper = table.get("zookeeper", False)
    if not isinstance(zookeeper, bool):
        raise ConfigError(f"zookeeper: {zookeeper!r}: is neither true nor false")
    nodes = [
        _node(item, segments, segments[index % len(segments)])
        for index, item in enumerate(_tables(table, "nodes"))
    ]
    order = list(Role)
    nodes.sort(key=lambda node: (order.index(node.role), node.number))
    return check(Topology(segments, tuple(nodes), zookeeper))


def _segment(item: Mapping[str, object]) -> Segment:
    _check_keys("segments", item, SEGMENT_KEYS)
    name, subnet = _text("segments", item, "name"), _text("segments", item, "subnet")
    try:
        return Segment(name, IPv4Network(subnet))
    except ValueError as error:
        raise ConfigError(f"{name}: subnet: {subnet!r}: {error}") from error


def _node(item: Mapping[str, object], segments: Sequence[Segment], default: Segment) -> Node:
    _check_keys("nodes", item, NODE_KEYS)
    name = _text("nodes", item, "name")
    segment = default
    if "segment" in item:
        wanted = _text(name, item, "segment")
        found = [segment for segment in segments if segment.name == wanted]
        if not found:
            known = ", ".join(segment.name for segment in segments)
            raise ConfigError(f"{name}: segment: {wanted!r}: is none of {known}")
        segment = found[0]
    address = parse_address(f"{name}: address", item["address"]) if "address" in item else None
    resources = _text(name, item, "resources") if "resources" in item else DEFAULT_RESOURCES
    try:
        Resources.parse(resources)
    except InvalidError as error:
        raise ConfigError(f"{name}: resources: {error}") from error
    return place_node(name, segment, address=address, resources=resources)


def _tables(table: Mapping[str, object], key: str) -> Sequence[Mapping[str, object]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{key}: {value!r}: is not a list of tables ([[{key}]])")
    return value


def _text(where: str, item: Mapping[str, object], key: str) -> str:
    value = item.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: {key}: {value!r}: is not a text")
    return value


def _check_keys(where: str, item: Mapping[str, object], known: set[str]) -> None:
    if unknown := sorted(item.keys() - known):
        raise ConfigError(f"{where}: {unknown[0]}: is none of {', '.join(sorted(known))}")


def topology_to_json(topology: Topology) -> dict[str, Any]:
    """Return the topology as plain JSON values."""
    return {
        "zookeeper": topology.zookeeper,
        "segments": [{"name": s.name, "subnet": str(s.subnet)} for s in topology.segments],
        "nodes": [
            {
                "name": node.name,
                "role": node.role.value,
                "segment": node.segment,
                "address": str(node.address),
                "resources": node.resources,
            }
            for node in topology.nodes
        ],
    }


def topology_from_json(table: Mapping[str, Any]) -> Topology:
    """Return the topology that `topology_to_json` wrote; raise KeyError or ValueError if torn."""
    return Topology(
        segments=tuple(Segment(s["name"], IPv4Network(s["subnet"])) for s in table["segments"]),
        nodes=tuple(
            Node(
                n["name"], Role(n["role"]), n["segment"], IPv4Address(n["address"]), n["resources"]
            )
            for n in table["nodes"]
        ),
        zookeeper=table["zookeeper"],
    )
