"""What simulated agents hold, counted by the test itself."""

from collections import Counter
from collections.abc import Iterable

from phalanx.labs.simulated.agent import SimulatedAgent
from phalanx.mesos.v1.mesos import TERMINAL


def held_by(agents: Iterable[SimulatedAgent]) -> Counter[str]:
    """Return how often each task that is not over is there on all agents together."""
    return Counter(
        task_id
        for agent in agents
        for (_, task_id), held in agent.held.items()
        if held.task.state not in TERMINAL
    )


def launches_of(agents: Iterable[SimulatedAgent]) -> int:
    """Return how many tasks the agents have ever launched."""
    return sum(agent.launched for agent in agents)
