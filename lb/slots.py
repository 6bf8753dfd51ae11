"""A service's slot table: which backend serves which drawn number; pure.

A new connection draws a number below the table's length and goes to the
backend in that slot; when the slot is empty it draws again. So a backend's
share of the filled slots is its share of the connections, and shares are exact
although there are few lengths: three equal backends fill six of eight slots.
"""

from collections import Counter
from collections.abc import Sequence
from math import gcd

from phalanx.lb.service import Backend, Endpoint

# The kernel has one chain for each length. Few, so that a service rarely changes its length.
LENGTHS = (8, 32, 128, 512, 2048)
# Slots for each unit of weight in a table without empty slots: shares are even to a sixteenth.
FULL = 16

Table = tuple[Endpoint | None, ...]


def slots(backends: Sequence[Backend], previous: Table = ()) -> Table:
    """Return the slot table of *backends*, as much as possible of *previous* left in place.

    It is empty when no backend has a weight; a table that is right already
    comes back as it is. The first slot is always filled: it serves those who
    drew empty slots only. While the length stays, a backend keeps every slot
    that it may, so another's leaving moves no more than that other's slots.
    """
    eligible = [backend for backend in backends if backend.weight > 0]
    if not eligible:
        return ()
    weights = [backend.weight for backend in eligible]
    return _kept(eligible, previous[: length_for(weights)], length_for(weights), is_full=False)


def filled(backends: Sequence[Backend], previous: Table = ()) -> Table:
    """Return a slot table of *backends* without empty slots, *previous* kept where possible.

    For those whose slot is a hash of their address: to draw again from an empty
    slot would move them to another backend when that slot is filled. The
    kernel scales hashes to the length, so in a longer table a source's slot is
    among those that its slot was split into, and holds the same backend.
    """
    eligible = [backend for backend in backends if backend.weight > 0]
    if not eligible:
        return ()
    weights = [backend.weight for backend in eligible]
    length = _least_length(sum(weights) // gcd(*weights) * FULL)
    before = len(previous)
    scaled = tuple(previous[slot * before // length] for slot in range(length)) if before else ()
    return _kept(eligible, scaled, length, is_full=True)


def _kept(eligible: Sequence[Backend], kept: Table, length: int, *, is_full: bool) -> Table:
    """Return a table of *length* slots that is as *kept* where each backend's share allows."""
    endpoints = [backend.endpoint for backend in eligible]
    weights = [backend.weight for backend in eligible]
    held = Counter(kept)
    shares = _shares(weights, [held[endpoint] for endpoint in endpoints], length, is_full=is_full)
    if (
        len(kept) == length == held[None] + sum(shares)
        and kept[0] is not None
        and all(held[endpoint] == share for endpoint, share in zip(endpoints, shares, strict=True))
    ):
        return tuple(kept)  # as it is in nearly every service that a restart finds
    room = dict(zip(endpoints, shares, strict=True))
    table: list[Endpoint | None] = [None] * length
    for slot, endpoint in enumerate(kept):
        if endpoint is not None and room.get(endpoint, 0) > 0:
            table[slot] = endpoint
            room[endpoint] -= 1
    empty = (slot for slot, endpoint in enumerate(table) if endpoint is None)
    for endpoint, left in room.items():
        for _ in range(left):
            table[next(empty)] = endpoint
    if table[0] is None:
        last = max(slot for slot, endpoint in enumerate(table) if endpoint is not None)
        table[0], table[last] = table[last], None
    return tuple(table)


def length_for(weights: Sequence[int]) -> int:
    """Return the least length that holds these weights, all above 0, exactly; or the greatest."""
    return _least_length(sum(weights) // gcd(*weights))


def _least_length(units: int) -> int:
    return next((length for length in LENGTHS if length >= units), LENGTHS[-1])


def _shares(
    weights: Sequence[int], held: Sequence[int], length: int, *, is_full: bool
) -> list[int]:
    """Split the slots by weight: exactly, or as near as one slot each where they are too few.

    When the table *is_full*, all slots are given away, as near as one slot each.

    Among equal claims those come first who hold more than their share already,
    so that a table that is right is left alone.
    """
    divisor = gcd(*weights)
    units = sum(weights) // divisor
    if units <= length and not is_full:
        return [weight // divisor * (length // units) for weight in weights]
    everyone = range(len(weights))
    if len(weights) > length:
        chosen = frozenset(sorted(everyone, key=lambda at: (-held[at], at))[:length])
        return [int(at in chosen) for at in everyone]
    total = sum(weights)
    shares = [max(1, length * weight // total) for weight in weights]
    while (left := length - sum(shares)) < 0:
        shares[max(everyone, key=lambda at: (shares[at], -held[at], at))] -= 1
    claims = sorted(
        everyone,
        key=lambda at: (shares[at] * total - length * weights[at], shares[at] - held[at], at),
    )
    for at in claims[:left]:
        shares[at] += 1
    return shares
