"""What changed since somebody last caught up, never less."""

import weakref
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from phalanx.net.feed.record import Delta, Numbered, Position, Snapshot
from phalanx.net.model.objects import Task, VipLease
from phalanx.net.model.view import View
from phalanx.plane.touched import MAX_NOTED, Touched


def numbered(number: int) -> Numbered:
    return Numbered(Position("e", number), View())


def delta(number: int) -> Delta:
    return Delta(
        number, (VipLease(f"v{number}", IPv4Address("11.0.0.1")),), (("task", f"{number}"),)
    )


def refs(first: int, last: int) -> set[tuple[str, str]]:
    return {ref for n in range(first, last + 1) for ref in (("vip", f"v{n}"), ("task", str(n)))}


@given(st.integers(1, 8), st.integers(1, 8))
def test_changes_are_told_once_and_up_to_the_view_asked_for(first: int, second: int) -> None:
    touched = Touched()
    views = [numbered(n) for n in range(first + second)]
    for n, view in enumerate(views):
        touched.note(view, delta(n))

    assert touched.until(views[first - 1]) == refs(0, first - 1)
    assert touched.until(views[-1]) == refs(first, first + second - 1)
    assert touched.until(views[-1]) is None


def test_after_a_snapshot_what_changed_is_not_known() -> None:
    touched = Touched()
    views = [numbered(n) for n in range(3)]
    touched.note(views[0], Snapshot("e", 0, ()))
    touched.note(views[1], delta(1))
    touched.note(views[2], delta(2))

    assert touched.until(views[1]) is None
    assert touched.until(views[2]) == refs(2, 2)


def test_changes_that_did_not_fit_are_not_known() -> None:
    touched = Touched()
    last = numbered(MAX_NOTED)
    for n in range(MAX_NOTED):
        touched.note(numbered(n), delta(n))
    touched.note(last, delta(MAX_NOTED))

    assert touched.until(last) is None


def test_views_that_nobody_caught_up_with_are_not_kept() -> None:
    class Watched(Mapping[str, Task]):
        def __getitem__(self, key: str) -> Task:
            raise KeyError(key)

        def __iter__(self) -> Iterator[str]:
            return iter(())

        def __len__(self) -> int:
            return 0

    touched = Touched()
    tasks = Watched()
    is_alive = weakref.ref(tasks)
    touched.note(Numbered(Position("e", 1), View(tasks=tasks)), delta(1))

    del tasks

    assert is_alive() is None
