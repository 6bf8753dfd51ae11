"""How long names, VIPs and walls take to follow a change: the times of the demo."""

import math
from collections.abc import Sequence

from claim import Bound, Figure
from rich.console import Console

from phalanx.labs.demo.show import prove
from phalanx.labs.lab import Lab

# The claims of the demo that are about a time, and the most seconds each may take.
GOALS = {
    "a rule by the API opens one port": 1.0,
    "removing the rule closes it": 1.0,
    "scale to 5: names follow": 10.0,
    "scale to 5: the VIP follows, once they are healthy": 10.0,
    "kill -9 a container: names follow": 2.0,
    "kill -9 a container: the VIP follows": 2.0,
    "kill -9 a container: replaced, behind the VIP": 10.0,
    "agent killed and started again: it has all its tasks": 10.0,
    "a2 loses power: names follow": 4.0,
    "a2 loses power: the VIP follows": 4.0,
    "a2 loses power: all 5 instances run again, on a1": 20.0,
}


def measure() -> Sequence[Figure]:
    """Run the demo on a fresh lab; a claim that did not hold has no figure and fails the run."""
    lab = Lab.up(name="bench")
    try:
        report = prove(lab, Console(stderr=True))
    finally:
        lab.down()
    taken = {proof.claim: proof.seconds for proof in report.proofs if proof.seconds is not None}
    return [
        Figure(claim, "s", taken.get(claim, math.inf), Bound.OURS_AT_MOST, goal)
        for claim, goal in GOALS.items()
    ]
