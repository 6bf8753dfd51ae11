"""What containers use: cgroups, networks and disks, measured."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from phalanx.agent.cni.attach import Networks
from phalanx.agent.container.disk import disk_quotas, rendered, used_bytes
from phalanx.agent.container.record import MEGABYTE, Limited, Records
from phalanx.agent.container.runtime import Containers
from phalanx.agent.container.traffic import network_statistics
from phalanx.agent.container.way import Ways
from phalanx.agent.layout import Layout
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ResourceStatistics

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Gauge:
    """Measures one agent's containers; *clock* tells seconds since the epoch."""

    layout: Layout
    containers: Containers
    networks: Networks
    records: Records
    ways: Ways
    clock: Callable[[], float]
    _disks: dict[str, int] = field(init=False, default_factory=dict)

    async def statistics(self, container_id: str) -> ResourceStatistics:
        """Return what a container uses and may use."""
        facts = self.records.facts(container_id)
        asked = Resources.of(facts.resources)
        cpus = facts.limits["cpus"].value if "cpus" in facts.limits else asked.scalar("cpus")
        init = self.containers.find(container_id).init
        own = self.networks.namespace(container_id).exists()
        disk = self._disks.get(container_id)
        limit = asked.scalar("disk")
        found: dict[str, Any] = self.containers.cgroups.statistics(container_id)
        if own and init is not None:
            found |= network_statistics(init.pid)
        return ResourceStatistics(
            timestamp=self.clock(),
            cpus_limit=cpus,
            cpus_soft_limit=asked.scalar("cpus"),
            disk_limit_bytes=int(limit * MEGABYTE) if limit else None,
            disk_used_bytes=disk,
            **found,
        )

    async def watch(self, kill: Callable[[str], None]) -> None:
        """Measure the disk that containers use, for ever; *kill* those that use too much."""
        while True:
            await asyncio.sleep(self.ways.disk_seconds)
            known = self.containers.known()
            for container_id in known:
                await self._measure(container_id, kill)
            for container_id in self._disks.keys() - set(known):
                self._disks.pop(container_id, None)

    async def _measure(self, container_id: str, kill: Callable[[str], None]) -> None:
        facts = self.records.facts(container_id)
        if not facts.sandbox or facts.kind in ("nested", "debug"):
            return
        work = str(self.layout.work)
        quotas = disk_quotas(Resources.of(facts.resources), facts.sandbox, work)
        for path, quota in quotas.items():
            used = await asyncio.to_thread(used_bytes, path)
            if path == facts.sandbox:
                self._disks[container_id] = used
            if self.ways.enforces_disk and quota is not None and used > quota:
                log.warning("disk_quota_exceeded", container=container_id, path=path, bytes=used)
                limitation = Limited(
                    reason="REASON_CONTAINER_LIMITATION_DISK",
                    message=f"Disk usage ({rendered(used)}) exceeds quota ({rendered(quota)})",
                    resources=Resources.make({"disk": used * 1000 // MEGABYTE}).messages(),
                )
                self.records.limit(container_id, limitation)
                kill(container_id)
                return
