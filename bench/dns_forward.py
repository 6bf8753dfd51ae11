"""Names of others: a cold cache with two upstreams against dnsmasq, and a warm one."""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from claim import Bound, Figure
from resolvers import (
    CLIENT_CPU,
    Resolver,
    app_names,
    dnsmasq,
    dnsperf,
    ours,
    unbound,
    write_queries,
)

SECONDS = 5
DIFFERENT = 400_000  # names: more than any server asks for in the time


def measure() -> Sequence[Figure]:
    """Forward to two unbounds, which share a core with dnsperf.

    That core is what bounds the rate, so who asks both of them, as a race must,
    is set beside a dnsmasq that does so, too.
    """
    with tempfile.TemporaryDirectory() as text:
        place = Path(text)
        cold = write_queries(place / "cold", (f"n{n}.example" for n in range(DIFFERENT)))
        warm = write_queries(place / "warm", (f"w{n}.example" for n in range(10)))
        own = write_queries(place / "own", app_names(10))
        with unbound(place, cpu=CLIENT_CPU) as one, unbound(place, cpu=CLIENT_CPU) as two:
            ports = (one.port, two.port)
            ours_cold, cpu = _rate(ours(10, *ports), cold)
            peer_cold, peer_cpu = _rate(dnsmasq(10, *ports, races=True), cold)
            alone_cold, _ = _rate(dnsmasq(10, *ports), cold)
            ours_warm, _ = _rate(ours(10, *ports), warm)
            ours_own, _ = _rate(ours(10, *ports), own)
    least = Bound.RATIO_AT_LEAST
    return [
        Figure("cold cache; dnsmasq racing, too", "1/s", ours_cold, least, 1.0, peer_cold),
        Figure("cold cache; dnsmasq asking one", "1/s", ours_cold, least, 1.0, alone_cold),
        Figure("CPU a lookup; dnsmasq", "µs", cpu, Bound.RATIO_AT_MOST, 1.0, peer_cpu),
        Figure("warm cache, queries a second; own names", "1/s", ours_warm, least, 0.9, ours_own),
    ]


def _rate(server: AbstractContextManager[Resolver], queries: Path) -> tuple[float, float]:
    """Return queries a second, and the server's CPU time a query in µs."""
    with server as found:
        before = found.cpu_seconds()
        seen = dnsperf(found.port, queries, seconds=SECONDS)
        return seen.per_second, (found.cpu_seconds() - before) / seen.answered * 1e6
