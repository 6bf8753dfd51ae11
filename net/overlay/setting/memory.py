"""Kernel settings in memory."""

from collections.abc import Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta


class MemorySettings:
    """A Dataplane that behaves like ProcSettings; *initial* are the settings that exist."""

    name = "settings"

    def __init__(self, initial: Mapping[str, str]) -> None:
        self._values = dict(initial)

    async def read(self) -> Mapping[str, str]:
        """Return a copy of the values."""
        return dict(self._values)

    async def apply(self, change: Delta[str, str]) -> None:
        """Write each setting that exists; refuse the others."""
        refusals: list[str] = []
        for name, value in change.upserts.items():
            if name in self._values:
                self._values[name] = value
            else:
                refusals.append(f"{name}: {value!r}: No such file or directory")
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)
