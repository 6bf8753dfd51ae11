"""Which addresses a named VIP is leased: first choice by hash of the name; pure."""

import hashlib
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain

from phalanx.core.error import UnavailableError

VIP_POOL = IPv4Network("11.0.0.0/8")
VIP_POOL6 = IPv6Network("fd01:c::/64")

GOLDEN = 0x9E3779B9
BINARY_SEED = 13 * GOLDEN & 0xFFFFFFFF  # what Erlang starts the hash of a binary with
MASK = 0xFFFFFFFF
BLOCK = 12


def lease_vip(name: str, pool: IPv4Network, taken: Collection[IPv4Address]) -> IPv4Address:
    """Return DC/OS's address for *name* in *pool*, or the next free one, wrapping.

    The pool's first and last address are never leased. Pass *taken* as a set:
    it is asked once for each address tried. Raises UnavailableError when the
    pool is full.
    """
    hosts = pool.num_addresses - 2
    if hosts > 0:
        first, last = int(pool[1]), int(pool[-2])
        start = int(pool[0]) + phash2(name.encode()) % hosts
        for number in chain(range(max(start, first), last + 1), range(first, start)):
            if (candidate := IPv4Address(number)) not in taken:
                return candidate
    raise UnavailableError(f"VIP {name!r}: no free address is left in {pool}")


def lease_vip6(name: str, pool: IPv6Network, taken: Collection[IPv6Address]) -> IPv6Address:
    """Return DC/OS's IPv6 address for *name* in *pool*, or the next free one, wrapping.

    Its hash is SHA-1 (reference dcos-net §1.3). The pool's last address is never leased.
    """
    hosts = pool.num_addresses - 1
    start = int.from_bytes(hashlib.sha1(name.encode(), usedforsecurity=False).digest())
    for step in range(min(hosts, len(taken) + 1)):
        if (candidate := pool[(start + step) % hosts]) not in taken:
            return candidate
    raise UnavailableError(f"VIP {name!r}: no free address is left in {pool}")


def phash2(key: bytes) -> int:
    """Return Erlang's portable hash of the binary *key*, in 32 bits."""
    a, b, c = GOLDEN, GOLDEN, BINARY_SEED
    whole = len(key) // BLOCK * BLOCK
    for at in range(0, whole, BLOCK):
        a, b, c = _mix(
            a + int.from_bytes(key[at : at + 4], "little"),
            b + int.from_bytes(key[at + 4 : at + 8], "little"),
            c + int.from_bytes(key[at + 8 : at + 12], "little"),
        )
    rest = key[whole:]
    return _mix(
        a + int.from_bytes(rest[:4], "little"),
        b + int.from_bytes(rest[4:8], "little"),
        # The length has the lowest byte, so what is left of the key begins above it.
        c + len(key) + (int.from_bytes(rest[8:], "little") << 8),
    )[2]


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    """Mix three words reversibly (Bob Jenkins, 1996)."""
    a, b, c = a & MASK, b & MASK, c & MASK
    for right, left, last in ((13, 8, 13), (12, 16, 5), (3, 10, 15)):
        a = ((a - b - c) & MASK) ^ (c >> right)
        b = (b - c - a) & MASK ^ (a << left & MASK)
        c = ((c - a - b) & MASK) ^ (b >> last)
    return a, b, c
