"""Why an app still waits: what became of the offers since it began to."""

from collections import Counter
from dataclasses import dataclass, field

from phalanx.marathon.schedule.match import Reason, Rejection


@dataclass
class Tally:
    """Counts of offers for one waiting app; *latest* has the last refusal of each agent."""

    since: float
    turn: int = 0  # the number of the last batch of offers that the app had a share of
    processed: int = 0
    unused: int = 0
    last_unused_at: float | None = None
    last_used_at: float | None = None
    reasons: Counter[Reason] = field(default_factory=Counter)
    latest: dict[str, tuple[Rejection, float]] = field(default_factory=dict)

    def used(self, now: float) -> None:
        """Count an offer that did."""
        self.processed += 1
        self.last_used_at = now

    def refused(self, rejection: Rejection, now: float) -> None:
        """Count an offer that did not."""
        self.processed += 1
        self.unused += 1
        self.last_unused_at = now
        self.reasons[rejection.reason] += 1
        self.latest[rejection.offer.agent_id.value] = rejection, now
