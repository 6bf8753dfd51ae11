"""Which upstreams to ask: the ones that answered last, quickest first; pure."""

import math
from collections.abc import Hashable, Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple, TypeVar

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

Which = TypeVar("Which", bound=Hashable)


def ranked(upstreams: Mapping[Which, Standing], now: float) -> Sequence[Which]:
    """Return the upstreams from best to worst; equal ones in the order given.

    Less than half a failure counts as none, so one mishap is forgotten after
    one half-life.
    """

    def rank(upstream: Which) -> tuple[int, float]:
        standing = upstreams[upstream]
        return round(standing.failures_at(now)), standing.rtt_seconds

    return sorted(upstreams, key=rank)


def probe_due(upstreams: Mapping[Which, Standing], now: float) -> Which | None:
    """Return the failing upstream that has been left alone for longest, if for long enough."""
    waiting = [
        upstream
        for upstream, standing in upstreams.items()
        if standing.failures_at(now) >= 0.5 and now - standing.at >= PROBE_SECONDS
    ]
    return min(waiting, key=lambda upstream: upstreams[upstream].at, default=None)


def parse_upstream(text: str) -> HostPort:
    """Return the upstream that ``ADDRESS``, ``IPV4:PORT`` or ``[IPV6]:PORT`` names.

    Raises ConfigError.
    """
    host, port = text, str(PORT)
    if text.startswith("["):
        host, _, port = text.removeprefix("[").partition("]:")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address, number = ip_address(host), int(port)
    except ValueError as error:
        raise ConfigError(f"upstream: {text!r} is not ADDRESS or ADDRESS:PORT") from error
    if not 0 < number < 65536:
        raise ConfigError(f"upstream: {text!r}: {number} is not a port")
    return HostPort(str(address), number)
