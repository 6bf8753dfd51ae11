"""Validation of operations on resources, in Mesos' order and words; pure (§1.4, §5.1).

What an operation needs of the resources at hand is checked by applying its
conversion; everything else here.
"""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from phalanx.core.error import InvalidError
from phalanx.master.cluster.task import allocated_to
from phalanx.master.scheduler.bench import Bench
from phalanx.master.scheduler.resource_check import (
    duplicate_volume,
    form_problem,
    is_dynamic,
    role_reserved_to,
    sense_problem,
    volume_ids,
    volume_problem,
)
from phalanx.master.scheduler.wording import words_of, words_of_message
from phalanx.mesos.kind import reservations_of
from phalanx.mesos.operation import Conversion, conversion_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Destroy, Operation, Resource

# The member of each operation on resources, by its type.
MEMBERS = {
    "RESERVE": "reserve",
    "UNRESERVE": "unreserve",
    "CREATE": "create",
    "DESTROY": "destroy",
    "GROW_VOLUME": "grow_volume",
    "SHRINK_VOLUME": "shrink_volume",
    "CREATE_DISK": "create_disk",
    "DESTROY_DISK": "destroy_disk",
}


def resources_of_operation(operation: Operation) -> tuple[Resource, ...]:
    """Return every resource that an operation names."""
    found: list[Resource] = []
    if operation.reserve is not None:
        found += (*operation.reserve.source, *operation.reserve.resources)
    if operation.unreserve is not None:
        found += operation.unreserve.resources
    if operation.create is not None:
        found += operation.create.volumes
    if operation.destroy is not None:
        found += operation.destroy.volumes
    if operation.grow_volume is not None:
        found += (operation.grow_volume.volume, operation.grow_volume.addition)
    if operation.shrink_volume is not None:
        found.append(operation.shrink_volume.volume)
    return tuple(found)


def with_role(operation: Operation, role: str) -> Operation:
    """Return *operation* with the offer's role filled in where its resources have none."""

    def one(resource: Resource) -> Resource:
        return allocated_to((resource,), role)[0]

    replace = msgspec.structs.replace
    if operation.reserve is not None:
        filled = replace(
            operation.reserve,
            source=allocated_to(operation.reserve.source, role),
            resources=allocated_to(operation.reserve.resources, role),
        )
        return replace(operation, reserve=filled)
    if operation.unreserve is not None:
        resources = allocated_to(operation.unreserve.resources, role)
        return replace(operation, unreserve=replace(operation.unreserve, resources=resources))
    if operation.create is not None:
        volumes = allocated_to(operation.create.volumes, role)
        return replace(operation, create=replace(operation.create, volumes=volumes))
    if operation.destroy is not None:
        volumes = allocated_to(operation.destroy.volumes, role)
        return replace(operation, destroy=replace(operation.destroy, volumes=volumes))
    if operation.grow_volume is not None:
        grow = operation.grow_volume
        grown = replace(grow, volume=one(grow.volume), addition=one(grow.addition))
        return replace(operation, grow_volume=grown)
    if operation.shrink_volume is not None:
        shrink = operation.shrink_volume
        return replace(operation, shrink_volume=replace(shrink, volume=one(shrink.volume)))
    return operation


def conversion_for(operation: Operation, bench: Bench) -> Conversion:
    """Return what *operation* converts of *bench.available*; raise InvalidError, in Mesos' words.

    The operation's resources carry the offer's role (``with_role``).
    """
    kind = operation.type or ""
    member = MEMBERS.get(kind)
    if member is None:
        raise InvalidError("Unknown offer operation")
    if getattr(operation, member) is None:
        raise InvalidError(
            f"Operation attempted with invalid resources: A {kind} offer operation must have"
            f" the Offer.Operation.{member} field set."
        )
    check_form(operation)
    rule = RULES.get(kind)
    if (
        problem := "'source' is not managed by a resource provider"
        if rule is None
        else rule(operation, bench)
    ):
        raise InvalidError(f"{problem}; on {bench.label}" if bench.label else problem)
    conversion = conversion_of(operation)
    if conversion.consumed not in bench.available:
        lead = f"Invalid {kind} operation: " if kind in ("GROW_VOLUME", "SHRINK_VOLUME") else ""
        raise InvalidError(
            f"{lead}{words_of(bench.available, bench.role)} does not contain"
            f" {words_of(conversion.consumed, bench.role)}"
        )
    return conversion


def check_form(operation: Operation) -> None:
    """Raise InvalidError for a resource that can't be counted at all."""
    if problem := form_problem(resources_of_operation(operation)):
        raise InvalidError(f"Operation attempted with invalid resources: {problem}")


def _senseless(resources: Sequence[Resource]) -> str | None:
    if not resources:
        return "Invalid resources: The resources have multiple resource providers: "
    problem = sense_problem(resources)
    return None if problem is None else f"Invalid resources: {problem}"


def _reserve(operation: Operation, bench: Bench) -> str | None:
    assert operation.reserve is not None
    resources, source = operation.reserve.resources, operation.reserve.source
    if problem := _senseless(resources) or (sense_problem(source) if source else None):
        return problem
    for resource in resources:
        if problem := _reservation(resource, bench):
            return problem
    if source and Resources.of(source).plain != Resources.of(resources).plain:
        return (
            "Source and target resources should refer to identical resource quantities:"
            f" {words_of(Resources.of(source), bench.role)}"
            f" and {words_of(Resources.of(resources), bench.role)}"
        )
    return None


def _reservation(resource: Resource, bench: Bench) -> str | None:
    if not is_dynamic(resource):
        return f"Resource {words_of_message(resource)} is not dynamically reserved"
    principal = reservations_of(resource)[-1].principal
    if bench.principal is not None:
        if principal is None:
            return (
                f"A reserve operation was attempted by principal '{bench.principal}', but there"
                " is a reserved resource in the request with no principal set"
            )
        if principal != bench.principal:
            return (
                "A reserve operation was attempted by authenticated principal"
                f" '{bench.principal}', which does not match a reserved resource in the request"
                f" with principal '{principal}'"
            )
    given = resource.allocation_info.role if resource.allocation_info is not None else None
    if not bench.roles:  # an operator's: of resources that nobody holds
        if given is None:
            return None
        return (
            "A reserve operation was attempted with an allocated resource, but the operator API"
            " only allows reservations to be made to unallocated resources"
        )
    role = role_reserved_to(resource)
    if role != given:
        return (
            f"A reserve operation was attempted for a resource with role '{role}', but the"
            f" resource was allocated to role '{given}'"
        )
    if given not in bench.roles:
        roles = ", ".join(bench.roles)
        return (
            f"A reserve operation was attempted for a resource allocated to role '{given}', but"
            f" the framework only has roles '{{ {roles} }}'"
        )
    return None


def _unreserve(operation: Operation, bench: Bench) -> str | None:
    assert operation.unreserve is not None
    resources = operation.unreserve.resources
    if problem := _senseless(resources):
        return problem
    for resource in resources:
        if not is_dynamic(resource):
            return f"Resource {words_of_message(resource)} is not dynamically reserved"
        if resource.disk is not None and resource.disk.persistence is not None:
            return (
                f"A dynamically reserved persistent volume {words_of_message(resource)} cannot be"
                " unreserved directly. Please destroy the persistent volume first then unreserve"
                " the resource"
            )
    return None


def _create(operation: Operation, bench: Bench) -> str | None:
    assert operation.create is not None
    volumes = operation.create.volumes
    if problem := _senseless(volumes):
        return problem
    if problem := volume_problem(volumes):
        return f"Not a persistent volume: {problem}"
    if problem := duplicate_volume(volumes) or _taken_volume(volumes, bench.total):
        return problem
    for volume in volumes:
        if volume.shared is not None and bench.roles and not bench.takes_shared:
            return (
                f"Create volume operation for '{words_of_message(volume)}' has been attempted by"
                f" framework '{bench.framework_id}' with no SHARED_RESOURCES capability"
            )
        if bench.principal is not None and (problem := _creator(volume, bench.principal)):
            return problem
    return None


def _creator(volume: Resource, principal: str) -> str | None:
    persistence = volume.disk.persistence if volume.disk is not None else None
    given = persistence.principal if persistence is not None else None
    if given is None:
        return (
            f"Create volume operation attempted by principal '{principal}', but there is a volume"
            " in the operation with no principal set in 'disk.persistence'"
        )
    if given != principal:
        return (
            f"Create volume operation attempted by authenticated principal '{principal}', which"
            f" does not match a volume in the operation with principal '{given}' set in"
            " 'disk.persistence'"
        )
    return None


def _taken_volume(volumes: Iterable[Resource], total: Resources) -> str | None:
    there = {(kind.role, kind.volume) for kind in total if kind.volume is not None}
    for role, id in volume_ids(volumes):
        if (role, id) in there:
            return f"Persistence ID '{id}' is not unique"
    return None


def _destroy(operation: Operation, bench: Bench) -> str | None:
    assert operation.destroy is not None
    volumes = operation.destroy.volumes
    if problem := _senseless(volumes):
        return problem
    if problem := volume_problem(volumes):
        return f"Not a persistent volume: {problem}"
    wanted = Resources.of(volumes)
    if wanted not in bench.total:
        return "Persistent volumes not found"
    if not set(bench.used).isdisjoint(wanted):
        return "Persistent volumes in use"
    return None


def _grow(operation: Operation, bench: Bench) -> str | None:
    assert operation.grow_volume is not None
    volume, addition = operation.grow_volume.volume, operation.grow_volume.addition
    if problem := sense_problem((volume,)):
        return f"Invalid resource in the 'GrowVolume.volume' field: {problem}"
    if problem := sense_problem((addition,)):
        return f"Invalid resource in the 'GrowVolume.addition' field: {problem}"
    if not Resources.of((addition,)):
        return "The size of 'GrowVolume.addition' field must be greater than zero"
    if volume.provider_id is not None:
        return "Growing a volume from a resource provider is not supported"
    if problem := volume_problem((volume,)):
        return f"Invalid persistent volume in the 'GrowVolume.volume' field: {problem}"
    if volume.shared is not None:
        return "Growing a shared persistent volume is not supported"
    emptied = conversion_of(
        Operation(type="DESTROY", destroy=Destroy(volumes=(volume,)))
    ).made  # what the volume was made of
    kinds = {*emptied, *Resources.of((addition,))}
    source = volume.disk.source if volume.disk is not None else None
    if len(kinds) != 1 or (source is not None and source.type != "PATH"):
        return "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"
    return None


HALF = 0.5  # of a thousandth, the least that counts


def _shrink(operation: Operation, bench: Bench) -> str | None:
    assert operation.shrink_volume is not None
    volume, less = operation.shrink_volume.volume, operation.shrink_volume.subtract.value
    if problem := sense_problem((volume,)):
        return f"Invalid resource in the 'ShrinkVolume.volume' field: {problem}"
    if not less * 1000 >= HALF:
        return "Value of 'ShrinkVolume.subtract' must be greater than zero"
    if volume.scalar is None or less * 1000 >= round(volume.scalar.value * 1000) - HALF:
        return (
            "Value of 'ShrinkVolume.subtract' must be smaller than the size of"
            " 'ShrinkVolume.volume'"
        )
    if volume.provider_id is not None:
        return "Shrinking a volume from a resource provider is not supported"
    source = volume.disk.source if volume.disk is not None else None
    if source is not None and source.type == "MOUNT":
        return "Shrinking a volume on a MOUNT disk is not supported"
    if problem := volume_problem((volume,)):
        return f"Invalid persistent volume in the 'ShrinkVolume.volume' field: {problem}"
    if volume.shared is not None:
        return "Shrinking a shared persistent volume is not supported"
    return None


RULES: dict[str, Callable[[Operation, Bench], str | None]] = {
    "RESERVE": _reserve,
    "UNRESERVE": _unreserve,
    "CREATE": _create,
    "DESTROY": _destroy,
    "GROW_VOLUME": _grow,
    "SHRINK_VOLUME": _shrink,
}
