"""A change of a table that is more than one transaction."""

from dataclasses import dataclass

from phalanx.core.reconcile.delta import Delta
from phalanx.net.nft.element import Element


@dataclass(frozen=True, slots=True)
class Staged(Delta[Element, None]):
    """A change that is made in several transactions, which add up to it."""

    stages: tuple[Delta[Element, None], ...] = ()
