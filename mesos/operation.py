"""What an operation on resources turns into what (reference mesos §5.1, §5.5); pure.

Master and agent apply the same function to their own books, so the two agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from phalanx.core.error import InvalidError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Operation, Resource, Scalar, ValueType

CONVERSIONS = frozenset(
    {"RESERVE", "UNRESERVE", "CREATE", "DESTROY", "GROW_VOLUME", "SHRINK_VOLUME"}
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """Resources that an operation consumes, and those that it makes of them."""

    consumed: Resources
    made: Resources

    def apply(self, resources: Resources) -> Resources:
        """Return *resources* after the operation; raise InvalidError if they lack what it needs."""
        if self.consumed not in resources:
            raise InvalidError(f"{resources!r} does not contain {self.consumed!r}")
        return resources - self.consumed + self.made


def conversion_of(operation: Operation) -> Conversion:
    """Return what *operation* converts; raise InvalidError when it is no such operation."""
    if operation.reserve is not None:
        made = Resources.of(operation.reserve.resources)
        source = Resources.of(operation.reserve.source)
        return Conversion(source or made.popped(), made)
    if operation.unreserve is not None:
        consumed = Resources.of(operation.unreserve.resources)
        return Conversion(consumed, consumed.popped())
    if operation.create is not None:
        made = Resources.of(operation.create.volumes)
        return Conversion(Resources.of(_emptied(operation.create.volumes)), made)
    if operation.destroy is not None:
        consumed = Resources.of(operation.destroy.volumes)
        return Conversion(consumed, Resources.of(_emptied(operation.destroy.volumes)))
    if operation.grow_volume is not None:
        grow = operation.grow_volume
        added = grow.addition.scalar.value if grow.addition.scalar is not None else 0.0
        return Conversion(
            Resources.of((grow.volume, grow.addition)),
            Resources.of((_resized(grow.volume, added),)),
        )
    if operation.shrink_volume is not None:
        shrink = operation.shrink_volume
        less = shrink.subtract.value
        freed = msgspec.structs.replace(shrink.volume, scalar=Scalar(value=less))
        made = Resources.of((_resized(shrink.volume, -less), *_emptied((freed,))))
        return Conversion(Resources.of((shrink.volume,)), made)
    raise InvalidError(f"operation {operation.type!r} converts no resources")


def _emptied(volumes: Iterable[Resource]) -> list[Resource]:
    """Return the disks that *volumes* are made of: no persistence, no sharing."""
    disks = []
    for volume in volumes:
        source = volume.disk.source if volume.disk is not None else None
        disk = None
        if source is not None and volume.disk is not None:
            disk = msgspec.structs.replace(volume.disk, persistence=None, volume=None)
        disks.append(msgspec.structs.replace(volume, disk=disk, shared=None))
    return disks


def _resized(volume: Resource, more: float) -> Resource:
    if volume.type is not ValueType.SCALAR or volume.scalar is None:
        raise InvalidError(f"volume {volume.name!r}: is no scalar")
    thousandths = round(volume.scalar.value * 1000) + round(more * 1000)
    if thousandths <= 0:
        raise InvalidError(f"volume {volume.name!r}: {thousandths / 1000:g} is no size")
    return msgspec.structs.replace(volume, scalar=Scalar(value=thousandths / 1000))
