"""Rules of resources in tasks, executors and operations, in Mesos' words; pure (§1.4, §5.1)."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from phalanx.master.scheduler.framework_info import id_problem
from phalanx.master.scheduler.wording import words_of_message
from phalanx.mesos.kind import reservations_of
from phalanx.mesos.role import DEFAULT, is_within, role_problem
from phalanx.mesos.v1.mesos import DiskInfo, ReservationInfo, Resource, ValueType


def form_problem(resources: Iterable[Resource]) -> str | None:
    """Return what is wrong with the form of resources: what can't be counted at all."""
    types: dict[str, ValueType] = {}
    for resource in resources:
        if problem := _form(resource):
            return f"Resource '{words_of_message(resource)}' is invalid: {problem}"
        if types.setdefault(resource.name, resource.type) is not resource.type:
            return (
                f"Resources with the same name ('{resource.name}') but different types are not"
                " allowed"
            )
    return None


def _form(resource: Resource) -> str | None:
    if not resource.name:
        return "Empty resource name"
    if problem := _amount(resource):
        return problem
    if resource.disk is not None and resource.name != "disk":
        return f"DiskInfo should not be set for {resource.name} resource"
    if (
        resource.role is not None or resource.reservation is not None or resource.reservations
    ) and (problem := _reservations(resource)):
        return problem
    if resource.shared is not None and _volume(resource) is None:
        if resource.name != "disk":
            return f"Resource {resource.name} cannot be shared"
        return "Only persistent volumes can be shared"
    return None


def _amount(resource: Resource) -> str | None:
    if resource.type is ValueType.SCALAR:
        if resource.scalar is None or resource.ranges is not None or resource.set is not None:
            return "Invalid scalar resource"
        value = resource.scalar.value
        if not math.isfinite(value):
            return "Invalid scalar resource: value is not finite"
        if value > GREATEST_SCALAR:
            return "Invalid scalar resource: value is too large"
        if value != 0 and value * 1000 <= HALF:
            return "Invalid scalar resource: value <= 0"
        return None
    if resource.type is ValueType.RANGES:
        if resource.ranges is None or resource.scalar is not None or resource.set is not None:
            return "Invalid ranges resource"
        spans = sorted((part.begin, part.end) for part in resource.ranges.range)
        if any(end < begin for begin, end in spans):
            return "Invalid ranges resource: begin > end"
        if any(after[0] <= before[1] for before, after in pairwise(spans)):
            return "Invalid ranges resource: overlapping ranges"
        return None
    if resource.type is ValueType.SET:
        if resource.set is None or resource.scalar is not None or resource.ranges is not None:
            return "Invalid set resource"
        if len(set(resource.set.item)) != len(resource.set.item):
            return "Invalid set resource: duplicated elements"
        return None
    return "Unsupported resource type"


HALF = 0.5  # of a thousandth: what rounds to nothing
# Thousandths of more than this are no longer exact.
GREATEST_SCALAR = 2.0**53 / 1000


def _reservations(resource: Resource) -> str | None:
    if resource.role is not None and (problem := role_problem(resource.role)):
        return problem
    if resource.reservation is not None and not resource.reservations:
        if resource.reservation.type is not None:
            return (
                "'Resource.ReservationInfo.type' must not be set for the"
                " 'Resource.reservation' field"
            )
        if resource.reservation.role is not None:
            return (
                "'Resource.ReservationInfo.role' must not be set for the"
                " 'Resource.reservation' field"
            )
        if resource.role in (None, DEFAULT):
            return 'Invalid reservation: role "*" cannot be dynamically reserved'
    above: str | None = None
    for step in resource.reservations:
        if problem := _step(step, above):
            return problem
        above = step.role
    if resource.reservations and resource.role not in (None, resource.reservations[-1].role):
        return (
            f"Invalid resource format: 'Resource.role' field with '{resource.role}' does not"
            f" match the role '{resource.reservations[-1].role}' in 'Resource.reservations'"
        )
    return None


def _step(step: ReservationInfo, above: str | None) -> str | None:
    if step.type is None or step.type == "UNKNOWN":
        return "Invalid reservation: 'Resource.ReservationInfo.type' field must be set."
    if step.role is None:
        return "Invalid reservation: 'Resource.ReservationInfo.role' field must be set."
    if problem := role_problem(step.role):
        return problem
    if step.role == DEFAULT:
        return 'Invalid reservation: role "*" cannot be reserved'
    if above is None:
        return None
    if step.type == "STATIC":
        return "Invalid refined reservation: A refined reservation cannot be STATIC"
    if step.role == above or not is_within(step.role, above):
        return f"Invalid refined reservation: role '{step.role}' is not a refinement of '{above}'"
    return None


def sense_problem(resources: Iterable[Resource]) -> str | None:
    """Return what is wrong with resources that are well formed: gpus, disks, reservations."""
    for resource in resources:
        if resource.name == "gpus":
            value = resource.scalar.value if resource.scalar is not None else 0.0
            if value != int(value):
                return "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"
        if resource.disk is not None and (problem := _disk(resource, resource.disk)):
            return f"Invalid DiskInfo: {problem}"
        if resource.revocable is not None and is_dynamic(resource):
            return (
                "Invalid ReservationInfo: Dynamically reserved resource"
                f" {words_of_message(resource)} cannot be created from revocable resources"
            )
    return None


def _disk(resource: Resource, disk: DiskInfo) -> str | None:
    if disk.persistence is not None:
        if resource.revocable is not None:
            return "Persistent volumes cannot be created from revocable resources"
        if not reservations_of(resource):
            return "Persistent volumes cannot be created from unreserved resources"
        if disk.volume is None:
            return "Expecting 'volume' to be set for persistent volume"
        if disk.volume.host_path is not None:
            return "Expecting 'host_path' to be unset for persistent volume"
        if problem := id_problem(disk.persistence.id):
            return f"Invalid persistence ID for persistent volume: {problem}"
        return None
    if disk.volume is not None:
        return "Non-persistent volume not supported"
    return "DiskInfo is set but empty" if disk.source is None else None


def volume_problem(volumes: Iterable[Resource]) -> str | None:
    """Return why resources are no persistent volumes, None when all are."""
    for volume in volumes:
        if volume.disk is None:
            return f"Resource {words_of_message(volume)} does not have DiskInfo"
        if volume.disk.persistence is None:
            return "'persistence' is not set in DiskInfo"
        if volume.disk.volume is None:
            return "Expecting 'volume' to be set for persistent volume"
        if volume.disk.volume.mode != "RW":
            return "Read-only persistent volume not supported"
    return None


def is_dynamic(resource: Resource) -> bool:
    """Tell whether a resource's topmost reservation is a dynamic one."""
    steps = reservations_of(resource)
    return bool(steps) and steps[-1].type == "DYNAMIC"


def role_reserved_to(resource: Resource) -> str:
    """Return the role that a resource is reserved to, ``*`` for none."""
    steps = reservations_of(resource)
    return (steps[-1].role or DEFAULT) if steps else DEFAULT


def _volume(resource: Resource) -> str | None:
    disk = resource.disk
    return disk.persistence.id if disk is not None and disk.persistence is not None else None


def volume_ids(resources: Iterable[Resource]) -> list[tuple[str, str]]:
    """Return role and persistence id of every persistent volume."""
    return [
        (role_reserved_to(resource), id)
        for resource in resources
        if (id := _volume(resource)) is not None
    ]


def duplicate_volume(resources: Sequence[Resource]) -> str | None:
    """Return the words for a persistence id that is there twice, None when all are unique."""
    seen: set[tuple[str, str]] = set()
    for key in volume_ids(resources):
        if key in seen:
            return f"Persistence ID '{key[1]}' is not unique"
        seen.add(key)
    return None


def allocation_problem(resources: Iterable[Resource]) -> str | None:
    """Return why resources aren't allocated to one role alone."""
    found: str | None = None
    for resource in resources:
        role = resource.allocation_info.role if resource.allocation_info is not None else None
        if role is None:
            return "The resources are not allocated to a role"
        if found is None:
            found = role
        elif role != found:
            return (
                f"The resources have multiple allocation roles ('{role}' and '{found}')"
                " but only one allocation role is allowed"
            )
    return None


def revocable_problem(resources: Iterable[Resource]) -> str | None:
    """Return why revocable and other resources of one name are mixed."""
    firm: set[str] = set()
    loose: set[str] = set()
    for resource in resources:
        (firm if resource.revocable is None else loose).add(resource.name)
    if mixed := sorted(firm & loose):
        return f"Cannot use both revocable and non-revocable '{mixed[0]}' at the same time"
    return None
