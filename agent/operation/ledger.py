"""What an agent's resources have become, and the operations that nobody acknowledged yet; pure."""

from dataclasses import dataclass, replace

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.agent_protocol import ApplyOperation
from phalanx.mesos.operation import conversion_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    UUID,
    AgentID,
    OperationRecord,
    OperationStatus,
    Resource,
)


class Page(Message, frozen=True, kw_only=True):
    """A ledger as it is on disk: *base* is what the agent was started with."""

    base: tuple[Resource, ...] = ()
    total: tuple[Resource, ...] = ()
    operations: tuple[OperationRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Resources after every operation, and the operations whose end is not acknowledged."""

    base: Resources
    total: Resources
    operations: tuple[OperationRecord, ...] = ()

    def page(self) -> Page:
        """Return what is written."""
        return Page(
            base=self.base.messages(),
            total=self.total.messages(is_refined=True),
            operations=self.operations,
        )

    def find(self, operation_uuid: bytes) -> OperationRecord | None:
        """Return an operation that is not acknowledged."""
        return next((item for item in self.operations if item.uuid.value == operation_uuid), None)

    def applied(
        self, order: ApplyOperation, *, agent_id: AgentID | None, status_uuid: bytes
    ) -> tuple["Ledger", OperationRecord]:
        """Carry out an order; return what is then, and how it ended.

        An operation that the resources are not there for fails and changes nothing.
        """
        name = order.operation.id
        status = OperationStatus(
            operation_id=name,
            state="OPERATION_FINISHED",
            agent_id=agent_id,
            uuid=UUID(value=status_uuid) if name is not None else None,
        )
        total = self.total
        try:
            conversion = conversion_of(order.operation)
            total = conversion.apply(self.total)
            status = msgspec.structs.replace(
                status, converted_resources=conversion.made.messages(is_refined=True)
            )
        except InvalidError as error:
            status = msgspec.structs.replace(status, state="OPERATION_FAILED", message=str(error))
        record = OperationRecord(
            framework_id=order.framework_id,
            agent_id=agent_id,
            info=order.operation,
            latest_status=status,
            statuses=(status,),
            uuid=UUID(value=order.operation_uuid),
        )
        kept = (*self.operations, record) if name is not None else self.operations
        return replace(self, total=total, operations=kept), record

    def failed(self, record: OperationRecord, words: str) -> tuple["Ledger", OperationRecord]:
        """Return the ledger with an operation that the disk refused, in the disk's words."""
        status = msgspec.structs.replace(
            record.latest_status,
            state="OPERATION_FAILED",
            message=words,
            converted_resources=(),
        )
        ended = msgspec.structs.replace(record, latest_status=status, statuses=(status,))
        kept = self.operations
        if record.info.id is not None:
            kept = (*(item for item in kept if item.uuid != record.uuid), ended)
        return replace(self, operations=kept), ended

    def acknowledged(self, operation_uuid: bytes, status_uuid: bytes) -> "Ledger":
        """Forget an operation whose status has been taken; any other word is ignored."""
        record = self.find(operation_uuid)
        latest = record.latest_status.uuid if record is not None else None
        if record is None or latest is None or latest.value != status_uuid:
            return self
        kept = tuple(item for item in self.operations if item.uuid.value != operation_uuid)
        return replace(self, operations=kept)


def recovered(page: Page | None, base: Resources) -> Ledger:
    """Return the ledger of an agent that is started with *base*; raise InvalidError.

    What operations made of an earlier base is made of the new one, which must have it.
    """
    if page is None:
        return Ledger(base, base)
    before, after = Resources.of(page.base), Resources.of(page.total)
    consumed, made = _without(before, after), _without(after, before)
    if consumed not in base:
        raise InvalidError(
            f"the resources {base!r} lack {consumed!r}, which is reserved or in volumes"
        )
    return Ledger(base, base - consumed + made, page.operations)


def _without(some: Resources, others: Resources) -> Resources:
    """Return what *some* have more than *others*."""
    return some - others
