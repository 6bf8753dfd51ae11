"""The loop brings what is there to what is wanted, and touches nothing before it knows."""

import asyncio
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.reconciler import Reconciler


class Rows:
    """A dataplane in a dictionary that refuses as often as it is told to."""

    name = "rows"

    def __init__(self, rows: dict[str, int]) -> None:
        self.rows = rows
        self.refusals = 0
        self.applied = asyncio.Event()

    async def read(self) -> Mapping[str, int]:
        return dict(self.rows)

    async def apply(self, change: Delta[str, int]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise DataplaneError("refused", table=self.name)
        for key in change.removals:
            del self.rows[key]
        self.rows.update(change.upserts)
        self.applied.set()


MAPPINGS = st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 2))


@given(MAPPINGS, MAPPINGS)
def test_applying_a_delta_gives_the_desired_mapping(
    desired: dict[str, int | None], actual: dict[str, int | None]
) -> None:
    change = delta(desired, actual)

    left = {key: value for key, value in actual.items() if key not in change.removals}

    assert left | dict(change.upserts) == desired
    assert bool(change) == (desired != actual)


async def test_a_pass_before_the_first_answer_touches_nothing() -> None:
    rows = Rows({"stale": 1})

    assert await Reconciler(rows, lambda: None).reconcile_once()
    assert rows.rows == {"stale": 1}


async def test_drift_is_repaired_without_an_event() -> None:
    rows = Rows({})
    loop = asyncio.ensure_future(Reconciler(rows, lambda: {"a": 1}, resync=0.01).run())
    await rows.applied.wait()
    rows.applied.clear()
    rows.rows["a"] = 2  # somebody else's hand
    await asyncio.wait_for(rows.applied.wait(), 5)
    loop.cancel()

    assert rows.rows == {"a": 1}


async def test_a_refused_pass_says_so_and_the_next_one_succeeds() -> None:
    rows = Rows({})
    rows.refusals = 1
    reconciler = Reconciler(rows, lambda: {"a": 1})

    assert not await reconciler.reconcile_once()
    assert await reconciler.reconcile_once()
    assert rows.rows == {"a": 1}


async def test_a_burst_of_pokes_costs_one_pass() -> None:
    rows = Rows({})
    asked = 0

    def desired() -> Mapping[str, int]:
        nonlocal asked
        asked += 1
        return {"a": asked}

    reconciler = Reconciler(rows, desired, resync=60)
    loop = asyncio.ensure_future(reconciler.run())
    await rows.applied.wait()
    rows.applied.clear()
    for _ in range(100):
        reconciler.poke()
    await asyncio.wait_for(rows.applied.wait(), 5)
    for _ in range(10):
        await asyncio.sleep(0)  # lets the loop run on, if it wanted to
    loop.cancel()

    assert asked == 2


async def test_without_resync_a_settled_state_is_not_read_again() -> None:
    rows = Rows({})
    reconciler = Reconciler(rows, lambda: {"a": 1})
    await reconciler.reconcile_once()
    rows.rows["a"] = 2

    assert await reconciler.reconcile_once(resync=False)
    assert rows.rows == {"a": 2}

    assert await reconciler.reconcile_once()
    assert rows.rows == {"a": 1}


async def test_after_a_refusal_nothing_is_settled() -> None:
    rows = Rows({})
    reconciler = Reconciler(rows, lambda: {"a": 1})
    await reconciler.reconcile_once()
    rows.rows.clear()
    rows.refusals = 1

    assert not await reconciler.reconcile_once()
    assert reconciler.settled is None
    assert await reconciler.reconcile_once(resync=False)
    assert rows.rows == {"a": 1}
