"""What passes between the master and the roster."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from phalanx.agent.client import MasterClient
from phalanx.agent.drain import Drainage
from phalanx.agent.layout import Layout
from phalanx.agent.operation.operations import Operations
from phalanx.agent.registration import CAPABILITIES, forget_id, keep_id
from phalanx.agent.roster import Roster
from phalanx.agent.task.sender import Key, UpdateSender
from phalanx.core.error import PhalanxError, UnavailableError
from phalanx.mesos.agent_protocol import (
    AgentCall,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
    AgentUpdate,
    Drain,
    OperationUpdate,
)
from phalanx.mesos.v1.mesos import AgentCapability, AgentInfo, TaskInfo

log = structlog.get_logger()


class AgentLeftError(PhalanxError):
    """The agent has taken leave, as it was asked to; nothing is wrong."""


class AgentShutDownError(PhalanxError):
    """The master told this agent to end."""


class Link:
    """Turns events into deeds and deeds into calls; joined to its neighbours once they exist."""

    def __init__(
        self,
        layout: Layout,
        info: AgentInfo,
        version: str,
        clock: Callable[[], float],
        address: str | None = None,
    ) -> None:
        self.info = info
        self._address = address
        self._layout = layout
        self._version = version
        self._clock = clock
        self.drainage = Drainage(layout.drain)
        self._operations: Operations
        self._roster: Roster
        self._sender: UpdateSender
        self._client: MasterClient

    def join(
        self,
        *,
        roster: Roster,
        sender: UpdateSender,
        client: MasterClient,
        operations: Operations,
    ) -> None:
        """Get to know the neighbours."""
        self._roster, self._sender, self._client = roster, sender, client
        self._operations = operations

    def subscribe(self) -> AgentCall:
        """Return the first call of a stream: who we are and what we hold."""
        return AgentCall(
            type="SUBSCRIBE",
            subscribe=AgentSubscribe(
                agent_info=self.info,
                version=self._version,
                tasks=self._roster.tasks(),
                executors=self._roster.executors.infos(),
                frameworks=self._roster.frameworks(),
                total_resources=self._operations.ledger.total.messages(is_refined=True),
                operations=self._operations.ledger.operations,
                capabilities=tuple(AgentCapability(type=name) for name in CAPABILITIES),
                drain=self.drainage.now.config if self.drainage.now is not None else None,
                address=self._address,
            ),
        )

    def lost(self) -> None:
        """Keep what is to be told for the next master."""
        self._sender.pause()
        self._operations.pause()

    async def send_update(self, update: AgentUpdate) -> None:
        """Send a status update; raise UnavailableError if it did not get there."""
        await self._client.send(AgentCall(type="UPDATE", update=update))

    async def send_operation(self, update: OperationUpdate) -> None:
        """Send word of an operation; raise UnavailableError if it did not get there."""
        await self._client.send(AgentCall(type="OPERATION_UPDATE", operation_update=update))

    async def tell(self, call: AgentCall) -> None:
        """Tell the master something else; raise UnavailableError if it did not get there."""
        await self._client.send(call)

    def done(self, key: Key) -> None:
        """Let go of a task whose end has been acknowledged."""
        self._roster.done(key)

    async def take(self, event: AgentEvent) -> None:
        """Do what an event says; raise AgentShutDownError when it is the end."""
        if event.subscribed is not None:
            await self._subscribed(event.subscribed)
        elif event.drain is not None:
            await self._drain(event.drain)
        elif event.apply_operation is not None:
            await self._operations.apply(event.apply_operation, self.info.id)
        elif event.acknowledge_operation is not None:
            await self._operations.acknowledge(event.acknowledge_operation)
        elif self.drainage.now is not None and await self._refused(event):
            pass
        elif event.run_task is not None and self.info.id is not None:
            await self._roster.run_task(self.info.id.value, event.run_task)
        elif event.run_task_group is not None and self.info.id is not None:
            executors = self._roster.executors
            await executors.run_task_group(self.info.id.value, event.run_task_group)
        elif event.kill_task is not None:
            await self._roster.kill_task(event.kill_task)
        elif event.acknowledge_update is not None:
            await self._roster.acknowledge(event.acknowledge_update)
        elif event.shutdown_framework is not None:
            await self._roster.shutdown_framework(event.shutdown_framework.framework_id)
        elif event.shutdown_executor is not None:
            await self._roster.executors.shutdown_executor(event.shutdown_executor)
        elif event.message is not None:
            await self._roster.executors.message(event.message)
        elif event.update_framework is not None:
            await self._roster.executors.update_framework(event.update_framework)
        elif event.shutdown is not None:
            log.error("shut_down_by_master", message=event.shutdown.message)
            await self._roster.kill_all()
            raise AgentShutDownError(f"the master shut us down: {event.shutdown.message}")

    async def _drain(self, order: Drain) -> None:
        if order.config is None:
            self.drainage.end()
            log.info("drain_over")
            return
        self.drainage.begin(order.config, at=self._clock())
        log.info("draining", tasks=len(self._roster.lives))
        await self._roster.drain(order.config)

    async def _refused(self, event: AgentEvent) -> bool:
        """Refuse what a draining agent does not launch; tell whether it was that."""
        if self.info.id is None:
            return False
        if event.run_task is not None:
            framework = event.run_task.framework_info
            tasks: tuple[TaskInfo, ...] = (event.run_task.task,)
        elif event.run_task_group is not None:
            framework = event.run_task_group.framework_info
            tasks = event.run_task_group.task_group.tasks
        else:
            return False
        for task in tasks:
            await self._roster.refuse(self.info.id.value, framework, task)
        return True

    async def unregister(self) -> None:
        """Kill everything, take leave of the master, and forget who we were."""
        log.info("unregistering")
        await self._roster.kill_all()
        try:
            await self._client.send(AgentCall(type="UNREGISTER"))
        except UnavailableError as error:
            log.warning("leave_not_taken", error=str(error))
        forget_id(self._layout)

    async def _subscribed(self, event: AgentSubscribed) -> None:
        if self.info.id != event.agent_id:
            self.info = msgspec.structs.replace(self.info, id=event.agent_id)
            await asyncio.to_thread(keep_id, self._layout, self.info)
            log.info("registered", agent_id=event.agent_id.value)
        self._sender.resume()
        self._operations.resume()
        self._roster.executors.resume()
