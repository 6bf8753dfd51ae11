"""Calls and events of the v1 scheduler API (reference mesos §1, appendix A)."""

from typing import Annotated

import msgspec

from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.mesos import (
    AgentID,
    ExecutorID,
    Filters,
    FrameworkID,
    FrameworkInfo,
    InverseOffer,
    KillPolicy,
    MasterInfo,
    Offer,
    OfferID,
    Operation,
    OperationID,
    OperationStatus,
    ResourceProviderID,
    TaskID,
    TaskStatus,
)
from phalanx.mesos.v1.mesos import Request as ResourceRequest
from phalanx.mesos.v1.wire import I32, U32, n, names

EventType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "SUBSCRIBED": 1,
            "OFFERS": 2,
            "INVERSE_OFFERS": 9,
            "RESCIND": 3,
            "RESCIND_INVERSE_OFFER": 10,
            "UPDATE": 4,
            "UPDATE_OPERATION_STATUS": 11,
            "MESSAGE": 5,
            "FAILURE": 6,
            "ERROR": 7,
            "HEARTBEAT": 8,
        }
    ),
]
ResponseType = Annotated[str, names({"UNKNOWN": 0, "RECONCILE_OPERATIONS": 1})]
SelectorPseudoattributeType = Annotated[
    str, names({"UNKNOWN": 0, "HOSTNAME": 1, "REGION": 2, "ZONE": 3})
]
CallType = Annotated[
    str,
    names(
        {
            "UNKNOWN": 0,
            "SUBSCRIBE": 1,
            "TEARDOWN": 2,
            "ACCEPT": 3,
            "DECLINE": 4,
            "ACCEPT_INVERSE_OFFERS": 13,
            "DECLINE_INVERSE_OFFERS": 14,
            "REVIVE": 5,
            "KILL": 6,
            "SHUTDOWN": 7,
            "ACKNOWLEDGE": 8,
            "ACKNOWLEDGE_OPERATION_STATUS": 15,
            "RECONCILE": 9,
            "RECONCILE_OPERATIONS": 16,
            "MESSAGE": 10,
            "REQUEST": 11,
            "SUPPRESS": 12,
            "UPDATE_FRAMEWORK": 17,
        }
    ),
]


class Subscribed(Message, frozen=True, kw_only=True):
    """The first event of a stream."""

    framework_id: Annotated[FrameworkID, n(1)]
    heartbeat_interval_seconds: Annotated[float | None, n(2)] = None
    master_info: Annotated[MasterInfo | None, n(3)] = None


class Offers(Message, frozen=True, kw_only=True):
    """New offers."""

    offers: Annotated[tuple[Offer, ...], n(1)] = ()


class InverseOffers(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Event.InverseOffers``."""

    inverse_offers: Annotated[tuple[InverseOffer, ...], n(1)] = ()


class Rescind(Message, frozen=True, kw_only=True):
    """An offer is no longer valid."""

    offer_id: Annotated[OfferID, n(1)]


class RescindInverseOffer(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Event.RescindInverseOffer``."""

    inverse_offer_id: Annotated[OfferID, n(1)]


class Update(Message, frozen=True, kw_only=True):
    """A task's status."""

    status: Annotated[TaskStatus, n(1)]


class UpdateOperationStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Event.UpdateOperationStatus``."""

    status: Annotated[OperationStatus, n(1)]


class FrameworkMessage(Message, frozen=True, kw_only=True):
    """Bytes for an executor, or from one."""

    agent_id: Annotated[AgentID, n(1)]
    executor_id: Annotated[ExecutorID, n(2)]
    data: Annotated[bytes, n(3)]


class Failure(Message, frozen=True, kw_only=True):
    """An agent is gone, or an executor ended."""

    agent_id: Annotated[AgentID | None, n(1)] = None
    executor_id: Annotated[ExecutorID | None, n(2)] = None
    status: Annotated[I32 | None, n(3)] = None


class Error(Message, frozen=True, kw_only=True):
    """The stream ends, and why."""

    message: Annotated[str, n(1)]


class Event(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Event``."""

    type: Annotated[EventType | None, n(1)] = None
    subscribed: Annotated[Subscribed | None, n(2)] = None
    offers: Annotated[Offers | None, n(3)] = None
    inverse_offers: Annotated[InverseOffers | None, n(9)] = None
    rescind: Annotated[Rescind | None, n(4)] = None
    rescind_inverse_offer: Annotated[RescindInverseOffer | None, n(10)] = None
    update: Annotated[Update | None, n(5)] = None
    update_operation_status: Annotated[UpdateOperationStatus | None, n(11)] = None
    message: Annotated[FrameworkMessage | None, n(6)] = None
    failure: Annotated[Failure | None, n(7)] = None
    error: Annotated[Error | None, n(8)] = None


class ReconcileOperationsAnswer(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Response.ReconcileOperations``."""

    operation_statuses: Annotated[tuple[OperationStatus, ...], n(1)] = ()


class Response(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Response``."""

    type: Annotated[ResponseType | None, n(1)] = None
    reconcile_operations: Annotated[ReconcileOperationsAnswer | None, n(2)] = None


class AttributeConstraintSelector(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Selector``."""

    pseudoattribute_type: Annotated[SelectorPseudoattributeType | None, n(1)] = None
    attribute_name: Annotated[str | None, n(2)] = None


class PredicateExists(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.Exists``."""


class PredicateNotExists(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.NotExists``."""


class PredicateTextEquals(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.TextEquals``."""

    value: Annotated[str, n(1)]


class PredicateTextNotEquals(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.TextNotEquals``."""

    value: Annotated[str, n(1)]


class PredicateTextMatches(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.TextMatches``."""

    regex: Annotated[str, n(1)]


class PredicateTextNotMatches(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate.TextNotMatches``."""

    regex: Annotated[str, n(1)]


class AttributeConstraintPredicate(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint.Predicate``."""

    exists: Annotated[PredicateExists | None, n(1)] = None
    not_exists: Annotated[PredicateNotExists | None, n(2)] = None
    text_equals: Annotated[PredicateTextEquals | None, n(3)] = None
    text_not_equals: Annotated[PredicateTextNotEquals | None, n(4)] = None
    text_matches: Annotated[PredicateTextMatches | None, n(5)] = None
    text_not_matches: Annotated[PredicateTextNotMatches | None, n(6)] = None


class AttributeConstraint(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.AttributeConstraint``."""

    selector: Annotated[AttributeConstraintSelector, n(1)]
    predicate: Annotated[AttributeConstraintPredicate, n(2)]


class RoleConstraintsGroup(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.OfferConstraints.RoleConstraints.Group``."""

    attribute_constraints: Annotated[tuple[AttributeConstraint, ...], n(1)] = ()


class OfferConstraintsRoleConstraints(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.OfferConstraints.RoleConstraints``."""

    groups: Annotated[tuple[RoleConstraintsGroup, ...], n(1)] = ()


class OfferConstraints(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.OfferConstraints``."""

    role_constraints: Annotated[dict[str, OfferConstraintsRoleConstraints], n(1)] = msgspec.field(
        default_factory=dict
    )


class Subscribe(Message, frozen=True, kw_only=True):
    """Open the event stream of a framework."""

    framework_info: Annotated[FrameworkInfo, n(1)]
    suppressed_roles: Annotated[tuple[str, ...], n(2)] = ()
    offer_constraints: Annotated[OfferConstraints | None, n(3)] = None


class Accept(Message, frozen=True, kw_only=True):
    """Use offers."""

    offer_ids: Annotated[tuple[OfferID, ...], n(1)] = ()
    operations: Annotated[tuple[Operation, ...], n(2)] = ()
    filters: Annotated[Filters | None, n(3)] = None


class Decline(Message, frozen=True, kw_only=True):
    """Give offers back."""

    offer_ids: Annotated[tuple[OfferID, ...], n(1)] = ()
    filters: Annotated[Filters | None, n(2)] = None


class AcceptInverseOffers(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.AcceptInverseOffers``."""

    inverse_offer_ids: Annotated[tuple[OfferID, ...], n(1)] = ()
    filters: Annotated[Filters | None, n(2)] = None


class DeclineInverseOffers(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.DeclineInverseOffers``."""

    inverse_offer_ids: Annotated[tuple[OfferID, ...], n(1)] = ()
    filters: Annotated[Filters | None, n(2)] = None


class Roles(Message, frozen=True, kw_only=True):
    """The roles of a REVIVE or SUPPRESS; none means all."""

    roles: Annotated[tuple[str, ...], n(1)] = ()


class Kill(Message, frozen=True, kw_only=True):
    """Kill a task."""

    task_id: Annotated[TaskID, n(1)]
    agent_id: Annotated[AgentID | None, n(2)] = None
    kill_policy: Annotated[KillPolicy | None, n(3)] = None


class Shutdown(Message, frozen=True, kw_only=True):
    """Shut an executor down."""

    executor_id: Annotated[ExecutorID, n(1)]
    agent_id: Annotated[AgentID, n(2)]


class Acknowledge(Message, frozen=True, kw_only=True):
    """Acknowledge a status update; *uuid* is 16 raw bytes."""

    agent_id: Annotated[AgentID, n(1)]
    task_id: Annotated[TaskID, n(2)]
    uuid: Annotated[bytes, n(3)]


class AcknowledgeOperationStatus(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.AcknowledgeOperationStatus``."""

    agent_id: Annotated[AgentID | None, n(1)] = None
    resource_provider_id: Annotated[ResourceProviderID | None, n(2)] = None
    uuid: Annotated[bytes, n(3)]
    operation_id: Annotated[OperationID, n(4)]


class ReconcileTask(Message, frozen=True, kw_only=True):
    """One task to reconcile."""

    task_id: Annotated[TaskID, n(1)]
    agent_id: Annotated[AgentID | None, n(2)] = None


class Reconcile(Message, frozen=True, kw_only=True):
    """Ask for the state of tasks; none asks for all."""

    tasks: Annotated[tuple[ReconcileTask, ...], n(1)] = ()


class ReconcileOperation(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.ReconcileOperations.Operation``."""

    operation_id: Annotated[OperationID, n(1)]
    agent_id: Annotated[AgentID | None, n(2)] = None
    resource_provider_id: Annotated[ResourceProviderID | None, n(3)] = None


class ReconcileOperations(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.ReconcileOperations``."""

    operations: Annotated[tuple[ReconcileOperation, ...], n(1)] = ()


class Request(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call.Request``."""

    requests: Annotated[tuple[ResourceRequest, ...], n(1)] = ()


class UpdateFramework(Message, frozen=True, kw_only=True):
    """Change a framework's info in place."""

    framework_info: Annotated[FrameworkInfo, n(1)]
    suppressed_roles: Annotated[tuple[str, ...], n(2)] = ()
    offer_constraints: Annotated[OfferConstraints | None, n(3)] = None


class Call(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.Call``."""

    framework_id: Annotated[FrameworkID | None, n(1)] = None
    type: Annotated[CallType | None, n(2)] = None
    subscribe: Annotated[Subscribe | None, n(3)] = None
    accept: Annotated[Accept | None, n(4)] = None
    decline: Annotated[Decline | None, n(5)] = None
    accept_inverse_offers: Annotated[AcceptInverseOffers | None, n(13)] = None
    decline_inverse_offers: Annotated[DeclineInverseOffers | None, n(14)] = None
    revive: Annotated[Roles | None, n(15)] = None
    kill: Annotated[Kill | None, n(6)] = None
    shutdown: Annotated[Shutdown | None, n(7)] = None
    acknowledge: Annotated[Acknowledge | None, n(8)] = None
    acknowledge_operation_status: Annotated[AcknowledgeOperationStatus | None, n(17)] = None
    reconcile: Annotated[Reconcile | None, n(9)] = None
    reconcile_operations: Annotated[ReconcileOperations | None, n(18)] = None
    message: Annotated[FrameworkMessage | None, n(10)] = None
    request: Annotated[Request | None, n(11)] = None
    suppress: Annotated[Roles | None, n(16)] = None
    update_framework: Annotated[UpdateFramework | None, n(19)] = None


class APIResult(Message, frozen=True, kw_only=True):
    """``mesos.v1.scheduler.APIResult``."""

    status_code: Annotated[U32, n(1)]
    response: Annotated[Response | None, n(2)] = None
    error: Annotated[str | None, n(3)] = None
