"""The settings of the allocator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phalanx.master.allocator.constraint import RegexLimits
from phalanx.master.allocator.sorter import DRF
from phalanx.mesos.resources import Resources


@dataclass(frozen=True, slots=True)
class Rules:
    """What shapes offers.

    *minimums* are alternatives, thousandths by name, of which an offer must
    hold one; *unfair* are names that don't count for shares; *region* is the
    master's.
    """

    minimums: Sequence[Mapping[str, int]] = ()
    role_sorter: str = DRF
    framework_sorter: str = DRF
    unfair: frozenset[str] = frozenset()
    filters_gpus: bool = True
    region: str | None = None
    regex: RegexLimits = field(default_factory=RegexLimits)


@dataclass(frozen=True, slots=True)
class Timing:
    """When the allocator does what; seconds.

    *recovery_share* of the agents that a new leader knows of must be back
    before offers are made in a cluster with quota, at most *recovery_seconds*.
    """

    interval: float = 1.0
    offer_seconds: float | None = None
    recovery_share: float = 0.8
    recovery_seconds: float = 600.0


def quantities(text: str) -> tuple[Mapping[str, int], ...]:
    """Parse ``cpus:0.01|mem:32``, alternatives of least resources; raise InvalidError."""
    return tuple(Resources.parse(part).scalars for part in text.split("|") if part.strip())
