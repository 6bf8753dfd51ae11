"""Settings below /proc/sys, as one network namespace sees them."""

from collections.abc import Collection, Mapping
from pathlib import Path

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.rtnl.kernel import Rtnl

ROOT = Path("/proc/sys")
FORWARDING6 = "net/ipv6/conf/all/forwarding"
OURS = "phx"  # begins the names of our links


class ProcSettings:
    """A Dataplane of the settings *names*, paths below /proc/sys.

    The files show the namespace of the thread that opens them: that of *rtnl*.
    A node that begins to forward IPv6 goes on hearing router advertisements
    where it did: else it would lose the routes that it has of them.
    A setting has no absence that we could restore: a removal changes nothing.
    """

    def __init__(self, rtnl: Rtnl, names: Collection[str], *, name: str = "settings") -> None:
        self.name = name
        self._rtnl = rtnl
        self._names = frozenset(names)

    async def read(self) -> Mapping[str, str]:
        """Return the value of each setting that exists."""
        try:
            return await self._rtnl.call(lambda _: _read(self._names))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    async def apply(self, change: Delta[str, str]) -> None:
        """Write each; a refused one does not hold up the others."""
        refusals = await self._rtnl.call(lambda _: _write(change.upserts))
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _read(names: Collection[str]) -> dict[str, str]:
    return {name: (ROOT / name).read_text().strip() for name in names if (ROOT / name).exists()}


def _write(values: Mapping[str, str]) -> list[str]:
    refusals: list[str] = []
    for name, value in values.items():
        try:
            if name == FORWARDING6:
                _go_on_hearing_routers()
            (ROOT / name).write_text(value)
        except OSError as error:
            refusals.append(f"{name}: {value!r}: {error.strerror}")
    return refusals


def _go_on_hearing_routers() -> None:
    """Turn 1, to accept advertisements unless forwarding, into 2, to accept them anyhow."""
    for setting in ROOT.glob("net/ipv6/conf/*/accept_ra"):
        link = setting.parent.name
        is_theirs = link not in ("all", "default", "lo") and not link.startswith(OURS)
        if is_theirs and setting.read_text().strip() == "1":
            setting.write_text("2")
