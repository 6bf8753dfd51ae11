"""What a server has counted: as values that travel between processes and add up."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import Self, TypeVar

import msgspec

from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer

K = TypeVar("K", bound=Hashable)


class Tally(msgspec.Struct, frozen=True, tag="TALLY"):
    """Counters, which only grow, and gauges, which say how it is now."""

    replies: dict[tuple[str, int], int] = {}  # by zone and rcode
    lookups: dict[str, int] = {}  # by how they were served
    failures: dict[tuple[str, str], int] = {}  # by upstream and reason
    turned_away: dict[str, int] = {}  # by verdict
    dropped: int = 0
    restarts: int = 0  # of listeners
    ends: int = 0  # of workers
    under_way: int = 0
    cached: int = 0
    connections: int = 0
    round_trips: dict[str, float] = {}  # of upstreams, in seconds

    def ended(self) -> Self:
        """Return what stays when a worker is gone: its counters, and that it ended."""
        return msgspec.structs.replace(
            self, ends=self.ends + 1, under_way=0, cached=0, connections=0, round_trips={}
        )


def tally_of(zones: ZoneTable, forwarder: Forwarder, server: DnsServer | None) -> Tally:
    """Return what these three have counted; *server* is None while there is none."""
    counted = Tally(
        replies={**zones.counts.totals(), **forwarder.replies},
        lookups=dict(forwarder.lookups),
        failures={(str(place), reason): n for (place, reason), n in forwarder.failures.items()},
        under_way=forwarder.lookups_under_way,
        cached=forwarder.cached,
        round_trips={str(place): s.rtt_seconds for place, s in forwarder.standings.items()},
    )
    if server is None:
        return counted
    return msgspec.structs.replace(
        counted,
        turned_away=dict(server.turned_away),
        dropped=server.dropped,
        restarts=server.restarts,
        connections=server.connections,
    )


def summed(tallies: Iterable[Tally]) -> Tally:
    """Return the sum; an upstream's round trip is the mean of those who asked it."""
    every = list(tallies)
    trips: dict[str, list[float]] = {}
    for tally in every:
        for place, seconds in tally.round_trips.items():
            trips.setdefault(place, []).append(seconds)
    return Tally(
        replies=_total(each.replies for each in every),
        lookups=_total(each.lookups for each in every),
        failures=_total(each.failures for each in every),
        turned_away=_total(each.turned_away for each in every),
        dropped=sum(each.dropped for each in every),
        restarts=sum(each.restarts for each in every),
        ends=sum(each.ends for each in every),
        under_way=sum(each.under_way for each in every),
        cached=sum(each.cached for each in every),
        connections=sum(each.connections for each in every),
        round_trips={place: sum(each) / len(each) for place, each in trips.items()},
    )


def _total(counts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    total: Counter[K] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
