"""The framework: take the master's events, make passes, send calls."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from itertools import groupby

import msgspec
import structlog

from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.convergence import converge, doom_overdue
from phalanx.marathon.engine.offers import answer
from phalanx.marathon.engine.updates import take_updates
from phalanx.marathon.model.instance import Condition, Instance
from phalanx.marathon.schedule.pod_status import living
from phalanx.marathon.schedule.task import kill_policy
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.scheduler import (
    Accept,
    Acknowledge,
    Call,
    Decline,
    Event,
    Kill,
    Reconcile,
    ReconcileTask,
    Roles,
    Subscribe,
    Subscribed,
    UpdateFramework,
)

log = structlog.get_logger()

REVIVE_SECONDS = 0.25  # between two REVIVE calls, unless the first was answered sooner
LEAST_REVIVE_SECONDS = 0.01  # between them, even so
REST_FACTOR = 4  # a pass, and what the master took for a REVIVE, times this is followed by rest
MOST_EVENTS = 500  # taken together: meanwhile nobody is answered
ACKNOWLEDGERS = 16  # acknowledgements on their way at a time
UNWRITTEN_SECONDS = 1.0  # after which is tried again what could not be written
RECONCILE_RETRY_SECONDS = 15.0
RECONCILE_SECONDS = 600.0
RECONCILED_AT_ONCE = 1000  # tasks of one call: the master answers it in one go
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
        self._roles = info.roles
        self._settled = settled
        self._calls: asyncio.Queue[Call] = asyncio.Queue()
        self._acknowledgements: asyncio.Queue[Call] = asyncio.Queue()  # in no order
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._unheard: set[str] = set()
        self._revived: Mapping[str, int] | None = {}  # wishes then; None after SUPPRESS
        self._revived_at = 0.0
        self._revive_rest = REVIVE_SECONDS
        self._reconcile_soon = asyncio.Event()
        self._is_unwritten = False  # something just now

    async def run(self) -> None:
        """Run until cancelled; raise ProtocolError when the master dismisses the framework."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            tasks.create_task(self._listen())
            tasks.create_task(self._pass())
            tasks.create_task(self._send())
            for _ in range(ACKNOWLEDGERS):
                tasks.create_task(self._send_acknowledgements())
            tasks.create_task(self._reconcile())

    @property
    def master(self) -> str | None:
        """Return the URL of the master subscribed to, or None."""
        return self._client.master

    async def _follow(self) -> None:
        async with aclosing(self._client.events(self._subscribe)) as events:
            async for event in events:
                self._events.put_nowait(event)

    async def _listen(self) -> None:
        """Take events in their order, updates that came together together."""
        while True:
            events = [await self._events.get()]
            while not self._events.empty() and len(events) < MOST_EVENTS:
                events.append(self._events.get_nowait())
            for is_update, group in groupby(events, key=lambda event: event.update is not None):
                if is_update:
                    await self._update([e.update.status for e in group if e.update is not None])
                else:
                    for event in group:
                        await self._take(event)

    async def _update(self, statuses: Sequence[mesos.TaskStatus]) -> None:
        """Take updates; those that can't be written are not acknowledged, and asked for.

        The agent's would come again by themselves; the master's own have nothing to acknowledge.
        """
        board = self._board
        try:
            async with board.lock:
                await take_updates(board, statuses, self._kill_stranger)
        except UnavailableError as error:
            log.warning("state_not_written", updates=len(statuses), error=str(error))
            self._ask_again(status.task_id.value for status in statuses)
            return
        for status in statuses:
            self._unheard.discard(status.task_id.value)
            self._acknowledge(status)
        board.poke()

    def _subscribe(self) -> Subscribe:
        framework_id = self._board.ledger.framework_id
        identity = None if framework_id is None else mesos.FrameworkID(value=framework_id)
        self._roles = self._roles_in_use()
        return Subscribe(framework_info=self._presented(identity))

    def _presented(self, identity: mesos.FrameworkID | None) -> mesos.FrameworkInfo:
        return msgspec.structs.replace(self._info, id=identity, roles=self._roles)

    def _roles_in_use(self) -> tuple[str, ...]:
        """Return our own roles and those of whatever is defined."""
        found = {spec.role for spec in self._board.ledger.specs.values()}
        return (*self._info.roles, *sorted(found - {*self._info.roles}))

    def _follow_roles(self) -> None:
        """Tell the master when apps of other roles came; a role is kept until we subscribe anew.

        Instances of an app that is gone may still run in its role.
        """
        roles = tuple(dict.fromkeys((*self._roles, *self._roles_in_use())))
        framework_id = self._board.ledger.framework_id
        if roles == self._roles or framework_id is None:
            return
        self._roles = roles
        info = self._presented(mesos.FrameworkID(value=framework_id))
        update = UpdateFramework(framework_info=info)
        self._calls.put_nowait(Call(type="UPDATE_FRAMEWORK", update_framework=update))

    async def _take(self, event: Event) -> None:
        board = self._board
        if event.subscribed is not None:
            await self._subscribed(event.subscribed)
        elif event.offers is not None:
            took = board.clock() - self._revived_at
            rest = max(LEAST_REVIVE_SECONDS, took * REST_FACTOR)
            self._revive_rest = min(self._revive_rest, rest)
            await self._answer(event.offers.offers)
            board.poke()
        elif event.message is not None:
            board.bus.publish(
                "framework_message_event",
                executorId=event.message.executor_id.value,
                slaveId=event.message.agent_id.value,
                message=event.message.data.decode(errors="replace"),
            )
        elif event.error is not None:
            raise ProtocolError(f"master: {event.error.message}")

    async def _answer(self, offers: Sequence[mesos.Offer]) -> None:
        """Answer offers; while nothing can be written they are of no use for a moment."""
        try:
            async with self._board.lock:
                calls = await answer(self._board, offers)
        except UnavailableError as error:
            log.warning("state_not_written", offers=len(offers), error=str(error))
            # Some launches may be written that nobody is told of now.
            watched = self._board.ledger.roll.watched
            launches = (i for i in watched if i.condition is Condition.PROVISIONED)
            self._ask_again(task_id for i in launches for task_id in i.task_ids)
            filters = mesos.Filters(refuse_seconds=UNWRITTEN_SECONDS)
            decline = Decline(offer_ids=tuple(offer.id for offer in offers), filters=filters)
            calls = [Call(type="DECLINE", decline=decline)]
        for call in calls:
            self._calls.put_nowait(call)

    def _ask_again(self, task_ids: Iterable[str]) -> None:
        """Ask the master for tasks as soon as something may be written again."""
        self._unheard.update(task_ids)
        self._is_unwritten = True
        self._reconcile_soon.set()

    async def _subscribed(self, subscribed: Subscribed) -> None:
        board = self._board
        for queue in (self._calls, self._acknowledgements):
            while not queue.empty():  # they belong to the subscription before
                queue.get_nowait()
        async with board.lock:
            framework_id = subscribed.framework_id.value
            kind = "scheduler_registered_event"
            if framework_id == board.ledger.framework_id:
                kind = "scheduler_reregistered_event"
            else:
                await board.ledger.put_framework_id(framework_id)
            board.kills_sent.clear()
            self._unheard = {id for i in board.ledger.instances() for id in i.task_ids}
            info = subscribed.master_info
            domain = None if info is None or info.domain is None else info.domain.fault_domain
            board.region = None if domain is None else domain.region.name
            self._revived = {}
        board.bus.publish(kind, frameworkId=framework_id, master=self._client.master)
        self._reconcile_soon.set()
        board.poke()

    async def _pass(self) -> None:
        board = self._board
        while True:
            began = board.clock()
            try:
                async with board.lock:
                    began = board.clock()
                    passed = await converge(board)
                    for instance in passed.kills:
                        self._kill(instance)
                    wake_at = self._demand(passed.wake_at)
            except UnavailableError as error:
                log.warning("state_not_written", error=str(error))
                board.ledger.roll.touched.update(board.ledger.spec_ids())
                wake_at = board.clock() + UNWRITTEN_SECONDS
            took = board.clock() - began
            self._settled()
            # A burst of updates over many instances must not cost a pass each.
            await asyncio.sleep(min(max(took, 0.0) * REST_FACTOR, REVIVE_SECONDS))
            await board.wait(wake_at)

    def _demand(self, wake_at: float | None) -> float | None:
        """Ask for offers or stop them; return when the next pass is due."""
        if not self._client.is_subscribed:
            return wake_at
        self._follow_roles()
        board, now = self._board, self._board.clock()
        launchable = board.launchable(now)
        # Once more with each reservation that a task is to use, and for what is left over.
        wishes = board.ledger.roll.wishes
        wanted = {
            **{spec.id: wishes[spec.id] for spec, _ in launchable},
            **dict.fromkeys(board.litter, 0),
        }
        named = {spec.role for spec, _ in launchable} | {*board.litter.values()}
        roles = Roles(roles=tuple(sorted(named)) or self._roles)
        if not wanted:
            if self._revived is not None:
                self._calls.put_nowait(Call(type="SUPPRESS", suppress=roles))
            self._revived = None
            return wake_at
        revived = self._revived
        if revived is not None and all(revived.get(id, -1) >= wish for id, wish in wanted.items()):
            return wake_at
        due = self._revived_at + self._revive_rest
        if 0 < due - now <= REVIVE_SECONDS:
            return due if wake_at is None else min(due, wake_at)
        self._calls.put_nowait(Call(type="REVIVE", revive=roles))
        self._revived, self._revived_at = wanted, now
        self._revive_rest = REVIVE_SECONDS
        return wake_at

    def _kill(self, instance: Instance) -> None:
        launched = instance.launched
        if launched is None or not self._client.is_subscribed:
            return
        app = self._board.ledger.apps.get(instance.app_id)
        self._board.kills_sent[instance.task_id] = self._board.clock()
        over = {member.name for member in launched.members} - {*living(launched)}
        gone = {instance.member_id(name) for name in over}
        for task_id in instance.task_ids:
            if task_id in gone:
                continue
            kill = Kill(
                task_id=mesos.TaskID(value=task_id),
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
            self._acknowledgements.put_nowait(Call(type="ACKNOWLEDGE", acknowledge=done))

    async def _send(self) -> None:
        """Send calls in order; one that fails is put right by reconciliation or a retry."""
        while True:
            call = await self._calls.get()
            try:
                await self._client.call(call)
            except (UnavailableError, ProtocolError) as error:
                log.warning("call_failed", type=call.type, error=str(error))
                if call.accept is not None:
                    self._unheard |= {task.task_id.value for task in _launched(call.accept)}

    async def _send_acknowledgements(self) -> None:
        """Send acknowledgements beside other calls; what one that fails was for comes again."""
        while True:
            call = await self._acknowledgements.get()
            try:
                await self._client.call(call, in_order=False)
            except (UnavailableError, ProtocolError) as error:
                log.warning("call_failed", type=call.type, error=str(error))

    async def _reconcile(self) -> None:
        """Ask for tasks of which nothing was heard, soon after subscribing; all now and then."""
        everything_at = self._board.clock() + RECONCILE_SECONDS
        while True:
            try:
                async with asyncio.timeout(RECONCILE_RETRY_SECONDS):
                    await self._reconcile_soon.wait()
            except TimeoutError:
                pass
            if self._is_unwritten:  # the answer to what is asked at once could not be, either
                await asyncio.sleep(UNWRITTEN_SECONDS)
                self._is_unwritten = False
            self._reconcile_soon.clear()
            if not self._client.is_subscribed:
                continue
            try:
                async with self._board.lock:
                    await doom_overdue(self._board)
            except UnavailableError as error:
                log.warning("state_not_written", error=str(error))
            self._board.poke()
            now = self._board.clock()
            asked = self._to_reconcile(now)
            if asked:
                log.info("reconciliation_asked", tasks=len(asked))
                for at in range(0, len(asked), RECONCILED_AT_ONCE):
                    some = Reconcile(tasks=asked[at : at + RECONCILED_AT_ONCE])
                    self._calls.put_nowait(Call(type="RECONCILE", reconcile=some))
            if now >= everything_at:
                everything_at = now + RECONCILE_SECONDS
                self._calls.put_nowait(Call(type="RECONCILE", reconcile=Reconcile()))

    def _to_reconcile(self, now: float) -> tuple[ReconcileTask, ...]:
        ledger = self._board.ledger
        late = {
            task_id
            for i in ledger.roll.watched
            if i.condition is Condition.PROVISIONED and now - i.since >= UNCONFIRMED_SECONDS
            for task_id in i.task_ids
        }
        asked = self._unheard | late
        if not asked:
            return ()
        launched = {
            task_id: instance.launched.agent_id
            for instance in ledger.instances()
            if instance.launched is not None
            for task_id in instance.task_ids
        }
        self._unheard &= launched.keys()
        return tuple(
            ReconcileTask(
                task_id=mesos.TaskID(value=task_id),
                agent_id=mesos.AgentID(value=launched[task_id]),
            )
            for task_id in sorted(asked & launched.keys())
        )


def _launched(accept: Accept) -> Iterator[mesos.TaskInfo]:
    for operation in accept.operations:
        if operation.launch is not None:
            yield from operation.launch.task_infos
        if operation.launch_group is not None:
            yield from operation.launch_group.task_group.tasks
