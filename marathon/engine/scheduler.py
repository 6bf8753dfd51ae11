"""The framework: take the master's events, make passes, send calls."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec
import structlog

from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.convergence import converge
from phalanx.marathon.engine.offers import answer
from phalanx.marathon.engine.updates import take_update
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.schedule.task import kill_policy
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import (
    Acknowledge,
    Call,
    Event,
    Kill,
    Reconcile,
    ReconcileTask,
    Roles,
    Subscribe,
    Subscribed,
)

log = structlog.get_logger()

REVIVE_SECONDS = 0.25  # no two REVIVE calls are nearer than this
REST_FACTOR = 4  # a pass is followed by this many times its length of rest
RECONCILE_RETRY_SECONDS = 15.0
RECONCILE_SECONDS = 600.0
UNCONFIRMED_SECONDS = 30.0  # a launch of which nothing was heard is asked for


class Scheduler:
    """One framework on one master at a time."""

    def __init__(
        self,
        board: Board,
        client: SchedulerClient,
        info: mesos.FrameworkInfo,
        *,
        settled: Callable[[], None],
    ) -> None:
        """Run *board* as the framework *info*; *settled* is called after each pass."""
        self._board = board
        self._client = client
        self._info = info
        self._settled = settled
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._unheard: set[str] = set()
        self._revived: frozenset[str] | None = frozenset()  # None after SUPPRESS
        self._revived_at = 0.0
        self._reconcile_soon = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled; raise ProtocolError when the master dismisses the framework."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._pass())
            tasks.create_task(self._send())
            tasks.create_task(self._reconcile())

    @property
    def master(self) -> str | None:
        """Return the URL of the master subscribed to, or None."""
        return self._client.master

    async def _follow(self) -> None:
        async with aclosing(self._client.events(self._subscribe)) as events:
            async for event in events:
                await self._take(event)

    def _subscribe(self) -> Subscribe:
        framework_id = self._board.ledger.framework_id
        identity = None if framework_id is None else mesos.FrameworkID(value=framework_id)
        return Subscribe(framework_info=msgspec.structs.replace(self._info, id=identity))

    async def _take(self, event: Event) -> None:
        board = self._board
        if event.subscribed is not None:
            await self._subscribed(event.subscribed)
        elif event.offers is not None:
            async with board.lock:
                for call in await answer(board, event.offers.offers):
                    self._calls.put_nowait(call)
            board.poke()
        elif event.update is not None:
            status = event.update.status
            async with board.lock:
                await take_update(board, status, self._kill_stranger)
            self._unheard.discard(status.task_id.value)
            self._acknowledge(status)
            board.poke()
        elif event.error is not None:
            raise ProtocolError(f"master: {event.error.message}")

    async def _subscribed(self, subscribed: Subscribed) -> None:
        board = self._board
        while not self._calls.empty():  # they belong to the subscription before
            self._calls.get_nowait()
        async with board.lock:
            framework_id = subscribed.framework_id.value
            kind = "scheduler_registered_event"
            if framework_id == board.ledger.framework_id:
                kind = "scheduler_reregistered_event"
            else:
                await board.ledger.put_framework_id(framework_id)
            board.kills_sent.clear()
            self._unheard = {i.task_id for i in board.ledger.instances() if i.launched is not None}
            self._revived = frozenset()
        board.bus.publish(kind, frameworkId=framework_id, master=self._client.master)
        self._reconcile_soon.set()
        board.poke()

    async def _pass(self) -> None:
        board = self._board
        while True:
            async with board.lock:
                began = board.clock()
                passed = await converge(board)
                for instance in passed.kills:
                    self._kill(instance)
                wake_at = self._demand(passed.wake_at)
                took = board.clock() - began
            self._settled()
            # A burst of updates over many instances must not cost a pass each.
            await asyncio.sleep(min(max(took, 0.0) * REST_FACTOR, REVIVE_SECONDS))
            await board.wait(wake_at)

    def _demand(self, wake_at: float | None) -> float | None:
        """Ask for offers or stop them; return when the next pass is due."""
        if not self._client.is_subscribed:
            return wake_at
        board, now = self._board, self._board.clock()
        wanted = frozenset(instance.task_id for _, instance in board.launchable(now))
        roles = Roles(roles=self._info.roles)
        if not wanted:
            if self._revived is not None:
                self._calls.put_nowait(Call(type="SUPPRESS", suppress=roles))
            self._revived = None
            return wake_at
        if self._revived is not None and wanted <= self._revived:
            return wake_at
        due = self._revived_at + REVIVE_SECONDS
        if 0 < due - now <= REVIVE_SECONDS:
            return due if wake_at is None else min(due, wake_at)
        self._calls.put_nowait(Call(type="REVIVE", revive=roles))
        self._revived, self._revived_at = wanted, now
        return wake_at

    def _kill(self, instance: Instance) -> None:
        launched = instance.launched
        if launched is None or not self._client.is_subscribed:
            return
        app = self._board.ledger.apps.get(instance.app_id)
        self._board.kills_sent[instance.task_id] = self._board.clock()
        kill = Kill(
            task_id=mesos.TaskID(value=instance.task_id),
            agent_id=mesos.AgentID(value=launched.agent_id),
            kill_policy=None if app is None else kill_policy(app),
        )
        self._calls.put_nowait(Call(type="KILL", kill=kill))

    def _kill_stranger(self, status: mesos.TaskStatus) -> None:
        kill = Kill(task_id=status.task_id, agent_id=status.agent_id)
        self._calls.put_nowait(Call(type="KILL", kill=kill))

    def _acknowledge(self, status: mesos.TaskStatus) -> None:
        if status.uuid and status.agent_id is not None:
            done = Acknowledge(agent_id=status.agent_id, task_id=status.task_id, uuid=status.uuid)
            self._calls.put_nowait(Call(type="ACKNOWLEDGE", acknowledge=done))

    async def _send(self) -> None:
        """Send calls in order; one that fails is put right by reconciliation or a retry."""
        while True:
            call = await self._calls.get()
            try:
                await self._client.call(call)
            except (UnavailableError, ProtocolError) as error:
                log.warning("call_failed", type=call.type, error=str(error))
                if call.accept is not None:
                    self._unheard |= {
                        task.task_id.value
                        for operation in call.accept.operations
                        if operation.launch is not None
                        for task in operation.launch.task_infos
                    }

    async def _reconcile(self) -> None:
        """Ask for tasks of which nothing was heard, soon after subscribing; all now and then."""
        everything_at = self._board.clock() + RECONCILE_SECONDS
        while True:
            try:
                async with asyncio.timeout(RECONCILE_RETRY_SECONDS):
                    await self._reconcile_soon.wait()
            except TimeoutError:
                pass
            self._reconcile_soon.clear()
            if not self._client.is_subscribed:
                continue
            now = self._board.clock()
            asked = self._to_reconcile(now)
            if asked:
                log.info("reconciliation_asked", tasks=len(asked))
                self._calls.put_nowait(Call(type="RECONCILE", reconcile=Reconcile(tasks=asked)))
            if now >= everything_at:
                everything_at = now + RECONCILE_SECONDS
                self._calls.put_nowait(Call(type="RECONCILE", reconcile=Reconcile()))

    def _to_reconcile(self, now: float) -> tuple[ReconcileTask, ...]:
        launched = {i.task_id: i for i in self._board.ledger.instances() if i.launched is not None}
        self._unheard &= launched.keys()
        late = {
            task_id
            for task_id, i in launched.items()
            if i.condition is Condition.PROVISIONED and now - i.since >= UNCONFIRMED_SECONDS
        }
        return tuple(
            ReconcileTask(
                task_id=mesos.TaskID(value=task_id),
                agent_id=mesos.AgentID(value=launched[task_id].launched.agent_id),  # type: ignore[union-attr]  # only launched ones are in it
            )
            for task_id in sorted(self._unheard | late)
        )
