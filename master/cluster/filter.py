"""Offer filters: what a framework declined stays away for a while (reference mesos §1.5).

Ten thousand agents by two hundred frameworks may hold two million filters, so
they are kept by agent and by what was refused: the clients that refused the
same are the bits of one number, and an agent that everybody refused is passed
over by one comparison.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from phalanx.mesos.resources import Resources

DEFAULT_SECONDS = 5.0
GREATEST_SECONDS = 31_536_000.0
MOST_PASSES = 4  # different resources of one agent, of which it is known who did not want them

Refused = tuple[Resources, int]  # what, and the bits of the clients that refuse it
ClientKey = tuple[str, str]  # framework id and role


def refusal_seconds(seconds: float | None, *, interval: float) -> float | None:
    """Return how long a decline's filter lives, None for no filter.

    Zero asks for none; less, or no number, is taken as 5 s; a filter lives at
    least one allocation interval and at most a year.
    """
    wanted = DEFAULT_SECONDS if seconds is None else seconds
    if math.isnan(wanted) or wanted < 0:
        wanted = DEFAULT_SECONDS
    if wanted == 0:
        return None
    return max(min(wanted, GREATEST_SECONDS), interval)


@dataclass(slots=True, eq=False)
class _Bucket:
    """The clients that refused the same resources of one agent, and until when each did."""

    refused: Resources
    until: dict[int, float] = field(default_factory=dict)
    mask: int = 0
    earliest: float = math.inf


class FilterTable:
    """Every live filter of every agent.

    A client, a framework in one role, is a bit: ``1 << slot``. A slot is given
    at its first use and taken back when its client is forgotten.
    """

    def __init__(self) -> None:
        self._slots: dict[ClientKey, int] = {}
        self._unused: list[int] = []
        self._buckets: dict[str, list[_Bucket]] = {}
        self._views: dict[str, tuple[Refused, ...]] = {}
        self._agents: defaultdict[int, set[str]] = defaultdict(set)  # where a slot has filters
        self._passed: dict[str, tuple[Refused, ...]] = {}
        self._inverse: dict[tuple[str, str], float] = {}

    def slot(self, framework_id: str, role: str) -> int:
        """Return the number of a client's bit."""
        key = framework_id, role
        slot = self._slots.get(key)
        if slot is None:
            slot = self._unused.pop() if self._unused else len(self._slots)
            self._slots[key] = slot
        return slot

    def refuse(
        self,
        client: ClientKey,
        agent_id: str,
        refused: Resources,
        until: float | None,
        *,
        is_pass: bool = True,
    ) -> None:
        """Keep *refused* of an agent, or less, from a client *until* a time; None for no filter.

        With *is_pass* the client wanted nothing of the offer: whoever else may
        have as much of the agent, or less, comes before it the next time.
        Without, it used some of it: everybody's turn at the agent begins anew.
        """
        slot = self.slot(*client)
        bit = 1 << slot
        if is_pass:
            self._passed[agent_id] = _with_pass(self._passed.get(agent_id, ()), refused, bit)
        else:
            self._passed.pop(agent_id, None)
        if until is None or not refused:
            return
        buckets = self._buckets.setdefault(agent_id, [])
        home = None
        for bucket in list(buckets):
            if bucket.refused is refused or bucket.refused == refused:
                home = bucket
            elif bucket.mask & bit and bucket.until[slot] <= until and bucket.refused in refused:
                self._forget(agent_id, bucket, slot)  # the new one covers it
        if home is None:
            home = _Bucket(refused)
            self._buckets.setdefault(agent_id, buckets).append(home)
        home.until[slot] = max(until, home.until.get(slot, 0.0))
        home.mask |= bit
        home.earliest = min(home.earliest, until)
        self._agents[slot].add(agent_id)
        self._views.pop(agent_id, None)

    def view(self, agent_id: str, now: float) -> tuple[Refused, ...]:
        """Return what is refused of an agent now; the same object while nothing changes."""
        buckets = self._buckets.get(agent_id)
        if buckets is None:
            return ()
        for bucket in list(buckets):
            if bucket.earliest <= now:
                self._expire(agent_id, bucket, now)
        found = self._views.get(agent_id)
        if found is None:
            found = tuple((b.refused, b.mask) for b in self._buckets.get(agent_id, ()))
            self._views[agent_id] = found
        return found

    def passed(self, agent_id: str) -> tuple[Refused, ...]:
        """Return what was wanted by whom not at all in the latest offers of an agent.

        The same object while nothing changes.
        """
        return self._passed.get(agent_id, ())

    def begin_anew(self, agent_id: str) -> None:
        """Let nobody stand behind the others at an agent any more."""
        self._passed.pop(agent_id, None)

    def active(self) -> Counter[str]:
        """Return the number of live filters by role."""
        active: Counter[str] = Counter()
        for (_, role), slot in self._slots.items():
            active[role] += len(self._agents.get(slot, ()))
        return active

    # Inverse offers

    def refuse_inverse(self, framework_id: str, agent_id: str, until: float | None) -> None:
        """Ask a framework no more to leave an agent *until* a time."""
        if until is not None:
            self._inverse[framework_id, agent_id] = until

    def blocks_inverse(self, framework_id: str, agent_id: str, now: float) -> bool:
        """Tell whether a framework must not be asked to leave an agent now."""
        until = self._inverse.get((framework_id, agent_id))
        if until is not None and until <= now:
            del self._inverse[framework_id, agent_id]
            return False
        return until is not None

    # Forgetting

    def revive(self, framework_id: str, roles: Iterable[str]) -> None:
        """Drop a framework's filters in some of its roles."""
        for role in roles:
            slot = self._slots.get((framework_id, role))
            if slot is not None:
                self._clear(slot)

    def forget_framework(self, framework_id: str) -> None:
        """Drop a framework's filters in every role, and its bits."""
        for key in [key for key in self._slots if key[0] == framework_id]:
            slot = self._slots[key]
            self._clear(slot)
            del self._slots[key]
            self._unused.append(slot)
        self._inverse = {k: v for k, v in self._inverse.items() if k[0] != framework_id}

    def forget_agent(self, agent_id: str) -> None:
        """Drop every filter of an agent's resources."""
        for bucket in self._buckets.pop(agent_id, ()):
            for slot in bucket.until:
                self._agents[slot].discard(agent_id)
        self._views.pop(agent_id, None)
        self._passed.pop(agent_id, None)
        self._inverse = {k: v for k, v in self._inverse.items() if k[1] != agent_id}

    def _clear(self, slot: int) -> None:
        for agent_id in self._agents.pop(slot, ()):
            for bucket in list(self._buckets.get(agent_id, ())):
                if slot in bucket.until:
                    self._forget(agent_id, bucket, slot)
        bit = 1 << slot
        for agent_id, passed in self._passed.items():
            if any(mask & bit for _, mask in passed):
                self._passed[agent_id] = tuple((what, mask & ~bit) for what, mask in passed)

    def _expire(self, agent_id: str, bucket: _Bucket, now: float) -> None:
        for slot in [slot for slot, until in bucket.until.items() if until <= now]:
            self._forget(agent_id, bucket, slot)
        bucket.earliest = min(bucket.until.values(), default=math.inf)

    def _forget(self, agent_id: str, bucket: _Bucket, slot: int) -> None:
        """Take a client out of a bucket, and the bucket out when it was its last."""
        del bucket.until[slot]
        bucket.mask &= ~(1 << slot)
        self._views.pop(agent_id, None)
        buckets = self._buckets[agent_id]
        if not bucket.until:
            buckets.remove(bucket)
        if not any(slot in other.until for other in buckets):
            self._agents[slot].discard(agent_id)
        if not buckets:
            del self._buckets[agent_id]


def _with_pass(passed: tuple[Refused, ...], refused: Resources, bit: int) -> tuple[Refused, ...]:
    others = []
    for what, mask in passed:
        if what is refused or what == refused:
            bit |= mask
        else:
            others.append((what, mask))
    return (*others[1 - MOST_PASSES :], (refused, bit))
