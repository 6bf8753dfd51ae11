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

SECONDS = 4
TURNS = 2  # of each server, one after the other, so that all see the same noise
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
            turns = [
                (
                    _rate(ours(10, *ports), cold),
                    _rate(dnsmasq(10, *ports, races=True), cold),
                    _rate(dnsmasq(10, *ports), cold),
                    _rate(ours(10, *ports), warm),
                    _rate(ours(10, *ports), own),
                )
                for _ in range(TURNS)
            ]
    cold_, racing, alone, warm_, own_ = (_best(each) for each in zip(*turns, strict=True))
    least, most = Bound.RATIO_AT_LEAST, Bound.RATIO_AT_MOST
    return [
        Figure("cold cache; dnsmasq racing, too", "1/s", cold_[0], least, 1.0, racing[0]),
        Figure("cold cache; dnsmasq asking one", "1/s", cold_[0], least, 1.0, alone[0]),
        Figure("CPU a lookup; dnsmasq racing, too", "µs", cold_[1], most, 1.0, racing[1]),
        Figure("warm cache, queries a second; own names", "1/s", warm_[0], least, 0.9, own_[0]),
        Figure("warm cache, CPU a query; own names", "µs", warm_[1], most, 1.11, own_[1]),
    ]


def _best(turns: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the highest rate and the least CPU time of several turns, whoever was noisy."""
    return max(rate for rate, _ in turns), min(cpu for _, cpu in turns)


def _rate(server: AbstractContextManager[Resolver], queries: Path) -> tuple[float, float]:
    """Return queries a second, and the server's CPU time a query in µs."""
    with server as found:
        before = found.cpu_seconds()
        seen = dnsperf(found.port, queries, seconds=SECONDS)
        return seen.per_second, (found.cpu_seconds() - before) / seen.answered * 1e6
