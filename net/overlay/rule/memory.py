"""Routing rules in memory."""

from collections.abc import Mapping
from ipaddress import IPv4Network

from phalanx.core.reconcile.delta import Delta


class MemoryRules:
    """A Dataplane that behaves like KernelRules."""

    name = "rules"

    def __init__(self) -> None:
        self._rules: dict[IPv4Network, int] = {}

    async def read(self) -> Mapping[IPv4Network, int]:
        """Return the sources, and the mark that each rule passes over."""
        return dict(self._rules)

    async def apply(self, change: Delta[IPv4Network, int]) -> None:
        """Remove, then add."""
        for source in change.removals:
            self._rules.pop(source, None)
        self._rules.update(change.upserts)
