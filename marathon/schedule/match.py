"""Offers against the instances that wait for one (reference marathon §3.5)."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance
from phalanx.marathon.schedule.constraint import Attributes, attributes_of, is_met
from phalanx.marathon.schedule.port import PortPlan, planned_ports
from phalanx.marathon.schedule.task import needed, task_info
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Offer, TaskInfo, ValueType


class Reason(enum.StrEnum):
    """Why an offer did not do, in the order of the tests."""

    ROLE = "UnfulfilledRole"
    CONSTRAINT = "UnfulfilledConstraint"
    RESERVATION = "NoCorrespondingReservationFound"
    MAINTENANCE = "AgentMaintenance"
    CPUS = "InsufficientCpus"
    MEMORY = "InsufficientMemory"
    DISK = "InsufficientDisk"
    GPUS = "InsufficientGpus"
    PORTS = "InsufficientPorts"
    SCARCE = "DeclinedScarceResources"


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance and the task that it becomes on the agent of an offer."""

    instance: Instance
    offer: Offer
    task: TaskInfo
    ports: PortPlan
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Rejection:
    """An offer that did not do for an app."""

    app_id: str
    offer: Offer
    reason: Reason


@dataclass(frozen=True, slots=True)
class Matching:
    """What becomes of a batch of offers."""

    placements: tuple[Placement, ...]
    rejections: tuple[Rejection, ...]
    unplaced: int  # instances that no offer did for


class _Open:
    """An offer and what is left of it."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.left = unreserved(offer)
        self.attributes = attributes_of(offer.hostname, offer.attributes)


def unreserved(offer: Offer) -> Resources:
    """Return what of an offer is nobody's reservation and of a kind that we understand."""
    return Resources.of(
        resource
        for resource in offer.resources
        if resource.type in (ValueType.SCALAR, ValueType.RANGES)
        and not resource.reservations
        and resource.role in (None, "*")
    )


def matching(
    offers: Sequence[Offer],
    waiting: Sequence[tuple[App, Instance]],
    placed: Mapping[str, Sequence[Attributes]],
    rng: Random,
) -> Matching:
    """Place as many of the *waiting* instances as the offers take, in their order.

    *placed* has for each app the attributes of the agents that run its present
    configuration. Of the offers that do, the one whose agent has fewest of the
    app's instances is used, and of those the one with most memory left.
    """
    opened = [_Open(offer) for offer in offers]
    spread = {app_id: list(where) for app_id, where in placed.items()}
    placements: list[Placement] = []
    rejections: dict[tuple[str, str], Rejection] = {}
    for app, instance in waiting:
        others = spread.setdefault(app.id, [])
        best: tuple[tuple[int, float], _Open, PortPlan] | None = None
        for candidate in opened:
            fit = _fit(app, candidate, others, rng)
            if isinstance(fit, Reason):
                key = (app.id, candidate.offer.id.value)
                rejections[key] = Rejection(app.id, candidate.offer, fit)
                continue
            mine = sum(other == candidate.attributes for other in others)
            rank = (mine, -candidate.left.scalar("mem"))
            if best is None or rank < best[0]:
                best = rank, candidate, fit
        if best is None:
            continue
        _, chosen, ports = best
        placements.append(_placement(app, instance, chosen, ports))
        chosen.left -= needed(app, ports)
        others.append(chosen.attributes)
    return Matching(tuple(placements), tuple(rejections.values()), len(waiting) - len(placements))


def _fit(
    app: App, candidate: _Open, others: Sequence[Attributes], rng: Random
) -> PortPlan | Reason:
    if not all(
        is_met(constraint, candidate.attributes, others, app.instances)
        for constraint in app.constraints
    ):
        return Reason.CONSTRAINT
    wanted = needed(app, PortPlan((), ()))
    reasons = {"cpus": Reason.CPUS, "mem": Reason.MEMORY, "disk": Reason.DISK}
    for name, reason in reasons.items():
        if wanted.scalars.get(name, 0) > candidate.left.scalars.get(name, 0):
            return reason
    ports = planned_ports(app, candidate.left.ranges.get("ports", ()), rng)
    return Reason.PORTS if ports is None else ports


def _placement(app: App, instance: Instance, chosen: _Open, ports: PortPlan) -> Placement:
    allocation = chosen.offer.allocation_info
    role = "*" if allocation is None or allocation.role is None else allocation.role
    task = task_info(app, task_id=instance.task_id, offer=chosen.offer, role=role, ports=ports)
    return Placement(instance, chosen.offer, task, ports, chosen.attributes)
