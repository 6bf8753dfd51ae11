"""One worker and two, on every core: queries a second, and CPU a query."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from claim import Bound, Figure
from resolvers import ANY_CPU, app_names, dnsperf, ours, write_queries

SECONDS = 4
TURNS = 2
PORTS = 64  # of the client: the kernel chooses a worker by address and port


def measure() -> Sequence[Figure]:
    """Ask from many ports; server and client share all cores."""
    with tempfile.TemporaryDirectory() as place:
        queries = write_queries(Path(place) / "few", app_names(10))
        turns = [(_fast(1, queries), _fast(2, queries)) for _ in range(TURNS)]
    one, two = zip(*turns, strict=True)
    least, most = Bound.RATIO_AT_LEAST, Bound.RATIO_AT_MOST
    rates = [max(rate for rate, _ in each) for each in (two, one)]
    costs = [min(cost for _, cost in each) for each in (two, one)]
    return [
        Figure("two workers; one", "1/s", rates[0], least, 1.0, rates[1]),
        Figure("CPU a query, two workers; one", "µs", costs[0], most, 1.25, costs[1]),
    ]


def _fast(workers: int, queries: Path) -> tuple[float, float]:
    """Return queries a second, and the servers' CPU time a query in µs."""
    with ours(10, workers=workers, cpu=ANY_CPU) as found:
        dnsperf(found.port, queries, seconds=2, ports=PORTS, cpu=ANY_CPU)
        before = found.cpu_seconds()
        seen = dnsperf(found.port, queries, seconds=SECONDS, ports=PORTS, cpu=ANY_CPU)
        return seen.per_second, (found.cpu_seconds() - before) / seen.answered * 1e6
