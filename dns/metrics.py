"""Metrics of the DNS server, counted without cost to a query and gathered at a scrape."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from phalanx.dns.admission import Verdict
from phalanx.dns.answer.query import Rcode
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer
from phalanx.dns.tally import Tally, summed, tally_of

SERVED = ("cache_hit", "coalesced", "forwarded", "overload", "prefetch", "stale")


class DnsCollector(Collector):
    """Turns what this process and its workers counted into metrics of a CollectorRegistry."""

    def __init__(self, zones: ZoneTable, forwarder: Forwarder) -> None:
        self._zones = zones
        self._forwarder = forwarder
        self.server: DnsServer | None = None  # when there is one
        self.others: Callable[[], Sequence[Tally]] = list  # of workers

    def collect(self) -> Iterable[Metric]:
        """Return replies by zone and rcode, lookups, upstreams' failures, and records by zone."""
        tally = summed([tally_of(self._zones, self._forwarder, self.server), *self.others()])
        replies = CounterMetricFamily(
            "phalanx_dns_replies",
            "Replies sent; zone is empty for what could not be read, '.' for foreign names.",
            labels=("zone", "rcode"),
        )
        for (apex, rcode), count in tally.replies.items():
            replies.add_metric((apex, _rcode_name(rcode)), count)
        yield replies
        yield from _of_lookups(tally)
        names = GaugeMetricFamily(
            "phalanx_dns_zone_names", "Names in each zone of ours.", labels=("zone",)
        )
        for apex, zone in self._zones.zones.items():
            if zone is not None:
                names.add_metric((apex,), len(zone.names))
        yield names
        if self.server is not None:
            yield from _of_server(tally)


def _of_lookups(tally: Tally) -> Iterable[Metric]:
    lookups = CounterMetricFamily(
        "phalanx_dns_lookups",
        "Queries for foreign names, by how they were served.",
        labels=("served",),
    )
    for event in SERVED:
        lookups.add_metric((event,), tally.lookups.get(event, 0))
    yield lookups
    yield GaugeMetricFamily(
        "phalanx_dns_lookups_under_way",
        "Questions that upstreams have not answered yet.",
        tally.under_way,
    )
    failures = CounterMetricFamily(
        "phalanx_dns_upstream_failures",
        "Tries of an upstream that gave no good answer.",
        labels=("upstream", "reason"),
    )
    for key, count in tally.failures.items():
        failures.add_metric(key, count)
    yield failures
    yield GaugeMetricFamily(
        "phalanx_dns_cached_answers", "Answers of upstreams kept.", tally.cached
    )
    round_trips = GaugeMetricFamily(
        "phalanx_dns_upstream_rtt_seconds", "Round trip, smoothed.", labels=("upstream",)
    )
    for place, seconds in tally.round_trips.items():
        round_trips.add_metric((place,), seconds)
    yield round_trips


def _of_server(tally: Tally) -> Iterable[Metric]:
    turned_away = CounterMetricFamily(
        "phalanx_dns_turned_away",
        "Datagrams that the access list refused, or the rate limit cut or dropped.",
        labels=("verdict",),
    )
    for verdict in Verdict:
        if verdict is not Verdict.ADMIT:
            turned_away.add_metric((verdict.value,), tally.turned_away.get(verdict.value, 0))
    yield turned_away
    yield CounterMetricFamily(
        "phalanx_dns_dropped", "Datagrams that waited too long.", tally.dropped
    )
    yield CounterMetricFamily(
        "phalanx_dns_listener_restarts", "Listeners opened anew.", tally.restarts
    )
    yield CounterMetricFamily(
        "phalanx_dns_worker_restarts", "Workers that ended and were started anew.", tally.ends
    )
    yield GaugeMetricFamily("phalanx_dns_connections", "TCP connections.", tally.connections)


def _rcode_name(rcode: int) -> str:
    try:
        return Rcode(rcode).name
    except ValueError:
        return str(rcode)
