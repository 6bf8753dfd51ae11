"""What long reads of the cluster share: fragments that are rendered once, and whose turn it is."""

import asyncio

from phalanx.master.cluster.cluster import Cluster
from phalanx.master.operator.fragment import Fragments
from phalanx.master.operator.legacy.slave import slave_fragments
from phalanx.master.operator.legacy.task import task_fragments
from phalanx.master.operator.snapshot import AgentFacts, Snapshot, snapshot_of
from phalanx.mesos.v1.mesos import Task

# Rendered fragments of 100,000 tasks are some 90 MiB; nobody keeps them for nothing.
IDLE_SECONDS = 120.0
# Taking a snapshot of 10,000 agents takes some 10 ms: reads that come together share one.
GATHER_SECONDS = 0.001
LEAST_SECONDS = 0.01  # between two snapshots


class Reads:
    """The state of all long reads together.

    Whoever holds the *turn* writes for a moment; the loop goes on in between,
    however many read at once.
    """

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.tasks: Fragments[Task] = task_fragments()
        self.slaves: Fragments[AgentFacts] = slave_fragments()
        self._idle: asyncio.TimerHandle | None = None
        self._next: asyncio.Task[Snapshot] | None = None
        self._latest = 0.0

    async def snapshot(self, cluster: Cluster) -> Snapshot:
        """Return the cluster as it is a moment from now: the same for all who ask until then."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._take(cluster))
        return await asyncio.shield(self._next)

    async def _take(self, cluster: Cluster) -> Snapshot:
        now = asyncio.get_running_loop().time
        await asyncio.sleep(max(GATHER_SECONDS, self._latest + LEAST_SECONDS - now()))
        self._next = None
        taken = snapshot_of(cluster)
        self._latest = now()
        return taken

    def touch(self) -> None:
        """Note a read; long after the last one the fragments are forgotten."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._forget)

    def _forget(self) -> None:
        self.tasks.forget()
        self.slaves.forget()
