"""Which agents may register, and what comes with them (reference mesos §4.2); pure."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from phalanx.core.error import InvalidError
from phalanx.master.agents.domain import domain_problem
from phalanx.master.agents.registry import GONE, AgentRecord
from phalanx.master.cluster.agent import Agent
from phalanx.master.maintenance.schedule import DOWN, is_machine
from phalanx.master.scheduler.framework_info import id_problem
from phalanx.mesos.agent_protocol import AgentSubscribe
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import AgentInfo, DomainInfo, MachineInfo
from phalanx.net.model.objects import Liveness

MIN_VERSION = (1, 0, 0)


def checked_total(
    subscribe: AgentSubscribe, domain: DomainInfo | None, *, is_domain_required: bool
) -> Resources:
    """Return all that the agent has to offer; raise InvalidError for what can't be an agent.

    *domain* is the master's own.
    """
    info = subscribe.agent_info
    if info.id is not None and (problem := id_problem(info.id.value)):
        raise InvalidError(f"agent_info.id: {problem}")
    check_version(subscribe.version)
    if problem := domain_problem(info, domain, is_required=is_domain_required):
        raise InvalidError(problem)
    total = Resources.of(subscribe.total_resources or info.resources)
    for executor in subscribe.executors:
        Resources.of(executor.resources)  # raises before anything is changed
    return total


def check_version(version: str) -> None:
    """Raise InvalidError for an agent that is too old to speak with, or says nothing sensible."""
    parts = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if parts is None:
        raise InvalidError(f"version: {version!r} is no version")
    if tuple(int(part or 0) for part in parts.groups()) < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        raise InvalidError(f"version: {version!r} is older than {wanted}")


def refusal(
    id: str | None,
    info: AgentInfo,
    address: IPv4Address,
    *,
    gone: Iterable[str],
    machines: Iterable[MachineInfo],
    known: Agent | None,
) -> str | None:
    """Return why the agent must end itself, None when it may register.

    *known* is the agent of its id. One that is registered keeps its address and
    name: whoever comes from elsewhere while it is heard is a copy of it.
    """
    if id is not None and id in gone:
        return "Agent has been marked gone"
    for machine in machines:
        if machine.mode == DOWN and is_machine(machine.id, info.hostname, address):
            return "Machine is `DOWN`"
    if known is None or known.liveness is Liveness.UNREACHABLE:
        return None
    has_moved = known.address != address
    is_renamed = known.info.hostname != info.hostname
    if (known.liveness is Liveness.ALIVE and has_moved) or (is_renamed and not has_moved):
        return "Agent attempted to re-register with different IP / hostname"
    return None


def node_left(
    id: str,
    address: IPv4Address,
    *,
    records: Mapping[str, AgentRecord],
    agents: Mapping[str, Agent],
) -> IPv4Address | None:
    """Return the node whose subnets follow an agent that has moved to *address*, None for none.

    Of a node with several agents, here or there, nobody can tell whose they are.
    """
    record = records.get(id)
    if record is None or record.node == address:
        return None
    others = [each for each in records.values() if each.id != id]
    if any(each.node == record.node and each.state != GONE for each in others):
        return None
    neighbours = (agents.get(each.id) for each in others if each.node == address)
    if any(each is not None and each.liveness is Liveness.ALIVE for each in neighbours):
        return None
    return record.node
