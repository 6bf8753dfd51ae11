"""Signs that somebody else changed IPVS or its table, for less than to read either.

The kernel tells of each change of an nftables table, and by whom. Of IPVS it tells
nothing; but how many services of IPv4 there are costs one call, so services that
are cleared, removed or added are noticed, and the rest at the next resync.
"""

from phalanx.lb.ipvs.kernel import count, open_count
from phalanx.lb.ipvs.layout import NAME
from phalanx.net.nft.watch import LOST, TableWatch


class Signs:
    """What was told since the kernel was read, in the namespace that this was opened in."""

    def __init__(self) -> None:
        self._watch = TableWatch(NAME)
        self._opened = open_count()
        self._expected = 0

    def settle(self) -> None:
        """Begin anew: all is about to be read. Raises OSError when the kernel refuses."""
        self._watch.writers()
        self._expected = count(self._opened)

    def expect(self, more: int) -> None:
        """Take note that we added so many services of IPv4."""
        self._expected += more

    def are_quiet(self, *, has_written: bool = False) -> bool:
        """Tell whether all that was told since the last call is what we did."""
        writers = self._watch.writers()
        is_ours = LOST not in writers and len(writers) == int(has_written)
        return is_ours and count(self._opened) == self._expected

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()
        self._opened.close()
