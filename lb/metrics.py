"""Metrics of the load balancer, gathered at a scrape."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sized

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from phalanx.core.error import DataplaneError
from phalanx.lb.problem import names_by_address
from phalanx.lb.service import Service, Vip, spell
from phalanx.lb.traffic import ReadTraffic, Traffic
from phalanx.net.model.view import View


class LbCollector(Collector):
    """Turns what the data plane holds, and what the kernel counted, into metrics.

    The kernel is asked by ``refresh``, which is to be awaited before a scrape.
    """

    def __init__(
        self,
        view: Callable[[], View],
        services: Callable[[], Mapping[Vip, Service]],
        problems: Callable[[], Sized],
        traffic: ReadTraffic,
    ) -> None:
        self._view = view
        self._services = services
        self._problems = problems
        self._read_traffic = traffic
        self._traffic: Traffic = {}

    async def refresh(self) -> None:
        """Ask the kernel for its counters; when it refuses, the last ones stay."""
        try:
            self._traffic = await self._read_traffic()
        except DataplaneError:  # logged by the pass that repairs it
            return

    def collect(self) -> Iterable[Metric]:
        """Return VIPs and backends by state, label problems, connections by VIP and backend."""
        services = self._services()
        states = Counter("refusing" if each.is_refused else "serving" for each in services.values())
        vips = GaugeMetricFamily(
            "phalanx_lb_vips", "VIPs, by whether anybody serves them.", labels=("state",)
        )
        for state in ("serving", "refusing"):
            vips.add_metric((state,), states[state])
        yield vips
        weights = Counter(
            "drained" if backend.weight == 0 else "eligible"
            for each in services.values()
            for backend in each.backends
        )
        backends = GaugeMetricFamily(
            "phalanx_lb_backends",
            "Backends of all VIPs, by whether they may have new connections.",
            labels=("state",),
        )
        for state in ("eligible", "drained"):
            backends.add_metric((state,), weights[state])
        yield backends
        yield GaugeMetricFamily(
            "phalanx_lb_label_problems",
            "Faults of VIP labels, one for each app that has it.",
            len(self._problems()),
        )
        yield self._connections(services)

    def _connections(self, services: Mapping[Vip, Service]) -> Metric:
        connections = CounterMetricFamily(
            "phalanx_lb_connections",
            "Connections begun on this node, by VIP and backend.",
            labels=("vip", "address", "protocol", "backend"),
        )
        names = names_by_address(self._view())
        for (vip, endpoint), counted in self._traffic.items():
            if vip in services:  # others' address translations are counted, too
                host = names.get(vip.address, spell(vip.address))
                words = (f"{host}:{vip.port}", str(vip.address), str(vip.protocol), str(endpoint))
                connections.add_metric(words, counted.connections)
        return connections
