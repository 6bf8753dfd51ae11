"""What must hold before a lab counts as up."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phalanx.core.error import UnavailableError
from phalanx.labs.client import ask, get_json, get_status, get_unix_json, records
from phalanx.labs.flags import MARATHON_PORT, MASTER_PORT
from phalanx.labs.outfit import Condition
from phalanx.labs.place import Place
from phalanx.labs.topology import ROUTER, Node, Topology
from phalanx.labs.zookeeper import CLIENT_PORT


def _asked(question: Callable[[], str | None]) -> Callable[[], str | None]:
    def missing() -> str | None:
        try:
            return question()
        except UnavailableError as error:
            return str(error)

    return missing


def answers(netns: Path, node: Node, port: int, path: str, name: str) -> Condition:
    """Wait until an HTTP server answers 200."""

    def question() -> str | None:
        status = get_status(netns, str(node.address), port, path)
        return None if status == 200 else f"answers {status}"

    return Condition(f"{node.name} {name}", _asked(question))


def zookeeper_serves(netns: Path, node: Node) -> Condition:
    """Wait until a ZooKeeper server is alone or has found the others."""

    def question() -> str | None:
        answer = ask(netns, str(node.address), CLIENT_PORT, "srvr")
        return None if "Mode: " in answer else answer.strip() or "no answer"

    return Condition(f"{node.name} zookeeper", _asked(question))


def file_appears(path: Path, name: str) -> Condition:
    """Wait until a file is there."""
    return Condition(name, lambda: None if path.exists() else "has not started")


def leading_master(place: Place, topology: Topology) -> Node | None:
    """Return the master that leads; None when none says so."""
    netns = place.netns_path(ROUTER)
    for node in topology.masters:
        try:
            if get_status(netns, str(node.address), MASTER_PORT, "/v1/networks") == 200:
                return node
        except UnavailableError:
            continue
    return None


def agents_registered(place: Place, topology: Topology) -> Condition:
    """Wait until the leader counts every agent as active."""
    netns = place.netns_path(ROUTER)
    wanted = {node.name for node in topology.agents}

    def question() -> str | None:
        leader = leading_master(place, topology)
        if leader is None:
            return "no master leads"
        slaves = get_json(netns, str(leader.address), MASTER_PORT, "/slaves")["slaves"]
        lacking = wanted - {slave["hostname"] for slave in slaves if slave["active"]}
        return f"{', '.join(sorted(lacking))} not registered" if lacking else None

    return Condition("agents", _asked(question))


def planes_in_sync(place: Place, topology: Topology) -> Condition:
    """Wait until every plane has put into the kernel what the leader says now."""
    netns = place.netns_path(ROUTER)
    nodes = (*topology.masters, *topology.agents)

    def question() -> str | None:
        leader = leading_master(place, topology)
        if leader is None:
            return "no master leads"
        # A whole View that other readers share, then what has changed since.
        said = records(netns, str(leader.address), MASTER_PORT, "/v1/feed?once=yes")
        newest = {"epoch": said[0]["epoch"], "sequence": said[-1]["sequence"]}
        reasons = [_lag(place, node, newest) for node in nodes]
        return "; ".join(filter(None, reasons)) or None

    return Condition("planes", _asked(question))


def _lag(place: Place, node: Node, newest: Mapping[str, Any]) -> str | None:
    """Return in what a node's plane is behind the newest record of the leader's feed."""
    try:
        status = get_unix_json(place.node(node.name) / "plane.sock", "/v1/status")
    except UnavailableError as error:
        return f"{node.name}: {error}"
    if not status["in_sync"]:
        return f"{node.name} not in sync"
    if status["epoch"] != newest["epoch"] or status["applied"] < newest["sequence"]:
        return f"{node.name} behind"
    failed = [table for table, applied in status["tables"].items() if not applied]
    return f"{node.name}: {', '.join(failed)} refused" if failed else None


def marathon_registered(place: Place, topology: Topology) -> Condition:
    """Wait until a Marathon has a framework id."""
    netns = place.netns_path(ROUTER)

    def question() -> str | None:
        reasons = []
        for node in topology.masters:
            try:
                info = get_json(netns, str(node.address), MARATHON_PORT, "/v2/info")
            except UnavailableError as error:
                reasons.append(f"{node.name}: {error}")
                continue
            if info.get("frameworkId"):
                return None
            reasons.append(f"{node.name}: not registered")
        return "; ".join(reasons)

    return Condition("marathon", question)


def read_relay_ports(place: Place) -> tuple[int, int] | None:
    """Return the relay's ports for master and Marathon; None when it has not said."""
    try:
        table = json.loads(place.relay_ports.read_text())
        return int(table["master"]), int(table["marathon"])
    except (OSError, ValueError, KeyError):
        return None
