"""Outstanding offers."""

from dataclasses import dataclass

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    URL,
    Address,
    AgentID,
    AllocationInfo,
    ExecutorID,
    FrameworkID,
    Offer,
    OfferID,
    Unavailability,
)


@dataclass(frozen=True, slots=True)
class Outstanding:
    """An offer that was made and neither used nor given back."""

    id: str
    framework_id: str
    agent_id: str
    role: str
    resources: Resources


@dataclass(frozen=True, slots=True)
class OutstandingInverse:
    """A framework was asked to leave an agent before it becomes unavailable."""

    id: str
    framework_id: str
    agent_id: str
    unavailability: Unavailability


def agent_url(agent: Agent) -> URL:
    """Return where an agent's own API is."""
    return URL(
        scheme="http",
        address=Address(hostname=agent.info.hostname, ip=str(agent.address), port=agent.info.port),
        path="/slave(1)",
    )


def offer_message(offer: Outstanding, framework: Framework, agent: Agent) -> Offer:
    """Return the offer as its framework sees it (reference mesos §1.3).

    With the role only for MULTI_ROLE, with stacks of reservations only for
    RESERVATION_REFINEMENT.
    """
    is_multi = framework.has("MULTI_ROLE")
    role = offer.role if is_multi else None
    is_refined = framework.has("RESERVATION_REFINEMENT")
    return Offer(
        id=OfferID(value=offer.id),
        framework_id=FrameworkID(value=offer.framework_id),
        agent_id=AgentID(value=offer.agent_id),
        hostname=agent.info.hostname,
        url=agent_url(agent),
        domain=agent.info.domain,
        resources=offer.resources.messages(role=role, is_refined=is_refined),
        attributes=agent.info.attributes,
        executor_ids=tuple(
            ExecutorID(value=executor_id)
            for framework_id, executor_id in agent.executors
            if framework_id == offer.framework_id
        ),
        unavailability=agent.unavailability,
        allocation_info=AllocationInfo(role=offer.role) if is_multi else None,
    )
