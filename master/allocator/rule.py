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
    """Seconds: between two runs at rest, that an offer may be held, between looks at the whitelist.

    Without *offer_seconds* an offer may be held for ever.
    """

    interval: float = 1.0
    offer_seconds: float | None = None
    whitelist_seconds: float = 5.0


def quantities(text: str) -> tuple[Mapping[str, int], ...]:
    """Parse ``cpus:0.01|mem:32``, alternatives of least resources; raise InvalidError."""
    return tuple(Resources.parse(part).scalars for part in text.split("|") if part.strip())
