"""What the feed changed between two Views, so that nobody compares them whole."""

from collections import deque
from collections.abc import Collection

from phalanx.net.feed.record import Delta, Numbered, Position, Record
from phalanx.net.model.view import Ref

MAX_NOTED = 4096  # Views; beyond, what they changed is not known


class Touched:
    """Remembers which objects each View touched until somebody has caught up with it.

    Views themselves are not kept: thousands of them would be gigabytes.
    """

    def __init__(self) -> None:
        self._noted: deque[tuple[Position, Collection[Ref] | None]] = deque(maxlen=MAX_NOTED)

    def note(self, numbered: Numbered, record: Record) -> None:
        """Remember what *record* changed to make *numbered* out of the View before."""
        refs: Collection[Ref] | None = None
        if isinstance(record, Delta):
            refs = [*((each.kind, each.key) for each in record.upserts), *record.removals]
        if len(self._noted) == MAX_NOTED:
            self._noted[1] = (self._noted[1][0], None)  # what the one before changed is lost
        self._noted.append((numbered.position, refs))

    def until(self, numbered: Numbered) -> Collection[Ref] | None:
        """Return what changed from the last call up to *numbered*; None: it is not known."""
        if not any(noted is numbered.position for noted, _ in self._noted):
            return None
        found: set[Ref] = set()
        is_known = True
        while True:
            noted, refs = self._noted.popleft()
            is_known &= refs is not None
            found.update(refs or ())
            if noted is numbered.position:
                return found if is_known else None
