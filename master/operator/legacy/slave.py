"""Agents as the legacy endpoints show them (reference mesos §3.4); pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from phalanx.master.identity import AGENT_CAPABILITIES, agent_pid
from phalanx.master.operator.fragment import Fragments, Reading, listed
from phalanx.master.operator.snapshot import (
    AgentFacts,
    RecoveredFacts,
    Snapshot,
)
from phalanx.master.operator.tally import (
    full,
    messages,
    offered_by_role,
    summary,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import encode_value, to_json
from phalanx.mesos.v1.mesos import (
    Attribute,
    Resource,
)

Json = dict[str, Any]
Slaves = Reading[AgentFacts]  # rendered, by id


def slave_json(agent: AgentFacts) -> Json:
    """Return an agent as ``/state`` shows it."""
    info = agent.info
    shown: Json = {
        "id": agent.id,
        "hostname": info.hostname,
        "port": info.port,
        "attributes": {item.name: attribute_value(item) for item in info.attributes},
    }
    if info.domain is not None:
        shown["domain"] = to_json(info.domain)
    shown["pid"] = agent_pid(agent.address, info.port)
    shown["registered_time"] = agent.registered
    if agent.reregistered is not None:
        shown["reregistered_time"] = agent.reregistered
    shown |= {
        "resources": summary(agent.total),
        "used_resources": summary(agent.used),
        "offered_resources": summary(agent.offered),
        "reserved_resources": {
            role: summary(resources) for role, resources in agent.total.by_role().items()
        },
        "unreserved_resources": summary(agent.total.unreserved),
        "active": agent.is_active,
        "deactivated": agent.is_deactivated,
        "version": agent.version,
        "capabilities": [item.type for item in agent.capabilities if item.type]
        or list(AGENT_CAPABILITIES),
    }
    if agent.drain is not None:
        shown["drain_info"] = to_json(agent.drain)
    if agent.drain_started is not None:
        shown["estimated_drain_start_time_seconds"] = agent.drain_started
    return shown


def full_slave_json(agent: AgentFacts) -> Json:
    """Return an agent as ``/slaves`` shows it: with its resources in full."""
    return slave_json(agent) | {
        "reserved_resources_full": {
            role: _full(full(resources)) for role, resources in agent.total.by_role().items()
        },
        "unreserved_resources_full": _full(full(agent.total.unreserved)),
        "used_resources_full": _full(messages(agent.held)),
        "offered_resources_full": _full(messages(offered_by_role(agent.offers))),
    }


def slaves_json(snapshot: Snapshot, wanted: str | None = None) -> Iterator[bytes]:
    """Yield ``/slaves``: all agents, or the one that is wanted."""
    yield b'{"slaves":['
    yield from listed(
        encode_value(full_slave_json(agent))
        for agent in snapshot.agents()
        if wanted is None or agent.id == wanted
    )
    recovered = [item for item in snapshot.recovered if wanted is None or item.id == wanted]
    yield b'],"recovered_slaves":%b}' % encode_value(recovered_json(recovered))


def slave_fragments() -> Fragments[AgentFacts]:
    """Return where agents are kept as ``/state`` shows them."""
    return Fragments(lambda agent: encode_value(slave_json(agent)))


def attribute_value(attribute: Attribute) -> float | str:
    """Return an attribute's plain value: a number, or text."""
    if attribute.scalar is not None:
        return attribute.scalar.value
    if attribute.ranges is not None:
        spans = (f"{span.begin}-{span.end}" for span in attribute.ranges.range)
        return f"[{', '.join(spans)}]"
    if attribute.set is not None:
        return f"{{{', '.join(attribute.set.item)}}}"
    return attribute.text.value if attribute.text is not None else ""


def recovered_json(agents: Iterable[RecoveredFacts]) -> list[Json]:
    """Return the agents that a new leader waits for."""
    return [
        {
            "id": agent.id,
            "hostname": agent.info.hostname,
            "port": agent.info.port,
            "attributes": {item.name: attribute_value(item) for item in agent.info.attributes},
            "pid": agent_pid(agent.address, agent.info.port),
            "resources": summary(Resources.of(agent.info.resources)),
        }
        for agent in agents
    ]


def _full(resources: Iterable[Resource]) -> list[Json]:
    return [to_json(resource) for resource in resources]
