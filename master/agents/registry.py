"""The agents of the registry: who is admitted, unreachable or gone."""

from ipaddress import IPv4Address

import msgspec

from phalanx.core.store.store import Store
from phalanx.master.carry import carried_through
from phalanx.mesos.v1.mesos import AgentInfo

PREFIX = "agents"

ADMITTED = "admitted"
UNREACHABLE = "unreachable"
GONE = "gone"


class AgentRecord(msgspec.Struct, frozen=True):
    """What is durable of an agent; *since* is when it became unreachable or gone (wall)."""

    id: str
    info: AgentInfo
    address: str
    version: str
    state: str = ADMITTED
    since: float = 0.0

    @property
    def node(self) -> IPv4Address:
        """Return the underlay address of the agent's node."""
        return IPv4Address(self.address)


class AgentRegistry:
    """Keeps one durable record an agent; every method raises UnavailableError as the store does."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records: dict[str, AgentRecord] = {}

    async def load(self) -> None:
        """Read every record; this is what a new leader begins with."""
        stored = await self._store.list(PREFIX)
        records = (msgspec.json.decode(row.value, type=AgentRecord) for row in stored.values())
        self.records = {record.id: record for record in records}

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
