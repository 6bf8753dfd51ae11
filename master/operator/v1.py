"""Answers of the v1 operator API as messages (reference mesos §3.1); pure."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

import msgspec

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding, OutstandingInverse
from phalanx.master.cluster.task import time_info
from phalanx.master.identity import AGENT_CAPABILITIES, agent_pid
from phalanx.master.operator.role import roles_of_cluster
from phalanx.master.operator.snapshot import (
    AgentFacts,
    FrameworkFacts,
    Snapshot,
    agent_facts,
    framework_facts,
)
from phalanx.master.operator.tally import full, messages, offered_by_role, totals, totals_at_once
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, encode
from phalanx.mesos.v1.master import (
    GetAgentsAgent,
    GetAgentsAnswer,
    GetExecutorsAnswer,
    GetExecutorsExecutor,
    GetFrameworksAnswer,
    GetFrameworksFramework,
    GetRolesAnswer,
    GetStateAnswer,
    GetTasksAnswer,
    Response,
)
from phalanx.mesos.v1.mesos import (
    URL,
    Address,
    AgentCapability,
    AgentID,
    AllocationInfo,
    Flag,
    FrameworkID,
    InverseOffer,
    Metric,
    Offer,
    OfferID,
    Role,
    Task,
)
from phalanx.mesos.v1.operator import (
    GetOperationsAnswer,
)
from phalanx.mesos.v1.scheduler import OfferConstraints

CAPABILITIES = tuple(AgentCapability(type=name) for name in AGENT_CAPABILITIES)
SLICE = 64  # messages of one piece


def pairs_of_flags(flags: Mapping[str, str]) -> tuple[Flag, ...]:
    """Return settings as GET_FLAGS tells them."""
    return tuple(Flag(name=name, value=value) for name, value in flags.items())


def pairs_of_metrics(metrics: Mapping[str, float]) -> tuple[Metric, ...]:
    """Return metrics as GET_METRICS tells them."""
    return tuple(Metric(name=name, value=value) for name, value in metrics.items())


def agent_message(facts: AgentFacts) -> GetAgentsAgent:
    """Return one agent of GET_AGENTS."""
    return GetAgentsAgent(
        agent_info=facts.info,
        active=facts.is_active,
        deactivated=facts.is_deactivated,
        version=facts.version,
        pid=agent_pid(facts.address, facts.info.port),
        registered_time=time_info(facts.registered),
        reregistered_time=None if facts.reregistered is None else time_info(facts.reregistered),
        total_resources=full(facts.total),
        allocated_resources=messages(facts.held),
        offered_resources=messages(offered_by_role(facts.offers)),
        capabilities=facts.capabilities or CAPABILITIES,
        drain_info=facts.drain,
        estimated_drain_start_time=None
        if facts.drain_started is None
        else time_info(float(int(facts.drain_started))),
    )


def agent_of(agent: Agent, cluster: Cluster) -> GetAgentsAgent:
    """Return one agent as it is now."""
    return agent_message(agent_facts(agent, cluster))


def framework_message(
    facts: FrameworkFacts,
    hosts: Mapping[str, Agent],
    held: Mapping[str, Resources] | None = None,
) -> GetFrameworksFramework:
    """Return one framework of GET_FRAMEWORKS; *held* is what it uses if that is known already."""
    held = totals_at_once(facts) if held is None else held
    return GetFrameworksFramework(
        framework_info=facts.info,
        active=facts.is_active,
        connected=facts.is_connected,
        recovered=facts.is_recovered,
        registered_time=time_info(facts.registered),
        reregistered_time=time_info(facts.reregistered or facts.registered),
        unregistered_time=None if facts.unregistered is None else time_info(facts.unregistered),
        offers=tuple(
            offer_message(offer, hosts[offer.agent_id])
            for offer in facts.offers
            if offer.agent_id in hosts
        ),
        inverse_offers=tuple(inverse_message(offer, hosts) for offer in facts.inverse_offers),
        allocated_resources=messages(held),
        offered_resources=messages(offered_by_role(facts.offers)),
        offer_constraints=facts.constraints or OfferConstraints(),
    )


def framework_of(framework: Framework, cluster: Cluster) -> GetFrameworksFramework:
    """Return one framework as events tell of it: never over, constraints only if it has any."""
    message = framework_message(framework_facts(framework, cluster), cluster.agents)
    return msgspec.structs.replace(
        message, unregistered_time=time_info(0.0), offer_constraints=framework.constraints
    )


def offer_message(offer: Outstanding, agent: Agent) -> Offer:
    """Return an offer as operators see it: always with its role."""
    return Offer(
        id=OfferID(value=offer.id),
        framework_id=FrameworkID(value=offer.framework_id),
        agent_id=AgentID(value=offer.agent_id),
        hostname=agent.info.hostname,
        url=_url(agent.info.hostname, agent.address, agent.info.port),
        resources=offer.resources.messages(role=offer.role, is_refined=True),
        attributes=agent.info.attributes,
        allocation_info=AllocationInfo(role=offer.role),
    )


def inverse_message(offer: OutstandingInverse, hosts: Mapping[str, Agent]) -> InverseOffer:
    """Return an inverse offer as operators see it."""
    agent = hosts.get(offer.agent_id)
    return InverseOffer(
        id=OfferID(value=offer.id),
        framework_id=FrameworkID(value=offer.framework_id),
        agent_id=AgentID(value=offer.agent_id),
        url=None if agent is None else _url(agent.info.hostname, agent.address, agent.info.port),
        unavailability=offer.unavailability,
    )


def _url(hostname: str, address: IPv4Address, port: int) -> URL:
    where = Address(hostname=hostname, ip=str(address), port=port)
    return URL(scheme="http", address=where, path="/slave(1)")


def executors_of(snapshot: Snapshot) -> tuple[GetExecutorsExecutor, ...]:
    """Return GET_EXECUTORS' list; those that command tasks imply are not in it."""
    return tuple(
        GetExecutorsExecutor(executor_info=item.info, agent_id=AgentID(value=item.agent_id))
        for framework in snapshot.frameworks
        for item in framework.executors
    )


def operations_answer(cluster: Cluster) -> GetOperationsAnswer:
    """Return GET_OPERATIONS: what is not finished, or not acknowledged."""
    return GetOperationsAnswer(
        operations=tuple(
            operation
            for agent in cluster.agents.values()
            for operation in agent.operations.values()
        )
    )


def roles_answer(cluster: Cluster) -> GetRolesAnswer:
    """Return GET_ROLES."""
    return GetRolesAnswer(
        roles=tuple(
            Role(
                name=role.name,
                weight=role.weight,
                frameworks=tuple(FrameworkID(value=id) for id in role.frameworks),
                resources=(role.allocated + role.offered).messages(is_refined=True),
            )
            for role in roles_of_cluster(cluster)
        )
    )


# Long answers, piece by piece: as JSON, every list is there even when it is empty.


def tasks_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the value of ``get_tasks``."""
    everyone = (*snapshot.frameworks, *snapshot.completed)
    yield b'{"tasks":['
    yield from _listed(task for item in everyone for task in item.tasks)
    yield b'],"unreachable_tasks":['
    yield from _listed(task for item in everyone for task in item.unreachable)
    yield b'],"completed_tasks":['
    yield from _listed(task for item in everyone for task in item.completed)
    yield b"]}"


def executors_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the value of ``get_executors``."""
    yield b'{"executors":['
    yield from _listed(executors_of(snapshot))
    yield b"]}"


def frameworks_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the value of ``get_frameworks``."""
    yield b'{"frameworks":['
    for number, item in enumerate(snapshot.frameworks):
        held = yield from totals(item)
        yield (b"," if number else b"") + encode(framework_message(item, snapshot.hosts, held))
    yield b'],"completed_frameworks":['
    yield from _listed(framework_message(item, snapshot.hosts) for item in snapshot.completed)
    yield b"]}"


def agents_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the value of ``get_agents``."""
    yield b'{"agents":['
    yield from _listed(agent_message(item) for item in snapshot.agents())
    yield b'],"recovered_agents":['
    yield from _listed(item.info for item in snapshot.recovered)
    yield b"]}"


def state_json(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the value of ``get_state``."""
    yield b'{"get_tasks":'
    yield from tasks_json(snapshot)
    yield b',"get_executors":'
    yield from executors_json(snapshot)
    yield b',"get_frameworks":'
    yield from frameworks_json(snapshot)
    yield b',"get_agents":'
    yield from agents_json(snapshot)
    yield b"}"


def response_json(kind: str, value: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a whole response whose member is *value*."""
    yield b'{"type":"%b","%b":' % (kind.encode(), kind.lower().encode())
    yield from value
    yield b"}"


def subscribed_json(snapshot: Snapshot, heartbeat_seconds: float) -> Iterator[bytes]:
    """Yield the first record of an event stream."""
    yield b'{"type":"SUBSCRIBED","subscribed":{"get_state":'
    yield from state_json(snapshot)
    yield b',"heartbeat_interval_seconds":%b}}' % msgspec.json.encode(heartbeat_seconds)


def _listed(items: Iterable[Message]) -> Iterator[bytes]:
    """Yield the items of a JSON list, several to a piece."""
    is_first = True
    batch: list[bytes] = []
    for item in items:
        batch.append(encode(item))
        if len(batch) >= SLICE:
            yield (b"" if is_first else b",") + b",".join(batch)
            is_first = False
            batch.clear()
    if batch:
        yield (b"" if is_first else b",") + b",".join(batch)


# The same as protobuf: parts of a message written one after the other are one message.


def state_parts(snapshot: Snapshot) -> Iterator[GetStateAnswer]:
    """Yield GET_STATE in parts that merge to the whole."""
    for tasks in tasks_parts(snapshot):
        yield GetStateAnswer(get_tasks=tasks)
    yield GetStateAnswer(get_executors=GetExecutorsAnswer(executors=executors_of(snapshot)))
    for frameworks in frameworks_parts(snapshot):
        yield GetStateAnswer(get_frameworks=frameworks)
    for agents in agents_parts(snapshot):
        yield GetStateAnswer(get_agents=agents)


def tasks_parts(snapshot: Snapshot) -> Iterator[GetTasksAnswer]:
    """Yield GET_TASKS in parts that merge to the whole."""
    yield GetTasksAnswer()
    for framework in (*snapshot.frameworks, *snapshot.completed):
        for some in _batched(framework.tasks):
            yield GetTasksAnswer(tasks=some)
        for some in _batched(framework.unreachable):
            yield GetTasksAnswer(unreachable_tasks=some)
        for some in _batched(framework.completed):
            yield GetTasksAnswer(completed_tasks=some)


def frameworks_parts(snapshot: Snapshot) -> Iterator[GetFrameworksAnswer]:
    """Yield GET_FRAMEWORKS in parts that merge to the whole."""
    yield GetFrameworksAnswer()
    for item in snapshot.frameworks:
        yield GetFrameworksAnswer(frameworks=(framework_message(item, snapshot.hosts),))
    for item in snapshot.completed:
        yield GetFrameworksAnswer(completed_frameworks=(framework_message(item, snapshot.hosts),))


def agents_parts(snapshot: Snapshot) -> Iterator[GetAgentsAnswer]:
    """Yield GET_AGENTS in parts that merge to the whole."""
    yield GetAgentsAnswer(recovered_agents=tuple(item.info for item in snapshot.recovered))
    for facts in snapshot.agents():
        yield GetAgentsAnswer(agents=(agent_message(facts),))


def _batched(tasks: tuple[Task, ...]) -> Iterator[tuple[Task, ...]]:
    for begin in range(0, len(tasks), SLICE):
        yield tasks[begin : begin + SLICE]


def long_parts(kind: str, snapshot: Snapshot) -> Iterator[Response]:
    """Yield the answer to one of the calls that tell of everything, in parts."""
    match kind:
        case "GET_STATE":
            for state in state_parts(snapshot):
                yield Response(type=kind, get_state=state)
        case "GET_TASKS":
            for tasks in tasks_parts(snapshot):
                yield Response(type=kind, get_tasks=tasks)
        case "GET_AGENTS":
            for agents in agents_parts(snapshot):
                yield Response(type=kind, get_agents=agents)
        case "GET_FRAMEWORKS":
            for frameworks in frameworks_parts(snapshot):
                yield Response(type=kind, get_frameworks=frameworks)
        case _:
            executors = GetExecutorsAnswer(executors=executors_of(snapshot))
            yield Response(type=kind, get_executors=executors)


def long_json(kind: str, snapshot: Snapshot) -> Iterator[bytes]:
    """Yield the same as JSON, piece by piece."""
    values = {
        "GET_STATE": state_json,
        "GET_TASKS": tasks_json,
        "GET_AGENTS": agents_json,
        "GET_FRAMEWORKS": frameworks_json,
        "GET_EXECUTORS": executors_json,
    }
    return response_json(kind, values[kind](snapshot))


LONG = frozenset({"GET_STATE", "GET_TASKS", "GET_AGENTS", "GET_FRAMEWORKS", "GET_EXECUTORS"})
