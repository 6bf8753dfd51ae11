"""What every executor of an agent needs of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from phalanx.agent.executor.timing import Timing
from phalanx.agent.station import Station
from phalanx.mesos.v1.mesos import AgentInfo

Key = tuple[str, str]  # framework id, executor id


@dataclass(frozen=True, slots=True)
class Around:
    """The agent's parts and ears.

    *exited* is called once an executor has ended, with its raw wait status;
    *gone*, with the id of its container, when nothing is left of it. *remove*
    removes a container, for as long as it takes.
    """

    station: Station
    timing: Timing
    agent_info: Callable[[], AgentInfo]
    exited: Callable[[Key, int], Awaitable[None]]
    gone: Callable[[str], None]
    remove: Callable[[str], Awaitable[None]]
