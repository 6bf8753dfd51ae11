"""From one state of a service to the next: which commands, in which order; pure."""

from collections.abc import Iterator

from phalanx.lb.ipvs.message import (
    DEL_DEST,
    DEL_SERVICE,
    NEW_DEST,
    NEW_SERVICE,
    SET_DEST,
    SET_SERVICE,
    encode_backend,
    encode_service,
    encode_vip,
)
from phalanx.lb.service import Service, Vip


def commands(vip: Vip, before: Service | None, after: Service | None) -> Iterator[bytes]:
    """Yield the messages that turn *before* into *after*, where None is no service.

    New backends come before old ones go, so that a service that has backends
    at both ends has some all the while. What is not whole is all written anew
    in place: connections go on.
    """
    if after is None:
        if before is not None:
            yield encode_service(DEL_SERVICE, vip)
        return
    is_damaged = before is not None and not before.is_whole
    if before is None:
        yield encode_service(NEW_SERVICE, vip, after)
    elif is_damaged or (before.scheduler, before.affinity_seconds) != (
        after.scheduler,
        after.affinity_seconds,
    ):
        yield encode_service(SET_SERVICE, vip, after)
    whose = encode_vip(vip)
    if before is None or not before.backends:
        for backend in after.backends:
            yield encode_backend(NEW_DEST, whose, backend)
        return
    old = {backend.endpoint: backend for backend in before.backends}
    for backend in after.backends:
        known = old.pop(backend.endpoint, None)
        if known is None:
            yield encode_backend(NEW_DEST, whose, backend)
        elif is_damaged or known.weight != backend.weight:
            yield encode_backend(SET_DEST, whose, backend)
    for backend in old.values():
        yield encode_backend(DEL_DEST, whose, backend)
