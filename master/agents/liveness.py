"""What silence means; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from phalanx.master.cluster.agent import Agent
from phalanx.net.model.objects import Liveness


@dataclass(frozen=True, slots=True)
class Patience:
    """For how many seconds an agent may be silent before it is suspect, or unreachable."""

    suspect_seconds: float
    unreachable_seconds: float

    def verdict(self, silence: float) -> Liveness:
        """Return what to think of an agent that has been silent for so many seconds."""
        if silence >= self.unreachable_seconds:
            return Liveness.UNREACHABLE
        if silence >= self.suspect_seconds:
            return Liveness.SUSPECT
        return Liveness.ALIVE


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The agents that have become *suspect*, and those to give up, *silent* for longest first."""

    suspect: tuple[Agent, ...]
    silent: tuple[Agent, ...]


def verdicts(agents: Iterable[Agent], now: float, patience: Patience) -> Verdicts:
    """Judge agents by their silence; those that are unreachable already are left out."""
    suspect, silent = [], []
    for agent in agents:
        if agent.liveness is Liveness.UNREACHABLE:
            continue
        verdict = patience.verdict(now - agent.heard)
        if verdict is Liveness.UNREACHABLE:
            silent.append(agent)
        elif verdict is Liveness.SUSPECT and agent.liveness is Liveness.ALIVE:
            suspect.append(agent)
    return Verdicts(tuple(suspect), tuple(sorted(silent, key=lambda agent: agent.heard)))


def deafness_of(elapsed: float, *, planned: float) -> float:
    """Return for how many seconds we did not listen, when a pause took *elapsed* seconds.

    What agents sent meanwhile still waits to be read, so that is no silence of
    theirs. A pause that is longer by less than itself is none: many of them in a row
    would put off what is true.
    """
    late = elapsed - planned
    return late if late > planned else 0.0


def loss_problem(missing: int, admitted: int, *, most_share: float) -> str | None:
    """Return why agents that never came back to a new leader can't be given up, None if they can.

    When too many of those that were *admitted* are *missing*, it is more
    likely that something is wrong with us than with them.
    """
    if not missing or missing <= most_share * admitted:
        return None
    return (
        f"Post-recovery agent removal limit exceeded: {missing} of {admitted} agents"
        " that the registry knows did not re-register"
    )
