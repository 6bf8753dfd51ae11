"""Inverse offers: frameworks are asked to leave agents before their maintenance (§4.9).

Each framework that holds something of an agent with a planned unavailability
is asked once, and again when the filter of its last answer is over.
"""

from collections.abc import Iterable

from phalanx.master.clock import Clock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.offer import OutstandingInverse, agent_url
from phalanx.master.identity import Identities
from phalanx.master.post.framework import tell
from phalanx.mesos.v1.mesos import AgentID, FrameworkID, InverseOffer, OfferID
from phalanx.mesos.v1.scheduler import Event, InverseOffers, RescindInverseOffer


def holders(cluster: Cluster, agent: Agent) -> frozenset[str]:
    """Return the ids of the frameworks that hold, or are offered, something of an agent."""
    tasks = {key[0] for key in agent.tasks}
    executors = {key[0] for key in agent.executors}
    offers = {cluster.offers[id].framework_id for id in agent.offers}
    return frozenset(tasks | executors | offers)


def ask(cluster: Cluster, ids: Identities, clock: Clock, agents: Iterable[Agent]) -> int:
    """Send the inverse offers that are due for *agents*; return how many."""
    now = clock.now()
    due: dict[str, list[InverseOffer]] = {}
    for agent in agents:
        planned = agent.unavailability
        if planned is None or not agent.is_connected:
            continue
        asked = {cluster.inverse_offers[id].framework_id for id in agent.inverse_offers}
        for framework_id in sorted(holders(cluster, agent) - asked):
            framework = cluster.frameworks.get(framework_id)
            if framework is None or not framework.is_connected:
                continue
            if cluster.filters.blocks_inverse(framework_id, agent.id, now):
                continue
            offer = OutstandingInverse(ids.offer(), framework_id, agent.id, planned)
            cluster.add_inverse_offer(offer)
            due.setdefault(framework_id, []).append(
                InverseOffer(
                    id=OfferID(value=offer.id),
                    url=agent_url(agent),
                    framework_id=FrameworkID(value=framework_id),
                    agent_id=AgentID(value=agent.id),
                    unavailability=planned,
                )
            )
    for framework_id, offers in due.items():
        event = Event(
            type="INVERSE_OFFERS", inverse_offers=InverseOffers(inverse_offers=tuple(offers))
        )
        tell(cluster.frameworks[framework_id], event)
    return sum(len(offers) for offers in due.values())


def withdraw(cluster: Cluster) -> None:
    """Take back the inverse offers whose reason is over, and tell their frameworks."""
    for offer in list(cluster.inverse_offers.values()):
        agent = cluster.agents.get(offer.agent_id)
        framework = cluster.frameworks.get(offer.framework_id)
        is_due = agent is not None and agent.is_connected and framework is not None
        if is_due and agent is not None and agent.unavailability == offer.unavailability:
            continue
        cluster.remove_inverse_offer(offer)
        if framework is not None:
            gone = RescindInverseOffer(inverse_offer_id=OfferID(value=offer.id))
            tell(framework, Event(type="RESCIND_INVERSE_OFFER", rescind_inverse_offer=gone))
