"""Placement constraints (reference marathon §1.6)."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from phalanx.mesos.v1.mesos import Attribute, DomainInfo

OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "UNLIKE", "MAX_PER", "IS")
HOSTNAME, REGION, ZONE = "@hostname", "@region", "@zone"

Attributes = Mapping[str, str]


def attributes_of(
    hostname: str, attributes: Iterable[Attribute], domain: DomainInfo | None = None
) -> dict[str, str]:
    """Return an agent's attributes as text, its name under ``@hostname``, and where it is."""
    found = {**{a.name: _as_text(a) for a in attributes}, HOSTNAME: hostname}
    fault = None if domain is None else domain.fault_domain
    if fault is not None:
        found |= {REGION: fault.region.name, ZONE: fault.zone.name}
    return found


def is_met(
    constraint: Sequence[str], offered: Attributes, placed: Sequence[Attributes], instances: int
) -> bool:
    """Tell whether an agent with *offered* may take one more instance.

    *placed* holds the attributes of the agents of the app's instances of the
    present configuration, *instances* is how many there shall be.
    """
    field = HOSTNAME if constraint[0] == "hostname" else constraint[0]
    operator, value = constraint[1], constraint[2] if len(constraint) > 2 else ""
    mine = offered.get(field)
    if mine is None:
        return operator == "UNLIKE"
    others = [other[field] for other in placed if field in other]
    match operator:
        case "UNIQUE":
            return mine not in others
        case "CLUSTER":
            return mine == value if value else not others or others[0] == mine
        case "LIKE":
            return re.fullmatch(value, mine) is not None
        case "UNLIKE":
            return re.fullmatch(value, mine) is None
        case "MAX_PER":
            return others.count(mine) < int(value)
        case "IS":
            return mine == value or _is_same_number(mine, value)
        case _:
            return _fits_group(mine, others, int(value or 0), instances)


def grouped_field(constraints: Iterable[Sequence[str]]) -> str | None:
    """Return the field over which instances are to be spread evenly, if there is one."""
    for constraint in constraints:
        if constraint[1] == "GROUP_BY":
            return HOSTNAME if constraint[0] == "hostname" else constraint[0]
    return None


def _fits_group(mine: str, others: Sequence[str], groups: int, instances: int) -> bool:
    count = Counter(others)
    if groups == 0:
        return mine not in count or count[mine] == min(count.values())
    quota, rest = divmod(instances, groups)
    spare = rest - sum(max(0, members - quota) for members in count.values())
    if mine not in count:
        return len(count) < groups and (quota > 0 or spare > 0)
    return count[mine] < quota or (count[mine] == quota and spare > 0)


def _as_text(attribute: Attribute) -> str:
    if attribute.text is not None:
        return attribute.text.value
    if attribute.scalar is not None:
        return _as_number(attribute.scalar.value)
    if attribute.ranges is not None:
        spans = sorted((part.begin, part.end) for part in attribute.ranges.range)
        return "[" + ",".join(f"{begin}-{end}" for begin, end in spans) + "]"
    if attribute.set is not None:
        return "{" + ",".join(sorted(attribute.set.item)) + "}"
    return ""


def _as_number(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _is_same_number(one: str, other: str) -> bool:
    try:
        return _as_number(float(one)) == _as_number(float(other))
    except ValueError:
        return False
