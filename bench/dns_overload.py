"""A flood from one source beside a client that asks within its share."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from claim import Bound, Figure
from resolvers import app_names, dnsperf, ours, write_queries

SECONDS = 6
SHARE = 5000  # queries a second that one address may ask


def measure() -> Sequence[Figure]:
    """Flood from one address as fast as one core sends, and ask 1,000 a second from another."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(1) as pool:
        queries = write_queries(Path(place) / "few", app_names(10))
        with ours(10, rate=SHARE) as server:
            flood = pool.submit(
                dnsperf, server.port, queries, seconds=SECONDS + 2, at_once=50_000,
                source="127.0.0.2",
            )  # fmt: skip
            modest = dnsperf(
                server.port, queries, seconds=SECONDS, per_second=1000, source="127.0.0.3"
            )
            flood.result()
    answered = modest.answered / (modest.answered + modest.lost) * 100
    return [
        Figure("answered to the modest client", "%", answered, Bound.OURS_AT_LEAST, 99.0),
        Figure("its latency, 99 %", "ms", modest.quantile(0.99) * 1e3, Bound.OURS_AT_MOST, 20.0),
    ]
