"""What can be chosen about the names of a cluster; the defaults are right by the RFCs."""

from dataclasses import dataclass
from typing import Literal, get_args

from phalanx.core.error import ConfigError
from phalanx.dns.zones.hostname import is_domain
from phalanx.dns.zones.record import NEGATIVE_TTL_SECONDS, TTL_SECONDS

Source = Literal["netinfo", "mesos", "docker", "host"]
SOURCES: tuple[str, ...] = get_args(Source)


@dataclass(frozen=True, slots=True)
class ZoneSettings:
    """Settings of all zones of a cluster (reference dns §1.7).

    *sources* says whose addresses a task's names in the Mesos zone lead to:
    the first of them that has any. What the containerizers report, whichever
    of the three names it has, has reached the View as one list. *is_compat*
    answers the Mesos zone as Mesos-DNS did where that is against the RFCs.
    """

    domain: str = "mesos"
    ttl_seconds: int = TTL_SECONDS
    negative_ttl_seconds: int = NEGATIVE_TTL_SECONDS
    sources: tuple[str, ...] = ("netinfo", "mesos", "host")
    enforces_rfc952: bool = False
    prefers_healthy: bool = True
    is_compat: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that can't be used."""
        if not is_domain(self.domain):
            raise ConfigError(f"dns domain: {self.domain!r} is not labels joined by dots")
        for name in ("ttl_seconds", "negative_ttl_seconds"):
            if not 0 <= getattr(self, name) < 2**31:
                raise ConfigError(f"dns {name}: {getattr(self, name)} is not 0 to 2^31-1")
        if not self.sources or len(set(self.sources)) != len(self.sources):
            raise ConfigError(f"dns sources: {self.sources!r} is empty or repeats itself")
        if unknown := [source for source in self.sources if source not in SOURCES]:
            raise ConfigError(f"dns sources: {unknown[0]!r} is none of {', '.join(SOURCES)}")

    @property
    def apex(self) -> str:
        """Return the apex of the Mesos zone."""
        return f"{self.domain}."

    @property
    def is_host_first(self) -> bool:
        """Tell whether the agent's address comes before the task's own."""
        return self.sources[0] == "host"

    @property
    def has_host(self) -> bool:
        """Tell whether a task without an own address is found at its agent."""
        return "host" in self.sources


DEFAULTS = ZoneSettings()
