"""The machine that a daemon runs on, by the names of Mesos' metrics (reference mesos §3.4)."""

import os
from pathlib import Path

MEMORY = Path("/proc/meminfo")


def machine_metrics() -> dict[str, float]:
    """Return load, processors and memory of this machine."""
    one, five, fifteen = os.getloadavg()
    memory = {}
    for line in MEMORY.read_text().splitlines():
        key, _, value = line.partition(":")
        memory[key] = int(value.split()[0]) * 1024
    return {
        "system/cpus_total": float(os.cpu_count() or 1),
        "system/load_1min": one,
        "system/load_5min": five,
        "system/load_15min": fifteen,
        "system/mem_free_bytes": float(memory["MemFree"]),
        "system/mem_total_bytes": float(memory["MemTotal"]),
    }
