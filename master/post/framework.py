"""What the master tells frameworks; to one that is not subscribed nothing is said."""

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import Outstanding
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import AgentID, ExecutorID, OfferID, OperationStatus, TaskStatus
from phalanx.mesos.v1.scheduler import (
    Event,
    Failure,
    FrameworkMessage,
    Rescind,
    Update,
    UpdateOperationStatus,
)


def tell(framework: Framework, event: Event) -> None:
    """Send one event to a framework."""
    if framework.stream is not None:
        framework.stream.send(event)


def send_update(framework: Framework, status: TaskStatus) -> None:
    """Tell a task's status."""
    tell(framework, Event(type="UPDATE", update=Update(status=status)))


def rescind(cluster: Cluster, offers: list[Outstanding]) -> None:
    """Withdraw offers and say so to their frameworks."""
    for offer in offers:
        cluster.remove_offer(offer)
        framework = cluster.frameworks[offer.framework_id]
        tell(framework, Event(type="RESCIND", rescind=Rescind(offer_id=OfferID(value=offer.id))))


def rescind_shared(cluster: Cluster, agent: Agent, volumes: Resources) -> None:
    """Withdraw the offers that hold one of the shared *volumes*, which are to go."""
    kinds = set(volumes.shared)
    if kinds:
        offers = cluster.offers_of(agent)
        rescind(cluster, [offer for offer in offers if not kinds.isdisjoint(offer.resources)])


def send_failure(cluster: Cluster, agent_id: str) -> None:
    """Tell every framework that an agent is gone."""
    for framework in cluster.frameworks.values():
        tell(framework, Event(type="FAILURE", failure=Failure(agent_id=AgentID(value=agent_id))))


def send_operation_status(framework: Framework, status: OperationStatus) -> None:
    """Tell an operation's status."""
    update = UpdateOperationStatus(status=status)
    tell(framework, Event(type="UPDATE_OPERATION_STATUS", update_operation_status=update))


def send_executor_failure(
    framework: Framework, agent_id: str, executor_id: ExecutorID, status: int
) -> None:
    """Tell a framework that an executor of its has ended, with its raw wait status."""
    failure = Failure(agent_id=AgentID(value=agent_id), executor_id=executor_id, status=status)
    tell(framework, Event(type="FAILURE", failure=failure))


def send_message(framework: Framework, agent_id: str, executor_id: ExecutorID, data: bytes) -> None:
    """Pass an executor's message on."""
    message = FrameworkMessage(agent_id=AgentID(value=agent_id), executor_id=executor_id, data=data)
    tell(framework, Event(type="MESSAGE", message=message))
