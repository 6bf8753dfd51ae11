"""Metrics of the DNS server, counted without cost to a query and gathered at a scrape."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from phalanx.dns.admission import Verdict
from phalanx.dns.answer.query import Rcode
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.server import DnsServer


class DnsCollector(Collector):
    """Turns the counts of zone table, forwarder and server into metrics of a CollectorRegistry."""

    def __init__(self, zones: ZoneTable, forwarder: Forwarder) -> None:
        self._zones = zones
        self._forwarder = forwarder
        self.server: DnsServer | None = None  # when there is one

    def collect(self) -> Iterable[Metric]:
        """Return replies by zone and rcode, lookups, upstreams' failures, and records by zone."""
        replies = CounterMetricFamily(
            "phalanx_dns_replies",
            "Replies sent; zone is empty for what could not be read, '.' for foreign names.",
            labels=("zone", "rcode"),
        )
        for counts in (self._zones.counts, self._forwarder.counts):
            for (apex, rcode), count in list(counts.items()):
                replies.add_metric((apex, _rcode_name(rcode)), count)
        yield replies
        lookups = CounterMetricFamily(
            "phalanx_dns_lookups",
            "Queries for foreign names, by how they were served.",
            labels=("served",),
        )
        for event in ("cache_hit", "coalesced", "forwarded", "overload", "prefetch", "stale"):
            lookups.add_metric((event,), self._forwarder.events[event])
        yield lookups
        yield GaugeMetricFamily(
            "phalanx_dns_lookups_under_way",
            "Questions that upstreams have not answered yet.",
            self._forwarder.lookups_under_way,
        )
        failures = CounterMetricFamily(
            "phalanx_dns_upstream_failures",
            "Tries of an upstream that gave no good answer.",
            labels=("upstream", "reason"),
        )
        for (upstream, reason), count in list(self._forwarder.failures.items()):
            failures.add_metric((str(upstream), reason), count)
        yield failures
        names = GaugeMetricFamily(
            "phalanx_dns_zone_names", "Names in each zone of ours.", labels=("zone",)
        )
        for apex, zone in self._zones.zones.items():
            if zone is not None:
                names.add_metric((apex,), len(zone.names))
        yield names
        yield GaugeMetricFamily(
            "phalanx_dns_cached_answers", "Answers of upstreams kept.", self._forwarder.cached
        )
        round_trips = GaugeMetricFamily(
            "phalanx_dns_upstream_rtt_seconds", "Round trip, smoothed.", labels=("upstream",)
        )
        for place, standing in self._forwarder.standings.items():
            round_trips.add_metric((str(place),), standing.rtt_seconds)
        yield round_trips
        if self.server is not None:
            yield from _of_server(self.server)


def _of_server(server: DnsServer) -> Iterable[Metric]:
    turned_away = CounterMetricFamily(
        "phalanx_dns_turned_away",
        "Datagrams that the access list refused, or the rate limit cut or dropped.",
        labels=("verdict",),
    )
    for verdict in Verdict:
        if verdict is not Verdict.ADMIT:
            turned_away.add_metric((verdict.value,), server.turned_away[verdict.value])
    yield turned_away
    yield CounterMetricFamily(
        "phalanx_dns_dropped", "Datagrams that waited too long.", server.dropped
    )
    yield CounterMetricFamily(
        "phalanx_dns_listener_restarts", "Listeners opened anew.", server.restarts
    )
    yield GaugeMetricFamily("phalanx_dns_connections", "TCP connections.", server.connections)


def _rcode_name(rcode: int) -> str:
    try:
        return Rcode(rcode).name
    except ValueError:
        return str(rcode)
