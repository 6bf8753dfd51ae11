"""What may be a policy; pure."""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec

from phalanx.core.error import ConflictError, InvalidError
from phalanx.master.network.definition import check_name
from phalanx.net.model.objects import ALL_PORTS, Action, Direction, Policy, Tier, Traffic
from phalanx.net.model.selector import Named, parse_selector

GREATEST_PORT = ALL_PORTS[1]
GREATEST_REASON = 1024
ANY = "any"  # all ports

E = TypeVar("E", bound=StrEnum)


class PolicySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks for; also what the API answers."""

    name: str
    source: str
    destination: str
    protocol: str = "tcp"
    ports: str | int | tuple[str | int, ...] = ""
    reason: str = ""
    tier: str = "network"
    action: str = "allow"
    direction: str = "both"


class PolicyDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All policies, or all of one tier."""

    policies: tuple[PolicySpec, ...]


def new_policy(
    spec: PolicySpec, existing: Mapping[str, Policy], networks: Collection[str]
) -> Policy:
    """Return the policy that *spec* asks for; raise InvalidError or ConflictError."""
    policy = read_policy(spec, networks)
    if spec.name in existing:
        raise ConflictError(f"name: policy {spec.name!r} is there already")
    return policy


def read_policy(spec: PolicySpec, networks: Collection[str]) -> Policy:
    """Return the policy that *spec* asks for; raise InvalidError, which names the field."""
    check_name(spec.name)
    for field in ("source", "destination"):
        _check_end(field, getattr(spec, field), networks)
    protocol = _one_of(Traffic, "protocol", spec.protocol)
    ports: tuple[tuple[int, int], ...] = ()
    if protocol.has_ports:
        ports = parse_ports(spec.ports)
    elif spec.ports not in ("", ANY, ()):
        raise InvalidError(f"ports: {spec.ports!r}: protocol {protocol} has none")
    if len(spec.reason) > GREATEST_REASON:
        raise InvalidError(f"reason: longer than {GREATEST_REASON} characters")
    return Policy(
        spec.name,
        spec.source,
        spec.destination,
        protocol,
        reason=spec.reason,
        tier=_one_of(Tier, "tier", spec.tier),
        action=_one_of(Action, "action", spec.action),
        direction=_one_of(Direction, "direction", spec.direction),
        ports=ports,
    )


def read_document(
    document: PolicyDocument,
    existing: Mapping[str, Policy],
    networks: Collection[str],
    *,
    tier: Tier | None = None,
) -> Mapping[str, Policy]:
    """Return all policies as they are once *document* has taken the place of those of *tier*.

    None stands for every tier. Raises InvalidError, which names the policy's
    place and field, and ConflictError for the name of another tier's policy.
    """
    kept = {} if tier is None else {k: v for k, v in existing.items() if v.tier is not tier}
    found: dict[str, Policy] = {}
    for index, spec in enumerate(document.policies):
        where = f"policies[{index}]"
        try:
            policy = read_policy(spec, networks)
        except InvalidError as error:
            raise InvalidError(f"{where}.{error}") from error
        if policy.name in found:
            raise InvalidError(f"{where}.name: {policy.name!r} is there twice")
        if tier is not None and policy.tier is not tier:
            raise InvalidError(f"{where}.tier: {policy.tier} among policies of tier {tier}")
        if policy.name in kept:
            raise ConflictError(
                f"{where}.name: policy {policy.name!r} is of tier {kept[policy.name].tier}"
            )
        found[policy.name] = policy
    return kept | found


def parse_tier(text: str) -> Tier:
    """Return a tier; raise InvalidError."""
    return _one_of(Tier, "tier", text)


def parse_ports(given: str | int | Iterable[str | int]) -> tuple[tuple[int, int], ...]:
    """Return the ranges of ``5432``, ``80,8000-8010``, a list of such, or ``any``.

    They are sorted, and none meets another. Raises InvalidError.
    """
    parts = [str(given)] if isinstance(given, str | int) else [str(each) for each in given]
    texts = [text.strip() for part in parts for text in part.split(",")]
    if texts == [ANY]:
        return (ALL_PORTS,)
    found: list[tuple[int, int]] = []
    for first, last in sorted(map(_range, texts)):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    if not found:
        raise InvalidError(f"ports: none is named; {ANY!r} stands for all")
    return tuple(found)


def render_ports(policy: Policy) -> str:
    """Return the ports as the API spells them, nothing where the protocol has none."""
    if not policy.protocol.has_ports:
        return ""
    if policy.port_ranges == (ALL_PORTS,):
        return ANY
    return ",".join(
        str(first) if first == last else f"{first}-{last}" for first, last in policy.port_ranges
    )


def _range(text: str) -> tuple[int, int]:
    first, hyphen, last = text.partition("-")
    parts = (first, last if hyphen else first)
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise InvalidError(
            f"ports: {text!r} is neither a port, nor a range such as 8000-8010, nor {ANY!r}"
        )
    low, high = int(parts[0]), int(parts[1])
    if not 1 <= low <= high <= GREATEST_PORT:
        raise InvalidError(f"ports: {text!r} is not within 1-{GREATEST_PORT}, lowest first")
    return low, high


def _one_of(kind: type[E], field: str, text: str) -> E:
    try:
        return kind(text)
    except ValueError as error:
        words = ", ".join(kind)
        raise InvalidError(f"{field}: {text!r} is none of {words}") from error


def _check_end(field: str, value: str, networks: Collection[str]) -> None:
    try:
        selector = parse_selector(value)
    except ValueError as error:
        raise InvalidError(f"{field}: {value!r}: {error}") from error
    if isinstance(selector, Named) and selector.network not in networks:
        raise InvalidError(
            f"{field}: {value!r} is neither an existing network nor a prefix, a label such as"
            " role=db, an app such as /prod/web, or any"
        )
