"""Ask the tasks of a deployment whether they are ready, until they are (reference §1.7)."""

import asyncio
from collections.abc import Awaitable, Callable

from phalanx.marathon.engine.board import Board, agenda_of
from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import ReadinessCheck
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.probe.loops import Loops
from phalanx.marathon.probe.rounds import place_of
from phalanx.marathon.schedule.readiness import Readiness, Reply, after_reply, port_index

Asker = Callable[[ReadinessCheck, str, int], Awaitable[Reply]]


class ReadinessRounds:
    """One loop for each task that a deployment waits for; ``settle`` starts and ends them."""

    def __init__(self, board: Board, ask: Asker) -> None:
        self._board = board
        self._ask = ask
        self._loops: Loops[str] = Loops()  # by task

    def settle(self) -> None:
        """Make the loops fit what is being deployed now."""
        wanted = {
            instance.task_id: (app, instance)
            for app in self._deployed()
            for instance in self._board.ledger.instances_of(app.id)
            if self._is_asked(app, instance)
        }
        self._loops.settle(wanted, lambda task_id: self._loop(*wanted[task_id]))

    async def close(self) -> None:
        """End every loop."""
        await self._loops.close()

    def _deployed(self) -> list[App]:
        """Return the apps with a readiness check on which a deployment acts now."""
        ledger = self._board.ledger
        if not ledger.deployments:
            return []
        ids = agenda_of(ledger.deployments.values()).actions
        found = (ledger.apps.get(app_id) for app_id in ids)
        return [app for app in found if app is not None and app.readiness_checks]

    def _is_asked(self, app: App, instance: Instance) -> bool:
        return (
            instance.condition is Condition.RUNNING
            and instance.is_wanted
            and not instance.doomed
            and instance.version >= app.config_version
            and not self._board.is_ready(instance)
        )

    async def _loop(self, app: App, instance: Instance) -> None:
        check = app.readiness_checks[0]
        index = port_index(app, check)
        while True:
            present = self._board.ledger.instance(instance.id)
            if present is None or present.task_id != instance.task_id or index is None:
                return
            host, port = place_of(app, index, present)
            async with self._loops.slots:
                reply = await self._ask(check, host, port)
            found = after_reply(check, reply)
            await self._take(instance, found)
            if found.ready:
                return
            await asyncio.sleep(check.interval_seconds)

    async def _take(self, instance: Instance, found: Readiness) -> None:
        board = self._board
        async with board.lock:
            present = board.ledger.instance(instance.id)
            if present is None or present.task_id != instance.task_id:
                return
            board.readiness[instance.task_id] = found
            if found.ready:
                board.poke(instance.app_id)
