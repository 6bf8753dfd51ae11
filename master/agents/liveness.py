"""What silence means; pure."""

from phalanx.net.model.objects import Liveness


def liveness_after(silence: float, *, suspect: float, unreachable: float) -> Liveness:
    """Return what to think of an agent that has been silent for so many seconds."""
    if silence >= unreachable:
        return Liveness.UNREACHABLE
    if silence >= suspect:
        return Liveness.SUSPECT
    return Liveness.ALIVE


def deafness_of(elapsed: float, *, planned: float) -> float:
    """Return for how many seconds we did not listen, when a pause took *elapsed* seconds.

    What agents sent meanwhile still waits to be read, so that is no silence of
    theirs. A pause that is longer by less than itself is none: many of them in a row
    would put off what is true.
    """
    late = elapsed - planned
    return late if late > planned else 0.0
