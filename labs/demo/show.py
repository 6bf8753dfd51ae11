"""Run the whole demo: a lab up, every proof, a table, the lab down."""

from rich.console import Console

from phalanx.core.error import PhalanxError
from phalanx.labs.demo import change, steady
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import Report
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
