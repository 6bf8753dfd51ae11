"""A pass that makes only what follows from a change of its input, and when it makes the whole."""

import threading
from collections.abc import Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.incremental import IncrementalReconciler


class Shelf:
    """A dataplane of numbers that counts how often it is read, and may be out of order."""

    name = "shelf"

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.reads = 0
        self.is_broken = False
        self.is_known = True

    async def read(self) -> Mapping[int, int]:
        self.reads += 1
        return dict(self.held)

    async def apply(self, change: Delta[int, int]) -> None:
        if self.is_broken:
            raise DataplaneError("out of order", table=self.name)
        self.held = {k: v for k, v in self.held.items() if k not in change.removals}
        self.held |= change.upserts


class Source:
    """An input, a tuple of numbers; what is held for it are their squares."""

    def __init__(self) -> None:
        self.state: tuple[int, ...] | None = None
        self.can_tell = True

    @staticmethod
    def desired(state: tuple[int, ...]) -> dict[int, int]:
        return {number: number**2 for number in state}

    def changed(self, old: tuple[int, ...], new: tuple[int, ...]) -> Delta[int, int] | None:
        return delta(self.desired(new), self.desired(old)) if self.can_tell else None


def made() -> tuple[Shelf, Source, IncrementalReconciler[tuple[int, ...], int, int]]:
    shelf, source = Shelf(), Source()
    table = IncrementalReconciler(
        shelf,
        lambda: source.state,
        source.desired,
        source.changed,
        is_known=lambda: shelf.is_known,
    )
    return shelf, source, table


async def test_nothing_is_touched_before_the_first_input() -> None:
    shelf, _, table = made()
    shelf.held = {9: 9}

    assert await table.reconcile_once(resync=True)
    assert (shelf.held, shelf.reads) == ({9: 9}, 0)


async def test_table_is_read_once_and_then_follows() -> None:
    shelf, source, table = made()
    shelf.held = {9: 9}
    for state in ((1, 2), (2, 3), (2, 3), (3,)):
        source.state = state
        assert await table.reconcile_once(resync=False)
        assert shelf.held == source.desired(state)

    assert shelf.reads == 1


async def test_resync_repairs_drift() -> None:
    shelf, source, table = made()
    source.state = (1,)
    await table.reconcile_once(resync=False)
    shelf.held = {7: 7}

    await table.reconcile_once(resync=True)

    assert shelf.held == {1: 1}


async def test_table_that_somebody_else_changed_is_read_again() -> None:
    shelf, source, table = made()
    source.state = (1, 2)
    await table.reconcile_once(resync=False)
    shelf.held, shelf.is_known = {2: 4, 7: 7}, False
    source.state = (1, 2, 3)

    assert await table.reconcile_once(resync=False)

    assert (shelf.held, shelf.reads) == ({1: 1, 2: 4, 3: 9}, 2)


async def test_table_that_somebody_changes_meanwhile_is_not_taken_as_held() -> None:
    shelf, source, table = made()
    source.state = (1,)
    await table.reconcile_once(resync=False)
    answers = iter([True, False])
    table = IncrementalReconciler(
        shelf,
        lambda: source.state,
        source.desired,
        source.changed,
        is_known=lambda: next(answers),
    )
    await table.reconcile_once(resync=False)
    source.state = (2,)

    assert not await table.reconcile_once(resync=False)
    assert table.held is None


async def test_table_is_read_again_after_a_failure_and_where_only_the_whole_can_tell() -> None:
    shelf, source, table = made()
    source.state = (1,)
    await table.reconcile_once(resync=False)
    source.state, shelf.is_broken = (2,), True
    assert not await table.reconcile_once(resync=False)
    shelf.held, shelf.is_broken = {5: 5}, False  # half of it was made, who knows

    assert await table.reconcile_once(resync=False)
    assert (shelf.held, shelf.reads) == ({2: 4}, 2)

    source.state, source.can_tell = (3,), False
    assert await table.reconcile_once(resync=False)
    assert (shelf.held, shelf.reads) == ({3: 9}, 3)


async def test_what_may_be_of_much_is_found_in_another_thread() -> None:
    shelf, source, _ = made()
    threads: list[int] = []

    def changed(old: tuple[int, ...], new: tuple[int, ...]) -> Delta[int, int] | None:
        threads.append(threading.get_ident())
        return source.changed(old, new)

    is_much = True
    table = IncrementalReconciler(
        shelf, lambda: source.state, source.desired, changed, aside=lambda: is_much
    )
    for state in ((1, 2), (2, 3)):
        source.state = state
        assert await table.reconcile_once(resync=False)
    assert threading.get_ident() not in threads

    is_much, source.state = False, (3, 4)
    assert await table.reconcile_once(resync=False)

    assert shelf.held == source.desired((3, 4))
    assert shelf.reads == 1
    assert len(threads) == 2
    assert threads[1] == threading.get_ident()
