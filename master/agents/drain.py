"""What orders make of an agent's record: draining, drained, deactivated, active; pure."""

import msgspec

from phalanx.core.error import InvalidError
from phalanx.master.agents.registry import AgentRecord
from phalanx.master.cluster.agent import Agent
from phalanx.mesos.agent_protocol import Drain
from phalanx.mesos.v1.mesos import DrainConfig, DrainInfo

DRAINING = "DRAINING"
DRAINED = "DRAINED"


def draining(record: AgentRecord, config: DrainConfig, started: float) -> AgentRecord:
    """Return the record of an agent that begins to drain, by the words of *config*."""
    return msgspec.structs.replace(
        record,
        drain=DrainInfo(state=DRAINING, config=config),
        drain_started=started,
        is_deactivated=True,
    )


def drained(record: AgentRecord, config: DrainConfig) -> AgentRecord:
    """Return the record of an agent on which nothing is left."""
    return msgspec.structs.replace(record, drain=DrainInfo(state=DRAINED, config=config))


def deactivated(record: AgentRecord) -> AgentRecord:
    """Return the record of an agent of which nothing is offered."""
    return msgspec.structs.replace(record, is_deactivated=True)


def reactivated(record: AgentRecord) -> AgentRecord:
    """Return the record of an agent that is offered again; raise InvalidError while it drains."""
    if is_draining(record.drain):
        raise InvalidError("Agent is still in the DRAINING state")
    return msgspec.structs.replace(record, drain=None, drain_started=None, is_deactivated=False)


def is_draining(drain: DrainInfo | None) -> bool:
    """Tell whether an agent is to drain and has not drained yet."""
    return drain is not None and drain.state == DRAINING


def is_drained(agent: Agent) -> bool:
    """Tell whether nothing is left on a connected agent that drains."""
    if not is_draining(agent.drain) or not agent.is_connected:
        return False
    return not (agent.tasks or agent.executors or agent.operations)


def correction(wanted: DrainInfo | None, known: DrainConfig | None) -> Drain | None:
    """Return what to tell an agent that registers believing *known*, None for nothing."""
    if wanted is None:
        return None if known is None else Drain()
    return Drain(config=wanted.config) if is_draining(wanted) else None
