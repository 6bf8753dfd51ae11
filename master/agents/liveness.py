"""What silence means; pure."""

from phalanx.net.model.objects import Liveness


def liveness_after(silence: float, *, suspect: float, unreachable: float) -> Liveness:
    """Return what to think of an agent that has been silent for so many seconds."""
    if silence >= unreachable:
        return Liveness.UNREACHABLE
    if silence >= suspect:
        return Liveness.SUSPECT
    return Liveness.ALIVE
