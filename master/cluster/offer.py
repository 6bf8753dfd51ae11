"""Outstanding offers."""

from dataclasses import dataclass

import msgspec

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import (
    URL,
    Address,
    AgentID,
    AllocationInfo,
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


def offer_message(offer: Outstanding, framework: Framework, agent: Agent) -> Offer:
    """Return the offer as its framework sees it: with the role only for MULTI_ROLE."""
    is_multi = framework.has("MULTI_ROLE")
    return Offer(
        id=OfferID(value=offer.id),
        framework_id=FrameworkID(value=offer.framework_id),
        agent_id=AgentID(value=offer.agent_id),
        hostname=agent.info.hostname,
        url=URL(
            scheme="http",
            address=Address(
                hostname=agent.info.hostname, ip=str(agent.address), port=agent.info.port
            ),
            path="/slave(1)",
        ),
        resources=offer.resources.messages(role=offer.role if is_multi else None),
        attributes=agent.info.attributes,
        allocation_info=AllocationInfo(role=offer.role) if is_multi else None,
    )


def operator_offer(offer: Outstanding, framework: Framework, agent: Agent) -> Offer:
    """Return the offer as operators see it: always with the role."""
    return msgspec.structs.replace(
        offer_message(offer, framework, agent),
        resources=offer.resources.messages(role=offer.role),
        allocation_info=AllocationInfo(role=offer.role),
    )
