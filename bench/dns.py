"""Own names against dnsmasq and unbound: queries a second, CPU a query, latency, many names."""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from claim import Bound, Figure
from resolvers import Measured, Resolver, app_names, dnsmasq, dnsperf, ours, unbound, write_queries

SECONDS = 5
FEW, MANY = 10, 100_000


def measure() -> Sequence[Figure]:
    """Ask each server for the same ten names, one core for it and one for dnsperf."""
    with tempfile.TemporaryDirectory() as place:
        queries = write_queries(Path(place) / "few", app_names(FEW))
        own, cpu = _fast(ours(FEW), queries)
        masq, masq_cpu = _fast(dnsmasq(FEW), queries)
        bound, _ = _fast(unbound(Path(place), FEW), queries)
        again, _ = _fast(ours(FEW), queries)
        many, _ = _fast(ours(MANY), queries)
        calm, calm_masq = _calm(ours(FEW), queries), _calm(dnsmasq(FEW), queries)
    rate = max(own.per_second, again.per_second)
    least, most = Bound.RATIO_AT_LEAST, Bound.OURS_AT_MOST
    half, nearly_all = (calm.quantile(part) * 1e6 for part in (0.5, 0.99))
    masq_half, masq_nearly_all = (calm_masq.quantile(part) * 1e6 for part in (0.5, 0.99))
    loaded = many.per_second
    return [
        Figure("queries a second; dnsmasq", "1/s", rate, least, 0.9, masq.per_second),
        Figure("queries a second; unbound", "1/s", rate, least, 0.8, bound.per_second),
        Figure("CPU a query; dnsmasq", "µs", cpu, most, 6.0, masq_cpu),
        Figure("100,000 names; 10 names", "1/s", loaded, least, 0.95, again.per_second),
        Figure("latency at 1,000/s, median; dnsmasq", "µs", half, most, 150, masq_half),
        Figure("latency at 1,000/s, 99 %; dnsmasq", "µs", nearly_all, most, 1000, masq_nearly_all),
    ]


def _calm(server: AbstractContextManager[Resolver], queries: Path) -> Measured:
    """Return what dnsperf saw while it asked 1,000 queries a second."""
    with server as found:
        return dnsperf(found.port, queries, seconds=SECONDS, per_second=1000)


def _fast(server: AbstractContextManager[Resolver], queries: Path) -> tuple[Measured, float]:
    """Return what dnsperf saw at full speed, and the server's CPU time a query in µs."""
    with server as found:
        dnsperf(found.port, queries, seconds=1)
        before = found.cpu_seconds()
        seen = dnsperf(found.port, queries, seconds=SECONDS)
        return seen, (found.cpu_seconds() - before) / seen.answered * 1e6
