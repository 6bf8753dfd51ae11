"""Resources in the words of messages, with the role that they are allocated to; pure."""

from collections.abc import Iterable

from phalanx.mesos.amount import Amount
from phalanx.mesos.kind import reservations_of
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import DiskInfo, ReservationInfo, Resource, ValueType


def words_of(resources: Resources, role: str | None) -> str:
    """Return resources that are allocated to *role*, joined by semicolons."""
    parts = []
    for kind, amount in resources.items():
        head = _head(kind.name, role, kind.reservations, kind.disk, kind.volume)
        value = _value(kind.size if kind.is_shared else amount)
        flags = ("{REV}" if kind.is_revocable else "") + ("<SHARED>" if kind.is_shared else "")
        parts.append(f"{head}{flags}:{value}")
    return "; ".join(parts) or "{}"


def words_of_message(message: Resource) -> str:
    """Return one v1 resource as it came, valid or not."""
    role = message.allocation_info.role if message.allocation_info is not None else None
    volume = None
    if message.disk is not None and message.disk.persistence is not None:
        volume = message.disk.persistence.id
    head = _head(message.name, role, reservations_of(message), message.disk, volume)
    flags = ("{REV}" if message.revocable is not None else "") + (
        "<SHARED>" if message.shared is not None else ""
    )
    if message.ranges is not None:
        value = f"[{', '.join(f'{part.begin}-{part.end}' for part in message.ranges.range)}]"
    elif message.type is ValueType.RANGES:
        value = "[]"
    elif message.set is not None:
        value = f"{{{', '.join(message.set.item)}}}"
    else:
        number = message.scalar.value if message.scalar is not None else 0.0
        value = f"{round(number, 3) + 0:.12g}"
    return f"{head}{flags}:{value}"


def words_of_messages(messages: Iterable[Resource]) -> str:
    """Return v1 resources as they came, joined by semicolons."""
    return "; ".join(words_of_message(message) for message in messages) or "{}"


def _head(
    name: str,
    role: str | None,
    reservations: tuple[ReservationInfo, ...],
    disk: DiskInfo | None,
    volume: str | None,
) -> str:
    head = name
    if role is not None:
        head += f"(allocated: {role})"
    if reservations:
        steps = ",".join(f"({','.join(_step(step))})" for step in reservations)
        head += f"(reservations: [{steps}])"
    source = disk.source if disk is not None else None
    if source is not None or volume is not None:
        parts = []
        if source is not None:
            root = source.path or source.mount
            parts.append(f"{source.type}:{root.root}" if root and root.root else source.type)
        if volume is not None:
            where = disk.volume if disk is not None else None
            parts.append(volume if where is None else f"{volume}:{where.container_path}")
        head += f"[{','.join(parts)}]"
    return head


def _step(step: ReservationInfo) -> list[str]:
    words = [step.type or "UNKNOWN", step.role or ""]
    if step.principal is not None:
        words.append(step.principal)
    if step.labels is not None:
        pairs = (
            label.key if label.value is None else f"{label.key}: {label.value}"
            for label in step.labels.labels
        )
        words.append(f"{{{', '.join(pairs)}}}")
    return words


def _value(amount: Amount) -> str:
    if isinstance(amount, int):
        return f"{amount / 1000:.12g}"
    if isinstance(amount, tuple):
        return f"[{', '.join(f'{begin}-{end}' for begin, end in amount)}]"
    return f"{{{', '.join(sorted(amount))}}}"
