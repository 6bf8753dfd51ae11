"""Choose the next address of a pool; pure."""

from collections.abc import Set

from phalanx.core.error import ConflictError, InvalidError, UnavailableError
from phalanx.net.ipam.pool import Pool
from phalanx.net.model.objects import IPAddress


def next_free(pool: Pool, *, taken: Set[IPAddress], last: IPAddress | None = None) -> IPAddress:
    """Return the first free address after *last*, going round; without *last*, the first free.

    Round robin, so that a container in a crash loop does not get the address
    back that its peers still have in their caches. The gateway is never given.
    Raises UnavailableError when nothing is free.
    """
    spans = pool.numbers
    position = _position(spans, None if last is None or last not in pool.subnet else last)
    if position is not None:
        index, start = position
        spans = (
            spans[index][start + 1 :],
            *spans[index + 1 :],
            *spans[:index],
            spans[index][: start + 1],
        )
    for span in spans:
        for number in span:
            address = pool.address(number)
            if address != pool.gateway and address not in taken:
                return address
    raise UnavailableError(f"no IP addresses available in range set: {pool}")


def check_requested(address: IPAddress, pool: Pool, *, taken: Set[IPAddress]) -> None:
    """Raise InvalidError if *address* can't be given here, ConflictError if someone holds it."""
    if address not in pool.subnet:
        raise InvalidError(f"requested address {address} is not in {pool.subnet}")
    if address == pool.gateway:
        raise InvalidError(f"requested address {address} is the gateway of {pool.subnet}")
    if address not in pool:
        raise InvalidError(f"requested address {address} is not for a container of {pool.subnet}")
    if address in taken:
        raise ConflictError(f"requested address {address} is taken")


def _position(spans: tuple[range, ...], last: IPAddress | None) -> tuple[int, int] | None:
    """Return in which span, and where in it, *last* is."""
    if last is None:
        return None
    return next(
        ((i, int(last) - span.start) for i, span in enumerate(spans) if int(last) in span), None
    )
