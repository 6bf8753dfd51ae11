"""Pods, for the commands that take an app or a pod: show them, scale them, find their files."""

import argparse
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from phalanx.cli.client import call
from phalanx.cli.follow import counts_of, pod_counts, waiting
from phalanx.cli.listing import print_tables
from phalanx.core.error import NotFoundError


def pod_path(id: str, what: str = "") -> str:
    """Return the path of a pod, or of what stands behind ``::`` of it."""
    tail = f"::{what}" if what else ""
    return "/v2/pods/" + urllib.parse.quote(id.strip("/")) + tail


def statuses(marathon: str) -> list[Mapping[str, Any]]:
    """Return how every pod does; nothing from a Marathon without pods."""
    try:
        found: list[Mapping[str, Any]] = call(marathon, "GET", "/v2/pods/::status")
    except NotFoundError:
        return []
    return found


def status_of(marathon: str, id: str) -> Mapping[str, Any] | None:
    """Return how a pod does; None if there is none."""
    try:
        found: Mapping[str, Any] = call(marathon, "GET", pod_path(id, "status"))
    except NotFoundError:
        return None
    return found


def show_pod(given: argparse.Namespace, status: Mapping[str, Any]) -> None:
    """Print a pod's status: counts, what it waits for, and every container."""
    if given.json:
        print(json.dumps(status, indent=2))
        return
    print(counts_of(pod_counts(status)))
    print(f"version {status['spec']['version']}")
    for line in waiting(given.marathon, [status["id"]]):
        print(line)
    table = Table("instance", "status", "host", "address", "container", "state", "endpoints")
    for instance in status["instances"]:
        addresses = [a for network in instance["networks"] for a in network["addresses"]]
        told = (instance["id"], instance["status"], instance.get("agentHostname", ""))
        first = [*told, "\n".join(addresses)]
        for container in instance["containers"] or [{}]:
            ports = [
                f"{endpoint['name']} {endpoint.get('allocatedHostPort', '')}".strip()
                for endpoint in container.get("endpoints", ())
            ]
            here = (container.get("name", ""), container.get("status", ""), ", ".join(ports))
            table.add_row(*first, *here)
            first = ["", "", "", ""]
    print_tables(table)


def scaled_pod(marathon: str, id: str, instances: int) -> dict[str, Any]:
    """Return a pod's definition with another number of instances."""
    pod: dict[str, Any] = call(marathon, "GET", pod_path(id))
    return {**pod, "scaling": {**pod["scaling"], "instances": instances}}


def tasks_of(status: Mapping[str, Any]) -> dict[str, str]:
    """Return the agent of every task of a pod's instances."""
    return {
        container["containerId"]: instance["agentId"]
        for instance in status["instances"]
        for container in instance["containers"]
    }
