"""Run the whole demo: a lab up, every proof, a table, the lab down."""

from rich.console import Console

from phalanx.core.error import PhalanxError
from phalanx.labs.demo import change, steady
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import Proof, Report
from phalanx.labs.lab import Lab

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


def prove(lab: Lab, console: Console) -> Report:
    """Run every part on a fresh *lab*; return what was proved.

    A part that raises on its way is a proof that did not hold; the parts after
    it are run all the same.
    """
    cluster, report = Cluster(lab), Report(console)
    for part in PARTS:
        try:
            part(cluster, report)
        except (PhalanxError, OSError, ValueError, KeyError) as error:
            name = part.__name__.replace("_", " ")
            report.add(Proof(name, name, f"{type(error).__name__}: {error}", held=False))
    return report
