"""Replies that are ready, and counts to which one more costs next to nothing."""

from collections.abc import Mapping

Label = tuple[str, int]  # zone and rcode
Cell = list[int]  # of one number

# A ready reply: until when it holds, where it is counted, in how many orders it is, and it in
# those, without its id.
Ready = tuple[float, Cell, int, tuple[bytes, ...]]


class Counts:
    """Counts by label; who counts the same again and again keeps its cell."""

    def __init__(self) -> None:
        self._cells: dict[Label, Cell] = {}

    def cell(self, label: Label) -> Cell:
        """Return the number of *label*, for adding to it."""
        cell = self._cells.get(label)
        if cell is None:
            cell = self._cells[label] = [0]
        return cell

    def add(self, label: Label) -> None:
        """Count one more."""
        self.cell(label)[0] += 1

    def totals(self) -> Mapping[Label, int]:
        """Return what was counted."""
        return {label: cell[0] for label, cell in self._cells.items() if cell[0]}
