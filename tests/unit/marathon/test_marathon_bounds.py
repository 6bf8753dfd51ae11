"""Rolling upgrades keep their bounds, whatever fails on the way."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.marathon.test_marathon_schedule import app_of, ids, new, old

from phalanx.marathon.model.instance import Condition
from phalanx.marathon.schedule.status import next_incarnation
from phalanx.marathon.schedule.verdict import Verdict, restarting

if TYPE_CHECKING:
    from phalanx.marathon.model.app import App
    from phalanx.marathon.model.instance import Instance

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["launch", "run", "heal", "sicken", "fail", "gone", "decide"]),
        st.integers(min_value=0, max_value=30),
    ),
    max_size=60,
)
CAPACITY = st.sampled_from([0.0, 0.25, 0.5, 0.8, 1.0])


class Fleet:
    """The instances of one app: what is decided for them, and what befalls them."""

    def __init__(self, app: App, before: int, ahead: int) -> None:
        self.app = app
        self._number = before + ahead
        found = [*old(*range(before)), *new(*range(before, self._number))]
        self.instances: dict[str, Instance] = {i.id: i for i in found}
        self.healthy = set(self.instances)

    def befall(self, event: str, number: int) -> None:
        """Let one instance get along, or fail."""
        found = list(self.instances.values())
        if not found:
            return
        instance = found[number % len(found)]
        condition = instance.condition
        if event == "launch" and condition is Condition.SCHEDULED:
            self._put(instance, Condition.STAGING)
        elif event == "run" and condition is Condition.STAGING:
            self._put(instance, Condition.RUNNING)
        elif event == "heal" and condition is Condition.RUNNING:
            self.healthy.add(instance.id)
        elif event == "sicken":
            self.healthy.discard(instance.id)
        elif event == "fail" and instance.is_wanted and condition is not Condition.SCHEDULED:
            self.healthy.discard(instance.id)
            self.instances[instance.id] = next_incarnation(instance, 0.0)
        elif event == "gone" and not instance.is_wanted:
            self.healthy.discard(instance.id)
            del self.instances[instance.id]

    def decide(self) -> Verdict:
        """Carry out the verdict as the engine does, if it keeps the bounds."""
        app, strategy = self.app, self.app.upgrade_strategy
        serving = {i.id for i in self.instances.values() if i.is_wanted and i.id in self.healthy}
        verdict = restarting(app, list(self.instances.values()), serving, now=0.0)
        least = ceil(round(app.instances * strategy.minimum_health_capacity, 9))
        most = floor(round(app.instances * (1 + strategy.maximum_over_capacity), 9))

        assert len(serving - set(ids(verdict.end))) >= min(len(serving), least)
        if verdict.add:
            waiting = {i.id for i in verdict.end if i.condition is Condition.SCHEDULED}
            present = len(self.instances) - len(waiting) + verdict.add
            assert present <= max(most, app.instances + 1)
        for ended in verdict.end:
            if ended.condition is Condition.SCHEDULED:
                del self.instances[ended.id]
            else:
                self.instances[ended.id] = msgspec.structs.replace(ended, is_wanted=False)
        for _ in range(verdict.add):
            self._number += 1
            [added] = new(self._number, condition=Condition.SCHEDULED)
            self.instances[added.id] = added
        return verdict

    def _put(self, instance: Instance, condition: Condition) -> None:
        self.instances[instance.id] = msgspec.structs.replace(instance, condition=condition)


@given(
    least=CAPACITY,
    over=CAPACITY,
    count=st.integers(min_value=1, max_value=9),
    before=st.integers(min_value=0, max_value=12),
    ahead=st.integers(min_value=0, max_value=12),
    events=EVENTS,
)
@settings(deadline=None, max_examples=400)
def test_bounds_hold_whatever_fails_and_the_end_is_reached(
    least: float, over: float, count: int, before: int, ahead: int, events: list[tuple[str, int]]
) -> None:
    strategy = {"minimumHealthCapacity": least, "maximumOverCapacity": over}
    fleet = Fleet(app_of(instances=count, upgradeStrategy=strategy), before, ahead)

    for event, number in events:
        if event == "decide":
            fleet.decide()
        else:
            fleet.befall(event, number)

    for _ in range(100):
        if fleet.decide().done:
            break
        for event in ("gone", "launch", "run", "heal"):
            for number in range(len(fleet.instances)):
                fleet.befall(event, number)
    assert fleet.decide().done
    assert len(fleet.instances) == count
    assert all(i.version == new(0)[0].version for i in fleet.instances.values())
