"""What may be a policy; pure."""

from collections.abc import Mapping
from ipaddress import IPv4Network

import msgspec

from phalanx.core.error import ConflictError, InvalidError
from phalanx.master.network.definition import check_name
from phalanx.net.model.objects import Network, Policy, Protocol

GREATEST_PORT = 65535


class PolicySpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator asks for; also what the API answers."""

    name: str
    source: str
    destination: str
    protocol: str = "tcp"
    ports: str | int = ""
    reason: str = ""


def new_policy(
    spec: PolicySpec, existing: Mapping[str, Policy], networks: Mapping[str, Network]
) -> Policy:
    """Return the policy that *spec* asks for; raise InvalidError or ConflictError."""
    check_name(spec.name)
    for field in ("source", "destination"):
        _check_end(field, getattr(spec, field), networks)
    try:
        protocol = Protocol(spec.protocol)
    except ValueError as error:
        raise InvalidError(f"protocol: {spec.protocol!r} is neither tcp nor udp") from error
    first, last = parse_ports(str(spec.ports))
    if spec.name in existing:
        raise ConflictError(f"name: policy {spec.name!r} is there already")
    return Policy(
        spec.name, spec.source, spec.destination, protocol, first, last, reason=spec.reason
    )


def parse_ports(text: str) -> tuple[int, int]:
    """Return first and last port of ``5432`` or ``8000-8010``; raise InvalidError."""
    first, hyphen, last = text.partition("-")
    parts = (first, last if hyphen else first)
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise InvalidError(f"ports: {text!r} is neither a port nor a range such as 8000-8010")
    low, high = int(parts[0]), int(parts[1])
    if not 1 <= low <= high <= GREATEST_PORT:
        raise InvalidError(f"ports: {text!r} is not within 1-{GREATEST_PORT}, lowest first")
    return low, high


def render_ports(policy: Policy) -> str:
    """Return the ports as the API spells them."""
    if policy.first_port == policy.last_port:
        return str(policy.first_port)
    return f"{policy.first_port}-{policy.last_port}"


def _check_end(field: str, value: str, networks: Mapping[str, Network]) -> None:
    if value in networks:
        return
    try:
        IPv4Network(value)
    except ValueError as error:
        raise InvalidError(
            f"{field}: {value!r} is neither an existing network nor an IPv4 prefix"
        ) from error
