"""A plane says that it is in sync when every table holds the newest View, not before."""

from dataclasses import dataclass, field

import pytest

from phalanx.net.feed.record import Delta, Numbered, Position, Snapshot
from phalanx.net.model.objects import Framework
from phalanx.net.model.view import View
from phalanx.plane.progress import Progress
from phalanx.plane.touched import Touched

GOOD, BAD = {"routes": True, "names": True}, {"routes": True, "names": False}
FIRST = Framework("f1", "marathon")


@dataclass
class Feed:
    """What a mirror knows, set by hand."""

    numbered: Numbered | None = None
    is_heard: bool = False
    touched: Touched = field(default_factory=Touched)

    def says(self, sequence: int, *objects: Framework, epoch: str = "e") -> View:
        view = (View() if self.numbered is None else self.numbered.view).changed(objects)
        record = Delta(sequence, objects) if self.is_heard else Snapshot(epoch, sequence, objects)
        self.numbered, self.is_heard = Numbered(Position(epoch, sequence), view), True
        self.touched.note(self.numbered, record)
        return view


@pytest.fixture
def feed() -> Feed:
    return Feed()


@pytest.fixture
def progress(feed: Feed) -> Progress:
    """Return that of a plane that has made its first pass, without a View."""
    progress = Progress(feed)
    progress.begin()
    progress.end(GOOD)
    return progress


def test_a_view_is_not_held_while_the_pass_with_it_is_under_way(
    feed: Feed, progress: Progress
) -> None:
    feed.says(1, FIRST)
    heard = progress.is_in_sync
    progress.begin()
    begun = progress.is_in_sync
    progress.end(GOOD)

    assert (heard, begun, progress.is_in_sync, progress.applied) == (False, False, True, 1)


def test_a_view_that_came_amid_a_pass_is_not_held_at_its_end(
    feed: Feed, progress: Progress
) -> None:
    feed.says(1, FIRST)
    progress.begin()
    feed.says(2, Framework("f2", "chronos"))
    progress.end(GOOD)

    assert (progress.is_in_sync, progress.applied) == (False, 1)


def test_a_table_that_failed_is_no_sync(feed: Feed, progress: Progress) -> None:
    feed.says(1, FIRST)
    progress.begin()
    progress.end(BAD)
    failed = progress.is_in_sync, progress.applied
    progress.begin()
    progress.end(GOOD)

    assert failed == (False, 0)
    assert (progress.is_in_sync, progress.applied) == (True, 1)


def test_the_view_from_disk_waits_for_the_feed_until_patience_is_lost(
    feed: Feed, progress: Progress
) -> None:
    feed.numbered = Numbered(Position("e", 7), View().changed([FIRST]))
    progress.begin()
    patient = progress.view
    progress.lose_patience()
    progress.begin()
    progress.end(GOOD)

    assert patient is None
    assert progress.view is feed.numbered.view
    assert progress.changes(View()) is None
    assert (progress.is_in_sync, progress.applied) == (False, 7)


def test_what_a_pass_changes_is_known_from_the_one_before_only(
    feed: Feed, progress: Progress
) -> None:
    first = feed.says(1, FIRST)
    progress.begin()
    feed.says(2, Framework("f2", "chronos"))
    last = feed.says(3, Framework("f3", "metronome"))
    progress.begin()

    assert progress.changes(last) == ()
    assert progress.changes(first) == {("framework", "f2"), ("framework", "f3")}
    assert progress.changes(View()) is None
    assert progress.changes(None) is None
