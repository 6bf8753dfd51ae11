"""The virtual IPs that a task's labels declare; pure.

A port label whose key begins with ``VIP`` or ``vip`` holds ``name:port`` or
``address:port``; an IPv6 address may stand in brackets. A leading slash of a
name vanishes with sanitising, so ``/web:80`` and ``web:80`` are one VIP.

The form of the first Minuteman is a label of the task: ``vip_port<N>`` with
``tcp://name:port`` or ``udp://name:port``, where N counts the ports of the node
that the task holds (reference dcos-net §1.1).
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import msgspec

from phalanx.core.error import InvalidError
from phalanx.net.model.label import domain_fragment
from phalanx.net.model.objects import IPAddress, Protocol, Task, TaskPort

KEY_PREFIXES = ("VIP", "vip")
LEGACY_KEY = re.compile(r"vip_port([0-9]{1,6})", re.IGNORECASE)
SCOPE_KEY = "network-scope"
HOST_SCOPE, CONTAINER_SCOPE = "host", "container"
GREATEST_PORT = 65535
# What is left of a DNS name's 253 characters before ".l4lb.thisdcos.directory".
NAME_LENGTH = 229
# Of a label's key and value, in characters: far beyond any name that can stand in DNS.
LONGEST = 1024
SHOWN = 64  # of what is longer
# A View is walked anew at each change and nearly all its labels are those of the last time.
REMEMBERED = 65536


class NamedVip(msgspec.Struct, frozen=True, order=True):
    """A VIP known by a canonical name, like ``web.marathon``; its address is leased."""

    name: str
    port: int
    protocol: Protocol


class AddressVip(msgspec.Struct, frozen=True, order=True):
    """A VIP known by the address that its task chose."""

    address: IPAddress
    port: int
    protocol: Protocol


class DeclaredVip(msgspec.Struct, frozen=True):
    """A VIP and the port of the task that stands behind it."""

    vip: NamedVip | AddressVip
    port: TaskPort


class MalformedVip(msgspec.Struct, frozen=True, order=True):
    """A VIP label that can't be used, and why."""

    key: str
    value: str
    reason: str


@lru_cache(maxsize=REMEMBERED)
def parse_vip(value: str, framework_name: str, protocol: Protocol) -> NamedVip | AddressVip:
    """Read a VIP label's value; raises InvalidError with the value when it can't be used."""
    left, colon, right = value.rpartition(":")
    if not colon:
        raise InvalidError(f"VIP {value!r}: no port; expected name:port or address:port")
    port = int(right) if right.isascii() and right.isdecimal() and len(right) < 10 else 0
    if not 1 <= port <= GREATEST_PORT:
        raise InvalidError(f"VIP {value!r}: port {right!r} is not in 1..{GREATEST_PORT}")
    address = _literal(left)
    if address is not None:
        return AddressVip(address, port, protocol)
    return NamedVip(_canonical_name(value, left, framework_name), port, protocol)


def declared_vips(task: Task, framework_name: str) -> tuple[DeclaredVip, ...]:
    """Return the VIPs of the task's ports; a label that can't be used harms no other.

    A port with both protocols declares each VIP twice, a port with number 0
    none. The port of a legacy label is the one announced with that number, or
    one made up, and it is the node's.
    """
    return tuple(
        dict.fromkeys(
            item for item in _parsed(task, framework_name) if isinstance(item, DeclaredVip)
        )
    )


def malformed_vips(task: Task, framework_name: str) -> tuple[MalformedVip, ...]:
    """Return the VIP labels that declared_vips left out, each with the reason."""
    return tuple(
        dict.fromkeys(
            item for item in _parsed(task, framework_name) if isinstance(item, MalformedVip)
        )
    )


def _parsed(task: Task, framework_name: str) -> Iterator[DeclaredVip | MalformedVip]:
    for port in task.ports:
        if port.number == 0:
            continue
        for key, value in port.labels:
            if key.startswith(KEY_PREFIXES) and len(key) + len(value) > LONGEST:
                yield _too_long(key, value)
            elif key.startswith(KEY_PREFIXES):
                yield from _parsed_label(port, key, value, framework_name)
    for key, value in task.labels:
        if (found := LEGACY_KEY.fullmatch(key)) is not None and len(value) > LONGEST:
            yield _too_long(key, value)
        elif found is not None:
            yield _parsed_legacy(task, key, int(found[1]), value, framework_name)


def _parsed_legacy(
    task: Task, key: str, index: int, value: str, framework_name: str
) -> DeclaredVip | MalformedVip:
    number = _nth_port(task.port_resources, index)
    if number is None:
        return MalformedVip(key, value, f"the task holds no port number {index} of its node")
    scheme, _, rest = value.partition("://")
    try:
        protocol = Protocol(scheme.lower())
    except ValueError:
        return MalformedVip(key, value, "begins with neither tcp:// nor udp://")
    port = next(
        (
            each
            for each in task.ports
            if each.number == number and protocol in each.protocol.lower().split(",")
        ),
        TaskPort(number, protocol=protocol),
    )
    scope = (SCOPE_KEY, HOST_SCOPE)
    if scope not in port.labels:
        port = msgspec.structs.replace(port, labels=(*port.labels, scope))
    try:
        return DeclaredVip(parse_vip(rest, framework_name, protocol), port)
    except InvalidError as error:
        return MalformedVip(key, value, str(error))


def _too_long(key: str, value: str) -> MalformedVip:
    """Return a label that nobody is shown whole."""
    reason = f"{len(key) + len(value)} characters, more than {LONGEST}"
    return MalformedVip(key[:SHOWN], value[:SHOWN], reason)


def _nth_port(spans: Iterable[tuple[int, int]], index: int) -> int | None:
    """Return the port with this index among those of *spans*, None beyond their end."""
    for begin, end in spans:
        if index <= end - begin:
            return begin + index
        index -= end - begin + 1
    return None


def _parsed_label(
    port: TaskPort, key: str, value: str, framework_name: str
) -> Iterator[DeclaredVip | MalformedVip]:
    for word in port.protocol.split(","):
        try:
            protocol = Protocol(word.strip().lower())
        except ValueError:
            yield MalformedVip(key, value, f"port {port.number}: protocol {word!r}: not tcp or udp")
            continue
        try:
            yield DeclaredVip(parse_vip(value, framework_name, protocol), port)
        except InvalidError as error:
            yield MalformedVip(key, value, str(error))


def _literal(text: str) -> IPAddress | None:
    is_bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ip_address(text[1:-1] if is_bracketed else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address
    return None if is_bracketed else address


def _canonical_name(value: str, left: str, framework_name: str) -> str:
    label, framework = domain_fragment(left), domain_fragment(framework_name)
    if not label:
        raise InvalidError(f"VIP {value!r}: nothing of the name {left!r} can stand in DNS")
    if not framework:
        raise InvalidError(
            f"VIP {value!r}: nothing of the framework's name {framework_name!r} can stand in DNS"
        )
    name = f"{label}.{framework}"
    if len(name) > NAME_LENGTH:
        raise InvalidError(f"VIP {value!r}: the name is {len(name)} long, more than {NAME_LENGTH}")
    return name
