"""Probe every running task that has checks of Marathon's own, each at its interval."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from phalanx.core.error import UnavailableError
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.story import tell_failed_check, tell_health
from phalanx.marathon.engine.updates import record_health_kill
from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.probe.loops import Loops
from phalanx.marathon.schedule.health import Probe, Step, after_probe, first_delay
from phalanx.marathon.schedule.task import check_port

log = structlog.get_logger()

Target = tuple[str, int]  # task id, index of the check
Prober = Callable[[HealthCheck, str, int], Awaitable[Probe]]


class Rounds:
    """One loop for each check of each running task; ``settle`` starts and ends them."""

    def __init__(self, board: Board, probe: Prober) -> None:
        self._board = board
        self._probe = probe
        self._loops: Loops[Target] = Loops()

    def settle(self) -> None:
        """Make the loops fit the tasks that run now."""
        wanted = {
            (instance.task_id, index): (check, instance.id)
            for spec in self._board.ledger.apps.values()
            if any(not check.protocol.is_run_by_agent for check in spec.health_checks)
            for instance in self._board.ledger.instances_of(spec.id)
            if (app := self._checked(instance)) is not None
            for index, check in enumerate(app.health_checks)
            if not check.protocol.is_run_by_agent
        }
        self._loops.settle(wanted, lambda target: self._loop(target, *wanted[target]))

    async def close(self) -> None:
        """End every loop."""
        await self._loops.close()

    def _checked(self, instance: Instance) -> App | None:
        """Return the app of an instance that is to be probed, else None."""
        app = self._board.ledger.apps.get(instance.app_id)
        is_probed = (
            app is not None
            and instance.condition is Condition.RUNNING
            and instance.is_wanted
            and not instance.doomed
            and instance.version >= app.config_version
        )
        return app if is_probed else None

    async def _loop(self, target: Target, check: HealthCheck, instance_id: str) -> None:
        await asyncio.sleep(first_delay(check))
        while True:
            instance = self._board.ledger.instance(instance_id)
            if instance is None or instance.task_id != target[0] or instance.launched is None:
                return
            app = self._board.ledger.apps.get(instance.app_id)
            if app is None:
                return
            host, port = where(app, check, instance)
            async with self._loops.slots:
                result = await self._probe(check, host, port)
            try:
                await self._take(check, target, instance_id, result)
            except UnavailableError as error:  # the next probe kills
                log.warning("state_not_written", task=target[0], error=str(error))
            await asyncio.sleep(check.interval_seconds)

    async def _take(
        self, check: HealthCheck, target: Target, instance_id: str, result: Probe
    ) -> None:
        board = self._board
        async with board.lock:
            instance = board.ledger.instance(instance_id)
            if instance is None or instance.task_id != target[0] or instance.launched is None:
                return
            now = board.clock()
            results = board.health.setdefault(instance.task_id, {})
            before = results.get(target[1])
            after, step = after_probe(
                check,
                before,
                result,
                running_since=instance.launched.started_at or now,
                now=now,
            )
            results[target[1]] = after
            if result.failure is not None:
                tell_failed_check(board.bus, instance, check)
            if before is None or before.alive != after.alive:
                tell_health(board.bus, instance, after)
                board.poke(instance.app_id)
            if step is Step.KILL and instance.condition is Condition.RUNNING:
                await self._kill(instance, result.failure or "")

    async def _kill(self, instance: Instance, reason: str) -> None:
        board, launched = self._board, instance.launched
        await board.ledger.put_failure(record_health_kill(instance, reason, board.clock()))
        await board.ledger.put_instance(msgspec.structs.replace(instance, doomed=True))
        log.info("unhealthy_task_killed", task=instance.task_id, reason=reason)
        board.bus.publish(
            "unhealthy_instance_kill_event",
            appId=instance.app_id,
            taskId=instance.task_id,
            instanceId=instance.id,
            version=instance.version,
            reason=reason,
            host="" if launched is None else launched.hostname,
            slaveId="" if launched is None else launched.agent_id,
        )
        board.poke()


def where(app: App, check: HealthCheck, instance: Instance) -> tuple[str, int]:
    """Return where *check* finds a launched instance: its own address, or the agent's.

    A container with a network of its own is met at its address and container
    port, everything else at the agent's address and the host port.
    """
    launched = instance.launched
    if launched is None:
        raise ValueError(f"{instance.id} is not launched")
    if app.is_on_host_network or app.is_bridged:
        index = check.port_index or 0
        return launched.agent_ip, check.port or launched.ports[index]
    host = launched.addresses[0] if launched.addresses else launched.agent_ip
    return host, check_port(app, check, (None,) * len(launched.ports), launched.ports)


def place_of(app: App, index: int, instance: Instance) -> tuple[str, int]:
    """Return where the port of that index of a launched instance is met."""
    return where(app, HealthCheck(port_index=index), instance)
