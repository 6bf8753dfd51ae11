"""What the maps hold of one service, and how a service is written there; pure."""

from collections.abc import Mapping

import msgspec

from phalanx.lb.service import Backend, Endpoint, Scheduler, Service, in_order
from phalanx.lb.slots import Table, filled, slots

# By their number in an element; never to be changed, only added to.
SCHEDULERS = (Scheduler.WLC, Scheduler.RR, Scheduler.SH, Scheduler.MH)
HASHED = (Scheduler.SH, Scheduler.MH)
SCHEDULER_BITS = 3


class Entry(msgspec.Struct, frozen=True):
    """The elements of one VIP, as they are or should be."""

    lengths: frozenset[int] = frozenset()  # whose services set it is in: one, or none if refused
    slots: Mapping[int, Endpoint] = msgspec.field(default_factory=dict)
    weights: Mapping[Endpoint, int] = msgspec.field(
        default_factory=dict
    )  # if not 1, or if without a slot
    options: int = 0  # scheduler and affinity as one number, 0 for the default
    is_hashed: bool = False  # the source decides, not a draw
    is_refused: bool = False


EMPTY = Entry()


def compile_entry(service: Service, previous: Entry = EMPTY) -> Entry:
    """Return the elements of *service*, leaving in place what it can of *previous*.

    With an affinity the source decides, too: it keeps its backend for longer than asked.
    """
    is_hashed = service.scheduler in HASHED or service.affinity_seconds > 0
    fill = filled if is_hashed else slots
    table = fill(service.backends, _table(previous))
    served = frozenset(table)
    return Entry(
        lengths=frozenset((len(table),)) if table else frozenset(),
        slots={slot: endpoint for slot, endpoint in enumerate(table) if endpoint is not None},
        weights={
            backend.endpoint: backend.weight
            for backend in service.backends
            if backend.weight != 1 or backend.endpoint not in served
        },
        options=_number_of(service),
        is_hashed=is_hashed,
        is_refused=not table,
    )


def service_of(entry: Entry) -> Service:
    """Return the service that the elements make, not whole when they contradict one another."""
    backends = in_order(
        Backend(endpoint.address, endpoint.port, entry.weights.get(endpoint, 1))
        for endpoint in endpoints_of(entry)
    )
    number, affinity = entry.options & (1 << SCHEDULER_BITS) - 1, entry.options >> SCHEDULER_BITS
    if number < len(SCHEDULERS):
        service = Service(backends, scheduler=SCHEDULERS[number], affinity_seconds=affinity)
        if compile_entry(service, entry) == entry:
            return service
    return Service(backends, is_whole=False)


def endpoints_of(entry: Entry) -> frozenset[Endpoint]:
    """Return every endpoint that the elements name."""
    return frozenset((*entry.slots.values(), *entry.weights))


def _number_of(service: Service) -> int:
    return SCHEDULERS.index(service.scheduler) | service.affinity_seconds << SCHEDULER_BITS


def _table(entry: Entry) -> Table:
    return tuple(map(entry.slots.get, range(max(entry.lengths, default=0))))
