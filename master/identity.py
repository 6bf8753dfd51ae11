"""Who a master is, and the ids that it gives to others."""

from ipaddress import IPv4Address
from itertools import count
from uuid import NAMESPACE_OID, uuid5

from phalanx.mesos.build import VERSION
from phalanx.mesos.v1.mesos import Address, DomainInfo, MasterCapability, MasterInfo

CAPABILITIES = ("AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2")
AGENT_CAPABILITIES = (
    "MULTI_ROLE",
    "HIERARCHICAL_ROLE",
    "RESERVATION_REFINEMENT",
    "TASK_RESOURCE_LIMITS",
)


def master_info(
    id: str, address: IPv4Address, port: int, hostname: str, domain: DomainInfo | None = None
) -> MasterInfo:
    """Return the MasterInfo of a master that listens on *address* and *port*."""
    return MasterInfo(
        id=id,
        ip=int.from_bytes(address.packed, "little"),
        port=port,
        pid=f"master@{address}:{port}",
        hostname=hostname,
        version=VERSION,
        address=Address(hostname=hostname, ip=str(address), port=port),
        capabilities=tuple(MasterCapability(type=name) for name in CAPABILITIES),
        domain=domain,
    )


def agent_pid(address: IPv4Address, port: int) -> str:
    """Return the name that old tools know an agent by."""
    return f"slave(1)@{address}:{port}"


class Identities:
    """Numbers the agents, frameworks and offers of one leadership."""

    def __init__(self, master_id: str) -> None:
        self.master_id = master_id
        self._agents = count()
        self._frameworks = count()
        self._offers = count()
        self._operations = count()

    def agent(self) -> str:
        """Return the next agent id."""
        return f"{self.master_id}-S{next(self._agents)}"

    def framework(self) -> str:
        """Return the next framework id."""
        return f"{self.master_id}-{next(self._frameworks):04d}"

    def offer(self) -> str:
        """Return the next offer id."""
        return f"{self.master_id}-O{next(self._offers)}"

    def operation(self) -> bytes:
        """Return the next operation's uuid, which names the master as ids do."""
        return uuid5(NAMESPACE_OID, f"{self.master_id}-P{next(self._operations)}").bytes
