"""Metrics of the load balancer, in Prometheus' text, rendered beside the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import suppress

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from phalanx.core.error import DataplaneError
from phalanx.lb.problem import names_by_address
from phalanx.lb.service import Endpoint, Service, Vip, spell
from phalanx.lb.traffic import ReadTraffic, Traffic
from phalanx.net.model.objects import VipLease
from phalanx.net.model.view import View

CONNECTIONS = "phalanx_lb_connections"
BYTES = "phalanx_lb_bytes"


class LbMetrics:
    """Turns what the data plane holds, and what the kernel counted, into text.

    With 10,000 VIPs the library takes most of a second for the samples of their
    backends, in which names must be answered: a thread writes them, and remembers
    the labels of a sample.
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
        self._named: Mapping[str, VipLease] = {}
        self._samples: dict[tuple[Vip, Endpoint], str] = {}  # labels, with that naming
        self._writing = asyncio.Lock()

    async def text(self) -> bytes:
        """Return VIPs and backends by state, label problems, connections by VIP and backend.

        When the kernel refuses to tell its counters, the last ones stay.
        """
        async with self._writing:
            with suppress(DataplaneError):  # logged by the pass that repairs it
                self._traffic = await self._read_traffic()
            view, services, problems = self._view(), self._services(), len(self._problems())
            return await asyncio.to_thread(self._render, view, services, problems)

    def _render(self, view: View, services: Mapping[Vip, Service], problems: int) -> bytes:
        registry = CollectorRegistry()
        registry.register(_States(services, problems))
        return generate_latest(registry) + "".join(self._connections(view, services)).encode()

    def _connections(self, view: View, services: Mapping[Vip, Service]) -> Iterator[str]:
        if view.vips is not self._named:
            self._named, self._samples = view.vips, {}
        names = names_by_address(view)
        before, self._samples = self._samples, {}
        volumes: list[str] = []
        yield f"# HELP {CONNECTIONS}_total Connections begun on this node, by VIP and backend.\n"
        yield f"# TYPE {CONNECTIONS}_total counter\n"
        for key, counted in self._traffic.items():
            vip, endpoint = key
            if vip not in services:  # others' address translations are counted, too
                continue
            labels = before.get(key) or _labels(names.get(vip.address), vip, endpoint)
            self._samples[key] = labels
            yield f"{CONNECTIONS}_total{{{labels}}} {counted.connections}.0\n"
            for direction, size in (("in", counted.bytes_in), ("out", counted.bytes_out)):
                if size is not None:
                    volumes.append(f'{BYTES}_total{{{labels},direction="{direction}"}} {size}.0\n')
        yield f"# HELP {BYTES}_total Bytes to and from backends on this node, where counted.\n"
        yield f"# TYPE {BYTES}_total counter\n"
        yield from volumes


def _labels(name: str | None, vip: Vip, endpoint: Endpoint) -> str:
    """Return the labels of a VIP's backend; nothing in them needs an escape."""
    host = f"{name or spell(vip.address)}:{vip.port}"
    return f'address="{vip.address}",backend="{endpoint}",protocol="{vip.protocol}",vip="{host}"'


class _States(Collector):
    """VIPs and backends by state, and label problems."""

    def __init__(self, services: Mapping[Vip, Service], problems: int) -> None:
        self._services = services
        self._problems = problems

    def collect(self) -> Iterable[Metric]:
        services = self._services.values()
        states = Counter("refusing" if each.is_refused else "serving" for each in services)
        vips = GaugeMetricFamily(
            "phalanx_lb_vips", "VIPs, by whether anybody serves them.", labels=("state",)
        )
        for state in ("serving", "refusing"):
            vips.add_metric((state,), states[state])
        yield vips
        weights = Counter(
            "drained" if backend.weight == 0 else "eligible"
            for each in services
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
            self._problems,
        )
