"""What is durable of a cluster, as ``/registrar(1)/registry`` shows it; pure."""

from collections.abc import Mapping
from typing import Any

from phalanx.master.agents.registry import ADMITTED, GONE, UNREACHABLE, AgentRecord
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.task import time_info
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.mesos import MasterInfo


def registry_json(
    cluster: Cluster, records: Mapping[str, AgentRecord], master: MasterInfo
) -> dict[str, Any]:
    """Return the registry in the shape of Mesos' own."""
    shown: dict[str, Any] = {
        "gone": {"slaves": _since(records, GONE)},
        "machines": {
            "machines": [{"info": to_json(machine)} for machine in cluster.machines.values()]
        },
        "master": {"info": to_json(master)},
        "minimum_capabilities": [],
        "quota_configs": [to_json(quota) for quota in cluster.quotas.values()],
        "schedules": [to_json(cluster.schedule)],
        "slaves": {
            "slaves": [
                {"info": to_json(record.info)}
                for record in records.values()
                if record.state == ADMITTED
            ]
        },
        "unreachable": {"slaves": _since(records, UNREACHABLE)},
        "weights": [
            {"info": {"role": role, "weight": weight}} for role, weight in cluster.weights.items()
        ],
    }
    if cluster.quotas:
        shown["minimum_capabilities"] = [{"capability": "QUOTA_V2"}]
    return shown


def _since(records: Mapping[str, AgentRecord], state: str) -> list[dict[str, Any]]:
    return [
        {"id": {"value": record.id}, "timestamp": to_json(time_info(record.since))}
        for record in records.values()
        if record.state == state
    ]
