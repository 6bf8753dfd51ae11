"""A flood from one source beside a client that asks within its share; dnsmasq and unbound, too."""

import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from claim import Bound, Figure
from resolvers import Measured, Resolver, app_names, dnsmasq, dnsperf, ours, unbound, write_queries

SECONDS = 6
SHARE = 5000  # queries a second that one address may ask
ADDRESSES = 2  # from which it floods; each fills the server's queue by itself


def measure() -> Sequence[Figure]:
    """Flood from an address as fast as one core sends, and ask 1,000 a second from another."""
    with tempfile.TemporaryDirectory() as place:
        queries = write_queries(Path(place) / "few", app_names(10))
        fair = _modest(ours(10), queries)
        limited = _modest(ours(10, rate=SHARE), queries)
        masq = _modest(dnsmasq(10), queries)
        bound = _modest(unbound(Path(place), 10), queries)
    best = min((masq, bound), key=_late)
    least, most = Bound.OURS_AT_LEAST, Bound.OURS_AT_MOST
    return [
        Figure("answered to the modest client", "%", _answered(fair), least, 99.0, _answered(best)),
        Figure("its latency, 99 %", "ms", _late(fair), most, 20.0, _late(best)),
        Figure("with a rate limit: answered", "%", _answered(limited), least, 99.0),
        Figure("with a rate limit: latency, 99 %", "ms", _late(limited), most, 20.0),
    ]


def _modest(server: AbstractContextManager[Resolver], queries: Path) -> Measured:
    """Return what the modest client saw beside the flood.

    Both share a core, so the flood yields to it: what counts is the server's queue.
    """
    with server as found, ThreadPoolExecutor(ADDRESSES) as pool:
        floods = [
            pool.submit(
                dnsperf, found.port, queries, seconds=SECONDS + 2, at_once=20_000,
                source=f"127.0.0.{2 + number}", niceness=10,
            )
            for number in range(ADDRESSES)
        ]  # fmt: skip
        seen = dnsperf(found.port, queries, seconds=SECONDS, per_second=1000, source="127.0.0.9")
        for flood in floods:
            flood.result()
    return seen


def _answered(seen: Measured) -> float:
    return seen.answered / (seen.answered + seen.lost) * 100


def _late(seen: Measured) -> float:
    return seen.quantile(0.99) * 1e3
