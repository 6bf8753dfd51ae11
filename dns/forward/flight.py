"""What is under way to upstreams: one flight a question, whoever waits for it."""

from collections.abc import Callable, Sequence

from phalanx.dns.answer.query import Query
from phalanx.dns.forward.message import Key, question_of
from phalanx.dns.forward.ports import Ports
from phalanx.dns.forward.upstream import ranked

RANKED_SECONDS = 0.05  # for which an order of upstreams holds, unless one fails

Done = Callable[[bytes, bytes], None]  # gets what it was given with, and the reply


class Upstream(Ports["Flight"]):
    """A name server of others."""

    leads_back = False  # what we ask it comes to us again


class Group:
    """The upstreams of some names, in the order in which they are asked now."""

    __slots__ = ("order", "until", "upstreams")

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        self.upstreams = upstreams
        self.order: Sequence[Upstream] = ()
        self.until = -1.0

    def order_at(self, now: float) -> Sequence[Upstream]:
        """Return them from best to worst, without those that lead back to us."""
        if not now < self.until <= now + RANKED_SECONDS:
            self.order = ranked(
                {each: each.standing for each in self.upstreams if not each.leads_back}, now
            )
            self.until = now + RANKED_SECONDS
        return self.order


class Flight:
    """One question under way to upstreams, and whoever waits for it."""

    __slots__ = ("is_over", "key", "left", "order", "question", "turn", "waiting")

    def __init__(self, key: Key, question: bytes) -> None:
        self.key = key
        self.question = question
        self.order: Sequence[Upstream] = ()
        self.turn = 0
        self.left = 0  # racers of this turn that may still answer
        self.is_over = False
        self.waiting: list[tuple[Query, int, bytes, Done, bytes]] = []


def bystander(key: Key) -> Flight:
    """Return a flight that nobody waits for: it only counts for an upstream's standing."""
    flight = Flight(key, question_of(key))
    flight.is_over = True
    return flight
