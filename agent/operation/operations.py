"""Carries out operations on the agent's resources and tells of them until that is acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import structlog

from phalanx.agent.files import checkpointing
from phalanx.agent.operation.ledger import Ledger, Page, recovered
from phalanx.agent.operation.volume import carry_out
from phalanx.agent.task.stream import retry_seconds
from phalanx.core.error import ConfigError, ContainerError, InvalidError, UnavailableError
from phalanx.core.files import write_whole
from phalanx.mesos.agent_protocol import AcknowledgeOperation, ApplyOperation, OperationUpdate
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import AgentID, OperationRecord

log = structlog.get_logger()

Send = Callable[[OperationUpdate], Awaitable[None]]


def read_ledger(file: Path, base: Resources, *, is_strict: bool) -> Ledger:
    """Return what an earlier agent left, with the resources of this one; raise ConfigError."""
    try:
        page = decode(Page, file.read_bytes())
    except FileNotFoundError:
        page = None
    except InvalidError as error:
        if is_strict:
            raise ConfigError(f"--strict: {str(file)!r}: {error}") from error
        log.warning("ledger_unreadable", file=str(file), error=str(error))
        page = None
    try:
        return recovered(page, base)
    except InvalidError as error:
        raise ConfigError(f"--resources: {error}; see {str(file)!r}") from error


class Operations:
    """The ledger with its file, and the updates that are on their way to the master.

    *send* raises UnavailableError when there is no master; the update then waits
    for the next ``resume``.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        file: Path,
        work: Path,
        send: Send,
        new_uuid: Callable[[], bytes],
    ) -> None:
        self.ledger = ledger
        self._file = file
        self._work = work
        self._send = send
        self._new_uuid = new_uuid
        self._lock = asyncio.Lock()
        self._attempts: dict[bytes, int] = {}
        self._timers: dict[bytes, asyncio.TimerHandle] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._is_connected = False

    async def apply(self, order: ApplyOperation, agent_id: AgentID | None) -> None:
        """Carry out an order, on disk before it is told; one we know already is told again."""
        async with self._lock:
            known = self.ledger.find(order.operation_uuid)
            if known is not None:
                self._tell(known)
                return
            ledger, record = self.ledger.applied(
                order, agent_id=agent_id, status_uuid=self._new_uuid()
            )
            if record.latest_status.state == "OPERATION_FINISHED":
                try:
                    await asyncio.to_thread(carry_out, self._work, order.operation)
                except (ContainerError, OSError) as error:
                    ledger, record = self.ledger.failed(record, str(error))
            await self._keep(ledger)
            log.info(
                "operation_applied", type=order.operation.type, state=record.latest_status.state
            )
            self._tell(record)

    async def acknowledge(self, order: AcknowledgeOperation) -> None:
        """Take an acknowledgement; one for nothing is ignored."""
        async with self._lock:
            after = self.ledger.acknowledged(order.operation_uuid, order.status_uuid)
            if after is self.ledger:
                return
            await self._keep(after)
            self._stop(order.operation_uuid)

    async def _keep(self, ledger: Ledger) -> None:
        with checkpointing(self._file):
            raw = encode(ledger.page())
            await asyncio.to_thread(write_whole, self._file, raw, durable=True)
        self.ledger = ledger

    def resume(self) -> None:
        """Tell of everything that is not acknowledged: there is a new stream to a master."""
        self._is_connected = True
        for record in self.ledger.operations:
            self._tell(record)

    def pause(self) -> None:
        """Wait for ``resume``: there is no master."""
        self._is_connected = False
        for uuid in tuple(self._timers):
            self._stop(uuid)

    async def close(self) -> None:
        """Stop telling; what is not acknowledged is on disk."""
        self.pause()
        for task in tuple(self._sending):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _tell(self, record: OperationRecord) -> None:
        """Send an update, and again until it is acknowledged if it can be."""
        uuid = record.uuid.value
        self._stop(uuid)
        if not self._is_connected:
            return
        loop = asyncio.get_running_loop()
        if record.latest_status.uuid is not None:
            attempt = self._attempts.get(uuid, 0)
            self._attempts[uuid] = attempt + 1
            self._timers[uuid] = loop.call_later(retry_seconds(attempt), self._tell, record)
        update = OperationUpdate(
            operation_uuid=uuid, status=record.latest_status, framework_id=record.framework_id
        )
        task = loop.create_task(self._forward(update))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def _stop(self, uuid: bytes) -> None:
        timer = self._timers.pop(uuid, None)
        if timer is not None:
            timer.cancel()
        if self.ledger.find(uuid) is None or not self._is_connected:
            self._attempts.pop(uuid, None)

    async def _forward(self, update: OperationUpdate) -> None:
        try:
            await self._send(update)
        except UnavailableError as error:
            log.info("operation_update_not_sent", error=str(error))
