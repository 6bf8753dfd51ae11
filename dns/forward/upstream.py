"""Which upstreams to ask: the ones that answered last, quickest first; pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError

PORT = 53
HALF_LIFE_SECONDS = 30.0  # of the memory of a failure
UNKNOWN_RTT_SECONDS = 0.05  # until an upstream has answered: worth a try
RTT_GAIN = 0.25
PROBE_SECONDS = 5.0  # after its last try a failing upstream gets one question more


class Standing(NamedTuple):
    """What we remember of one upstream, as of the time *at*."""

    failures: float = 0.0
    rtt_seconds: float = UNKNOWN_RTT_SECONDS
    at: float = 0.0

    def failures_at(self, now: float) -> float:
        """Return the failures, faded by the time that has passed."""
        return self.failures * math.exp2((self.at - now) / HALF_LIFE_SECONDS)

    def succeeded(self, rtt_seconds: float, now: float) -> "Standing":
        """Return the standing after an answer: old failures are forgiven."""
        rtt = self.rtt_seconds + RTT_GAIN * (rtt_seconds - self.rtt_seconds)
        return Standing(0.0, rtt, now)

    def failed(self, now: float) -> "Standing":
        """Return the standing after a timeout, an error or a refusal."""
        return Standing(self.failures_at(now) + 1.0, self.rtt_seconds, now)


NEW = Standing()


def ranked(
    upstreams: Iterable[HostPort], standings: Mapping[HostPort, Standing], now: float
) -> Sequence[HostPort]:
    """Return the upstreams from best to worst; equal ones in the order given.

    Less than half a failure counts as none, so one mishap is forgotten after
    one half-life.
    """

    def rank(upstream: HostPort) -> tuple[int, float]:
        standing = standings.get(upstream, NEW)
        return round(standing.failures_at(now)), standing.rtt_seconds

    return sorted(upstreams, key=rank)


def probe_due(
    upstreams: Iterable[HostPort], standings: Mapping[HostPort, Standing], now: float
) -> HostPort | None:
    """Return the failing upstream that has been left alone for longest, if for long enough."""
    waiting = [
        (standings[upstream].at, upstream)
        for upstream in upstreams
        if upstream in standings
        and standings[upstream].failures_at(now) >= 0.5
        and now - standings[upstream].at >= PROBE_SECONDS
    ]
    return min(waiting)[1] if waiting else None


def parse_upstream(text: str) -> HostPort:
    """Return the upstream that ``ADDRESS`` or ``ADDRESS:PORT`` names; raises ConfigError."""
    host, colon, port = text.partition(":")
    try:
        IPv4Address(host)
        number = int(port) if colon else PORT
    except (AddressValueError, ValueError) as error:
        raise ConfigError(f"upstream: {text!r} is not ADDRESS or ADDRESS:PORT") from error
    if not 0 < number < 65536:
        raise ConfigError(f"upstream: {text!r}: {number} is not a port")
    return HostPort(host, number)
