"""Addresses and prefixes as text, which JSON has no form of; pure but for the C library's parser.

A View of 50,000 tasks has a quarter of a million of them. The C library reads one
in a fifth of the time of ``ipaddress``; what it refuses is left to that.
"""

import socket
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

TEXTS = (IPv4Address, IPv4Network, IPv6Address, IPv6Network)


def to_text(value: Any) -> str:  # noqa: ANN401 - msgspec hands over any value it doesn't know
    """Return an address or prefix as text."""
    if isinstance(value, TEXTS):
        return str(value)
    raise NotImplementedError(type(value))  # what msgspec asks for


def of_text(kind: type, value: Any) -> Any:  # noqa: ANN401 - so does this hook
    """Return the address or prefix that *value* says; raise ValueError if it says none."""
    if kind not in _READ:
        raise NotImplementedError(kind)  # likewise
    try:
        found = _READ[kind](value) if isinstance(value, str) else None
    except (OSError, ValueError):  # a scope, a netmask, or none at all
        found = None
    return kind(value) if found is None else found


def _address4(text: str) -> IPv4Address:
    return IPv4Address(int.from_bytes(socket.inet_pton(socket.AF_INET, text)))


def _address6(text: str) -> IPv6Address:
    return IPv6Address(int.from_bytes(socket.inet_pton(socket.AF_INET6, text)))


def _network4(text: str) -> IPv4Network | None:
    address, _, length = text.partition("/")
    if not (length.isascii() and length.isdigit()):
        return None
    return IPv4Network((int.from_bytes(socket.inet_pton(socket.AF_INET, address)), int(length)))


def _network6(text: str) -> IPv6Network | None:
    address, _, length = text.partition("/")
    if not (length.isascii() and length.isdigit()):
        return None
    return IPv6Network((int.from_bytes(socket.inet_pton(socket.AF_INET6, address)), int(length)))


_READ: Mapping[type, Callable[[str], object]] = {
    IPv4Address: _address4,
    IPv6Address: _address6,
    IPv4Network: _network4,
    IPv6Network: _network6,
}
