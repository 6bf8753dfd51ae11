"""The agents of the registry: admitted, unreachable or gone, draining or deactivated."""

from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import islice

import msgspec
import structlog

from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.mesos.v1.mesos import AgentInfo, DrainInfo

log = structlog.get_logger()

PREFIX = "agents"

ADMITTED = "admitted"
UNREACHABLE = "unreachable"
GONE = "gone"


class AgentRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is durable of an agent.

    *since* is when it became unreachable or gone, *drain_started* when it
    began to drain (wall clock).
    """

    id: str
    info: AgentInfo
    address: str
    version: str
    state: str = ADMITTED
    since: float = 0.0
    drain: DrainInfo | None = None
    drain_started: float | None = None
    is_deactivated: bool = False

    @property
    def node(self) -> IPv4Address:
        """Return the underlay address of the agent's node."""
        return IPv4Address(self.address)

    def with_orders_of(self, old: "AgentRecord") -> "AgentRecord":
        """Return the record with what was ordered of the agent before."""
        return msgspec.structs.replace(
            self,
            drain=old.drain,
            drain_started=old.drain_started,
            is_deactivated=old.is_deactivated,
        )

    def unreachable(self, since: float) -> "AgentRecord":
        """Return the record of the agent once it is unreachable."""
        return msgspec.structs.replace(self, state=UNREACHABLE, since=since)

    def gone(self, since: float) -> "AgentRecord":
        """Return the record of the agent once it is gone; nothing of it drains any more."""
        return msgspec.structs.replace(
            self, state=GONE, since=since, drain=None, drain_started=None, is_deactivated=False
        )


class AgentRegistry:
    """Keeps one durable record an agent; every method raises UnavailableError as the store does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records: dict[str, AgentRecord] = {}
        self.is_whole = True  # every row could be read

    async def load(self) -> None:
        """Read every record; this is what a new leader begins with.

        A row that nobody can read is left where it is and left out: one bad
        row must not keep a cluster without a leader.
        """
        records, self.is_whole = {}, True
        for key, row in (await self._store.list(PREFIX)).items():
            try:
                record = msgspec.json.decode(row.value, type=AgentRecord)
                record.node  # noqa: B018 - raises when it is no address
            except (msgspec.MsgspecError, ValueError) as error:
                log.error("agent_record_not_understood", key=key, error=str(error))
                self.is_whole = False
                continue
            records[record.id] = record
        self.records = records

    @property
    def nodes(self) -> set[IPv4Address]:
        """Return the nodes of agents that are not gone for good."""
        return {each.node for each in self.records.values() if each.state != GONE}

    @carried_through
    async def put(self, record: AgentRecord) -> None:
        """Make a record durable; one that is already there costs nothing."""
        if self.records.get(record.id) != record:
            await self._store.put(f"{PREFIX}/{record.id}", msgspec.json.encode(record))
            self.records[record.id] = record

    @carried_through
    async def remove(self, id: str) -> None:
        """Forget an agent."""
        await self._store.remove(f"{PREFIX}/{id}")
        self.records.pop(id, None)


def outlived(
    records: Iterable[AgentRecord], *, now: float, most_seconds: float, most_count: int
) -> list[AgentRecord]:
    """Return the unreachable and gone agents to forget: too old, or more than so many of a kind.

    Of those that are too many the oldest go (reference mesos §4.3).
    """
    found: list[AgentRecord] = []
    absent = [record for record in records if record.state != ADMITTED]
    for state in (UNREACHABLE, GONE):
        kind = sorted((each for each in absent if each.state == state), key=lambda r: r.since)
        surplus = max(0, len(kind) - most_count)
        found.extend(islice(kind, surplus))
        found.extend(each for each in kind[surplus:] if now - each.since > most_seconds)
    return found
