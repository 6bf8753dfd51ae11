"""What long reads of the cluster share: fragments that are rendered once, and whose turn it is."""

import asyncio

from phalanx.master.operator.fragment import Fragments
from phalanx.master.operator.legacy import slave_fragments, task_fragments
from phalanx.master.operator.snapshot import AgentFacts
from phalanx.mesos.v1.mesos import Task

# Rendered fragments of 100,000 tasks are some 90 MiB; nobody keeps them for nothing.
IDLE_SECONDS = 120.0


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

    def touch(self) -> None:
        """Note a read; long after the last one the fragments are forgotten."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._forget)

    def _forget(self) -> None:
        self.tasks.forget()
        self.slaves.forget()
