"""Run the whole demo: a lab up, every proof, a table, the lab down."""

import time

from rich.console import Console

from phalanx.core.error import PhalanxError
from phalanx.labs.demo import change, steady
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import Proof, Report
from phalanx.labs.lab import Lab
from phalanx.labs.progress import shown

PARTS = (
    steady.show_underlay,
    steady.make_networks,
    steady.deploy,
    steady.show_names,
    steady.show_vip,
    steady.show_walls,
    change.scale,
    change.kill_container,
    change.kill_agent_process,
    change.kill_node,
)


def prove(lab: Lab, console: Console, *known: Proof) -> Report:
    """Run every part on a fresh *lab*; return what was proved, after what is *known* already.

    A part that raises on its way is a proof that did not hold; the parts after
    it are run all the same.
    """
    cluster, report = Cluster(lab), Report(console)
    for proof in known:
        report.add(proof)
    for part in PARTS:
        try:
            part(cluster, report)
        except (PhalanxError, OSError, ValueError, KeyError) as error:
            name = part.__name__.replace("_", " ")
            report.add(Proof(name, name, f"{type(error).__name__}: {error}", held=False))
    return report


def run(*, keep: bool, name: str) -> int:
    """Run the demo on a lab of its own; return 0 only if everything held.

    The lab is taken down, whatever happens, unless *keep* leaves it up.
    """
    console = Console(width=None if Console().is_terminal else 150)
    began = time.monotonic()
    with shown() as progress:
        lab = Lab.up(name=name, progress=progress)
    try:
        seen = f"1 master, 2 agents, 3 planes in sync in {time.monotonic() - began:.1f} s"
        report = prove(lab, console, Proof("cluster", "lab up", seen, held=True))
    finally:
        if not keep:
            lab.down()
    console.print(report.table())
    count = sum(proof.held for proof in report.proofs)
    took = time.monotonic() - began
    console.print(f"{count} of {len(report.proofs)} claims held, in {took:.0f} s")
    if keep:
        from phalanx.labs.command import look_around

        console.print(look_around(lab), highlight=False)
    return 0 if report.held else 1
