"""How far a plane is: the View that its tables are brought to, and the one they hold."""

from collections.abc import Collection, Mapping
from typing import Protocol

from phalanx.net.feed.record import Numbered
from phalanx.net.model.view import Ref, View
from phalanx.plane.touched import Touched

MANY = 100  # objects that differ: what follows from more is found in a thread


class Heard(Protocol):
    """What is known of the cluster, and whether the feed said so."""

    @property
    def touched(self) -> Touched:
        """Return what each View changed."""
        ...

    @property
    def numbered(self) -> Numbered | None:
        """Return the newest View, None while nothing is known."""
        ...

    @property
    def is_heard(self) -> bool:
        """Tell whether it came by the feed since this process started."""
        ...


class Progress:
    """Begins passes with the newest View and says which one was held at their ends."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._is_patient = True  # until the feed spoke, or patience is lost
        self._pass: Numbered | None = None  # the View of the pass under way
        self._before: View | None = None  # the one before it
        self._touched: Collection[Ref] | None = None  # objects that differ in both; None: unknown
        self._ended: Numbered | None = None  # the View of the last pass that ended
        self.outcome: Mapping[str, bool] = {}
        self.applied = 0

    @property
    def view(self) -> View | None:
        """Return the View of the pass under way, None while none is to be touched."""
        return None if self._pass is None else self._pass.view

    @property
    def is_in_sync(self) -> bool:
        """Tell whether the newest View came by the feed and every table holds it."""
        newest = self._heard.numbered
        is_held = newest is self._ended and bool(self.outcome) and all(self.outcome.values())
        return self._heard.is_heard and is_held

    def lose_patience(self) -> None:
        """Go on with the View from disk if the feed has not spoken yet."""
        self._is_patient = False

    def begin(self) -> None:
        """Take the View of this pass: not yet the disk's while the feed may still speak.

        The kernel holds the last View of the process before this one, which the
        disk may lack: going back to the disk's would undo it for a moment.
        """
        if self._heard.is_heard or not self._is_patient:
            now = self._heard.numbered
            if now is not None and now is not self._pass:
                self._before = self.view
                self._touched = self._heard.touched.until(now)
                self._pass = now

    def changes(self, since: View | None) -> Collection[Ref] | None:
        """Return what the View of this pass changes in *since*, None if that is to be found."""
        if since is self.view:
            return ()
        return self._touched if since is not None and since is self._before else None

    @property
    def is_much(self) -> bool:
        """Tell whether the View of this pass may differ in much from the one before."""
        return self._touched is None or len(self._touched) > MANY

    def end(self, outcome: Mapping[str, bool]) -> None:
        """Remember how the pass ended."""
        self.outcome = outcome
        self._ended = self._pass
        if self._pass is not None and all(outcome.values()):
            self.applied = self._pass.position.sequence
