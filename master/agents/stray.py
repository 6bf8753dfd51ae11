"""Has an agent that comes from elsewhere moved, or is it a copy? (reference mesos §4.2)."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address

from phalanx.core.error import UnavailableError
from phalanx.master.cluster.agent import Agent
from phalanx.net.model.objects import Liveness


@dataclass(frozen=True, slots=True)
class Stray:
    """An id that came from another address than its agent's, and since when it does."""

    address: IPv4Address
    since: float


@dataclass(slots=True)
class Strays:
    """The ids that are told to come again, until it is plain whether their agent has moved.

    What came more than *forget_seconds* ago is another story.
    """

    forget_seconds: float
    _by_id: dict[str, Stray] = field(default_factory=dict)

    def check(self, id: str, known: Agent | None, address: IPv4Address, now: float) -> None:
        """Raise UnavailableError while an agent that comes from elsewhere may have moved or not.

        If it is heard again where it was, whoever comes is a copy of it; else it is suspect soon.
        """
        if known is None or known.address == address or known.liveness is not Liveness.ALIVE:
            self._by_id.pop(id, None)
            return
        stray = self._by_id.get(id)
        if stray is None or stray.address != address or now - stray.since > self.forget_seconds:
            stray = Stray(address, now)
        self._by_id[id] = stray
        if known.heard <= stray.since:
            raise UnavailableError(f"agent {id} was heard at {known.address} a moment ago")
        del self._by_id[id]

    def begin_anew(self, now: float) -> None:
        """Judge every stray by what is heard from now on."""
        self._by_id = {id: Stray(stray.address, now) for id, stray in self._by_id.items()}
