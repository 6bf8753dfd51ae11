"""Offers against the instances that wait for one (reference marathon §3.5)."""

import enum
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from itertools import groupby
from random import Random

import msgspec

from phalanx.marathon.model.instance import Instance, Reservation
from phalanx.marathon.model.path import top_of
from phalanx.marathon.model.pod import Pod
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.constraint import HOSTNAME, REGION, ZONE, Attributes, is_met
from phalanx.marathon.schedule.demand import amounts_of, demand_of, executor_amounts, task_amounts
from phalanx.marathon.schedule.pod_task import Take, pod_launch
from phalanx.marathon.schedule.port import PortPlan, planned_ports
from phalanx.marathon.schedule.residency import Circumstances, disks_for, divided, holds, kept_for
from phalanx.marathon.schedule.stock import Stock
from phalanx.marathon.schedule.task import task_info
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import ExecutorInfo, Offer, Operation, Resource, TaskInfo


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


_AMOUNTS = {
    "cpus": Reason.CPUS,
    "mem": Reason.MEMORY,
    "disk": Reason.DISK,
    "gpus": Reason.GPUS,
}
GPU_LABEL = "GPU_SCHEDULING_BEHAVIOR"


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance and what it becomes on the agent of an offer: one task, or a pod's group."""

    instance: Instance
    offer: Offer
    tasks: tuple[TaskInfo, ...]
    executor: ExecutorInfo | None
    ports: PortPlan
    attributes: Attributes
    keep: tuple[Operation, ...] = ()  # what reserves; the tasks come with a later offer
    reservation: Reservation | None = None

    @property
    def task(self) -> TaskInfo:
        """Return the only task of an app's instance."""
        return self.tasks[0]


@dataclass(frozen=True, slots=True)
class Rejection:
    """An offer that did not do for an app or a pod."""

    app_id: str
    offer: Offer
    reason: Reason


@dataclass(frozen=True, slots=True)
class Matching:
    """What becomes of a batch of offers."""

    placements: tuple[Placement, ...]
    rejections: tuple[Rejection, ...]
    unplaced: int  # instances that no offer did for


def matching(
    offers: Sequence[Offer],
    waiting: Sequence[tuple[Spec, Instance]],
    placed: Mapping[str, Sequence[Attributes]],
    rng: Random,
    circumstances: Circumstances | None = None,
) -> Matching:
    """Place as many of the *waiting* instances as the offers take, in their order.

    *placed* has for each app the attributes of the agents that run its present
    configuration. Of the offers that do, the one whose agent has fewest of the
    app's instances is used, and of those the one with most memory left.
    """
    stocks = [Stock(offer) for offer in offers]
    placements: list[Placement] = []
    rejections: list[Rejection] = []
    for _, group in groupby(waiting, key=lambda pair: pair[0].id):
        pairs = list(group)
        spec = pairs[0][0]
        around = circumstances or Circumstances()
        search = _Search(spec, stocks, placed.get(spec.id, ()), rng, around)
        for _, instance in pairs:
            found = search.place(instance)
            if found is not None:
                placements.append(found)
            elif not spec.is_resident:
                break  # no other instance of it fits either
        rejections += search.rejections.values()
    return Matching(tuple(placements), tuple(rejections), len(waiting) - len(placements))


class _Search:
    """Offers in the order in which one app or pod wants them.

    What an offer lacks it lacks for every instance, so it is asked once; one that
    broke a constraint is asked again after each placement, which may have changed that.
    """

    def __init__(
        self,
        spec: Spec,
        stocks: Sequence[Stock],
        placed: Sequence[Attributes],
        rng: Random,
        circumstances: Circumstances,
    ) -> None:
        self.rejections: dict[str, Rejection] = {}
        self._spec = spec
        self._demand = demand_of(spec)
        # What is reserved for one instance must be nobody's before.
        self._is_enforced = top_of(spec.id) in circumstances.enforcing
        self._of_executor = executor_amounts(spec)
        self._of_task = {} if isinstance(spec, Pod) else task_amounts(spec)
        self._amounts = amounts_of(spec)
        self._is_resident = spec.is_resident
        accepted = spec.accepted_resource_roles or ("*", spec.role)
        self._roles = ("*",) if self._is_resident else accepted
        self._stocks = stocks
        self._rng = rng
        self._circumstances = circumstances
        self._others = list(placed)
        self._count = Counter(other.get(HOSTNAME) for other in placed)
        self._heap = [self._rank(index) for index in range(len(stocks))]
        heapify(self._heap)
        self._aside: list[int] = []

    def place(self, instance: Instance) -> Placement | None:
        """Return where one more instance goes, which is taken from the offer; None for nowhere."""
        if instance.reservation is not None:
            return self._resumed(instance, instance.reservation)
        while self._heap:
            index = heappop(self._heap)[-1]
            stock = self._stocks[index]
            ports = self._fit(stock)
            if isinstance(ports, PortPlan):
                found = self._placement(instance, stock, ports)
                self._others.append(stock.attributes)
                self._count[stock.attributes.get(HOSTNAME)] += 1
                for again in (index, *self._aside):
                    heappush(self._heap, self._rank(again))
                self._aside.clear()
                return found
            offer = stock.offer
            self.rejections[offer.id.value] = Rejection(self._spec.id, offer, ports)
            if ports is Reason.CONSTRAINT:
                self._aside.append(index)
        return None

    def _placement(self, instance: Instance, stock: Stock, ports: PortPlan) -> Placement:
        spec = self._spec
        if self._is_resident:
            operations, reservation = kept_for(spec, instance, stock, self._circumstances)
            return Placement(
                instance, stock.offer, (), None, ports, stock.attributes, operations, reservation
            )
        return self._launch(instance, stock, ports, self._taking(stock))

    def _launch(self, instance: Instance, stock: Stock, ports: PortPlan, take: Take) -> Placement:
        spec, offer = self._spec, stock.offer
        if isinstance(spec, Pod):
            executor, tasks = pod_launch(
                spec,
                instance,
                offer=offer,
                ports=ports,
                take=take,
                is_role_enforced=self._is_enforced,
            )
            return Placement(instance, offer, tasks, executor, ports, stock.attributes)
        resources = take(self._of_task, ports.taken)
        extra = self._of_executor
        task = task_info(
            spec,
            task_id=instance.task_id,
            offer=offer,
            resources=resources,
            ports=ports,
            executor_resources=take(extra, ()) if extra else (),
            is_role_enforced=self._is_enforced,
        )
        return Placement(instance, offer, (task,), None, ports, stock.attributes)

    def _taking(self, stock: Stock) -> Take:
        """Return what takes amounts and ports away from an offer, as messages."""

        def take(scalars: Mapping[str, int], ports: Iterable[int]) -> tuple[Resource, ...]:
            return stock.take(scalars, ports, self._roles).messages(role=stock.role)

        return take

    def _taking_kept(self, stock: Stock, kept: Resources) -> Take:
        """Return the same for *kept*: the volumes go to who takes first, ports are the offer's."""
        volumes, left = kept.volumes, kept - kept.volumes

        def take(scalars: Mapping[str, int], ports: Iterable[int]) -> tuple[Resource, ...]:
            nonlocal volumes, left
            part, left = divided(left, scalars)
            taken = volumes + part + stock.take({}, ports, self._roles)
            volumes = Resources()
            return taken.messages(role=stock.role)

        return take

    def _resumed(self, instance: Instance, reservation: Reservation) -> Placement | None:
        """Return an instance's task on the resources that are kept for it."""
        for stock in self._stocks:
            offer, kept = stock.offer, stock.kept.get(instance.id)
            is_there = kept is not None and holds(kept, reservation, self._amounts)
            if offer.agent_id.value != reservation.agent_id or kept is None or not is_there:
                reason = Rejection(self._spec.id, offer, Reason.RESERVATION)
                self.rejections.setdefault(offer.id.value, reason)
                continue
            wanted, inner = self._demand.host_ports, self._demand.inner
            ports = planned_ports(wanted, inner, stock.ports(self._roles), self._rng)
            if ports is None:
                reason = Rejection(self._spec.id, offer, Reason.PORTS)
                self.rejections[offer.id.value] = reason
                continue
            del stock.kept[instance.id]
            take = self._taking_kept(stock, kept)
            found = self._launch(instance, stock, ports, take)
            made = msgspec.structs.replace(reservation, is_made=True)
            return replace(found, reservation=made)
        return None

    def _rank(self, index: int) -> tuple[int, int, int]:
        stock = self._stocks[index]
        return self._count[stock.attributes.get(HOSTNAME)], -stock.left("mem"), index

    def _fit(self, stock: Stock) -> PortPlan | Reason:
        spec, around = self._spec, self._circumstances
        if stock.role != spec.role:
            return Reason.ROLE
        if not _is_near(spec, stock, around.region) or not all(
            is_met(constraint, stock.attributes, self._others, spec.instances)
            for constraint in spec.constraints
        ):
            return Reason.CONSTRAINT
        if _is_in_maintenance(stock.offer, around.now):
            return Reason.MAINTENANCE
        for name, amount in self._demand.scalars.items():
            if not stock.has(name, amount, self._roles):
                return _AMOUNTS[name]
        wanted, inner = self._demand.host_ports, self._demand.inner
        ports = planned_ports(wanted, inner, stock.ports(self._roles), self._rng)
        if ports is None:
            return Reason.PORTS
        if self._is_resident and disks_for(spec, stock, self._roles) is None:
            return Reason.DISK
        if stock.has_gpus and not spec.gpus and spec.labels.get(GPU_LABEL) != "unrestricted":
            return Reason.SCARCE
        return ports


def _is_near(spec: Spec, stock: Stock, region: str | None) -> bool:
    """Tell whether an agent is in the master's region, or the app says itself where to go."""
    theirs = stock.attributes.get(REGION)
    if theirs is None or region is None or theirs == region:
        return True
    return any(constraint[0] in (REGION, ZONE) for constraint in spec.constraints)


def _is_in_maintenance(offer: Offer, now: float) -> bool:
    planned = offer.unavailability
    if planned is None or now * 1e9 < planned.start.nanoseconds:
        return False
    duration = planned.duration
    return duration is None or now * 1e9 < planned.start.nanoseconds + duration.nanoseconds
