"""What passes between the master and the roster."""

import asyncio

import msgspec
import structlog

from phalanx.agent.client import MasterClient
from phalanx.agent.layout import Layout
from phalanx.agent.registration import keep_id
from phalanx.agent.roster import Roster
from phalanx.agent.task.sender import Key, UpdateSender
from phalanx.core.error import PhalanxError
from phalanx.mesos.agent_protocol import (
    AgentCall,
    AgentEvent,
    AgentSubscribe,
    AgentSubscribed,
    AgentUpdate,
)
from phalanx.mesos.v1.mesos import AgentInfo

log = structlog.get_logger()


class AgentShutDownError(PhalanxError):
    """The master told this agent to end."""


class Link:
    """Turns events into deeds and deeds into calls; joined to its neighbours once they exist."""

    def __init__(self, layout: Layout, info: AgentInfo, version: str) -> None:
        self.info = info
        self._layout = layout
        self._version = version
        self._roster: Roster
        self._sender: UpdateSender
        self._client: MasterClient

    def join(self, *, roster: Roster, sender: UpdateSender, client: MasterClient) -> None:
        """Get to know the neighbours."""
        self._roster, self._sender, self._client = roster, sender, client

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
            ),
        )

    async def send_update(self, update: AgentUpdate) -> None:
        """Send a status update; raise UnavailableError if it did not get there."""
        await self._client.send(AgentCall(type="UPDATE", update=update))

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

    async def _subscribed(self, event: AgentSubscribed) -> None:
        if self.info.id != event.agent_id:
            self.info = msgspec.structs.replace(self.info, id=event.agent_id)
            await asyncio.to_thread(keep_id, self._layout, self.info)
            log.info("registered", agent_id=event.agent_id.value)
        self._sender.resume()
