"""Own names against dnsmasq and unbound: queries a second, CPU a query, latency, many names."""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from claim import Bound, Figure
from resolvers import Measured, Resolver, app_names, dnsmasq, dnsperf, ours, unbound, write_queries

SECONDS = 4
TURNS = 2  # of each server, one after the other, so that all see the same noise
FEW, MANY = 10, 100_000


def measure() -> Sequence[Figure]:
    """Ask each server for the same ten names, one core for it and one for dnsperf."""
    with tempfile.TemporaryDirectory() as place:
        queries = write_queries(Path(place) / "few", app_names(FEW))
        turns = [
            (
                _fast(ours(FEW), queries),
                _fast(dnsmasq(FEW), queries),
                _fast(unbound(Path(place), FEW), queries),
                _fast(ours(MANY), queries),
            )
            for _ in range(TURNS)
        ]
        calm, calm_masq = _calm(ours(FEW), queries), _calm(dnsmasq(FEW), queries)
    own, masq, bound, many = (_best(each) for each in zip(*turns, strict=True))
    least, most = Bound.RATIO_AT_LEAST, Bound.OURS_AT_MOST
    half, nearly_all = (calm.quantile(part) * 1e6 for part in (0.5, 0.99))
    masq_half, masq_nearly_all = (calm_masq.quantile(part) * 1e6 for part in (0.5, 0.99))
    ratio = Bound.RATIO_AT_MOST
    return [
        Figure("queries a second; dnsmasq", "1/s", own[0], least, 0.9, masq[0]),
        Figure("queries a second; unbound", "1/s", own[0], least, 0.8, bound[0]),
        Figure("CPU a query; dnsmasq", "µs", own[1], most, 6.0, masq[1]),
        Figure("100,000 names; 10 names", "1/s", many[0], least, 0.95, own[0]),
        Figure("CPU a query, 100,000 names; 10 names", "µs", many[1], ratio, 1.05, own[1]),
        Figure("latency at 1,000/s, median; dnsmasq", "µs", half, most, 150, masq_half),
        Figure("latency at 1,000/s, 99 %; dnsmasq", "µs", nearly_all, most, 1000, masq_nearly_all),
    ]


def _calm(server: AbstractContextManager[Resolver], queries: Path) -> Measured:
    """Return what dnsperf saw while it asked 1,000 queries a second."""
    with server as found:
        return dnsperf(found.port, queries, seconds=SECONDS, per_second=1000)


def _best(turns: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the highest rate and the least CPU time of several turns, whoever was noisy."""
    return max(rate for rate, _ in turns), min(cpu for _, cpu in turns)


def _fast(server: AbstractContextManager[Resolver], queries: Path) -> tuple[float, float]:
    """Return queries a second at full speed, and the server's CPU time a query in µs."""
    with server as found:
        dnsperf(found.port, queries, seconds=1)
        before = found.cpu_seconds()
        seen = dnsperf(found.port, queries, seconds=SECONDS)
        return seen.per_second, (found.cpu_seconds() - before) / seen.answered * 1e6
