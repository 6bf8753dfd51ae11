"""An engine's figures of a container as Mesos has them; pure."""

from collections.abc import Mapping
from typing import Any

from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ResourceStatistics, Scalar

NANOSECONDS = 1e9


def statistics_of(
    found: Mapping[str, Any], asked: Resources, limits: Mapping[str, Scalar], *, now: float
) -> ResourceStatistics:
    """Return the statistics of a container that *asked* for resources and has *limits*."""
    cpu = found.get("cpu_stats", {}).get("cpu_usage", {})
    memory = found.get("memory_stats", {})
    cpus = limits["cpus"].value if "cpus" in limits else asked.scalar("cpus")
    return ResourceStatistics(
        timestamp=now,
        processes=found.get("pids_stats", {}).get("current"),
        cpus_user_time_secs=cpu.get("usage_in_usermode", 0) / NANOSECONDS,
        cpus_system_time_secs=cpu.get("usage_in_kernelmode", 0) / NANOSECONDS,
        cpus_limit=cpus,
        cpus_soft_limit=asked.scalar("cpus"),
        mem_limit_bytes=memory.get("limit"),
        mem_total_bytes=memory.get("usage"),
        mem_rss_bytes=memory.get("stats", {}).get("rss", memory.get("usage")),
    )
