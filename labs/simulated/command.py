"""``python -m phalanx.labs.simulated.command``: many simulated agents in one process.

Prints one JSON line when all are registered, and again whenever all are back
after a change of leader: how many, the seconds since the first was lost, and
when the first, half of them and all were back, by the machine's monotonic clock.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address
from itertools import count
from uuid import uuid4

import uvloop

from phalanx.core.config import HostPort
from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.labs.simulated.agent import SimulatedAgent
from phalanx.labs.simulated.connection import Connection
from phalanx.mesos.agent_protocol import HEARTBEAT_SECONDS, AgentCall, AgentEvent
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import AgentInfo, FrameworkID, FrameworkInfo

FIRST_ADDRESS = IPv4Address("10.64.0.1")
HEARTBEAT = encode(AgentCall(type="HEARTBEAT"))
RETRY_SECONDS = (0.1, 1.0)
# Reference mesos §4.5: a first repetition after 10 s, then each after twice as long, to 10 min.
RESEND_BEATS, MOST_RESEND_BEATS = 10, 600
TASK = Resources.parse("cpus:0.1;mem:32")


class Fleet:
    """Every simulated agent of this process, and how many are registered."""

    def __init__(
        self,
        masters: Sequence[HostPort],
        agents: Sequence[SimulatedAgent],
        *,
        tasks: int = 0,
        framework: FrameworkInfo | None = None,
    ) -> None:
        """Prepare; each agent holds so many *tasks* of *framework* once it is registered."""
        self._masters = masters
        self._agents = agents
        self._registered: set[int] = set()
        self._since = time.monotonic()
        self._entered: list[float] = []
        self._tasks = tasks
        self._framework = framework

    async def run(self) -> None:
        """Keep every agent registered until cancelled."""
        async with asyncio.TaskGroup() as group:
            for agent in self._agents:
                group.create_task(self._keep(agent))

    async def _keep(self, agent: SimulatedAgent) -> None:
        wait, attempt = RETRY_SECONDS[0], agent.index
        while True:
            master = self._masters[attempt % len(self._masters)]
            attempt += 1
            connection = Connection(master.host, master.port)
            beating: asyncio.Task[None] | None = None
            try:
                await connection.subscribe(encode(agent.subscribe()))
                async for record in connection.records():
                    event = decode(AgentEvent, record)
                    await connection.send(map(encode, agent.take(event)))
                    if event.type == "SUBSCRIBED":
                        wait = RETRY_SECONDS[0]
                        if self._framework is not None and not agent.held:
                            agent.hold(self._framework, self._tasks, TASK)
                        self._enter(agent.index)
                        beating = asyncio.create_task(_beat(connection, agent))
            except (OSError, TimeoutError, UnavailableError, ProtocolError, EOFError):
                pass  # another master, or the same one a little later
            finally:
                if beating is not None:
                    beating.cancel()
                connection.close()
            self._leave(agent.index)
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, RETRY_SECONDS[1])

    def _enter(self, index: int) -> None:
        self._registered.add(index)
        self._entered.append(time.monotonic())
        if len(self._registered) == len(self._agents):
            report = {
                "registered": len(self._agents),
                "seconds": round(self._entered[-1] - self._since, 3),
                "first": self._entered[0],
                "half": self._entered[len(self._entered) // 2],
                "all": self._entered[-1],
            }
            print(json.dumps(report), flush=True)

    def _leave(self, index: int) -> None:
        if len(self._registered) == len(self._agents):
            self._since = time.monotonic()
            self._entered.clear()
        self._registered.discard(index)


async def _beat(connection: Connection, agent: SimulatedAgent) -> None:
    """Give signs of life, and now and then send again what nobody has acknowledged."""
    with suppress(OSError):
        due, wait = RESEND_BEATS, RESEND_BEATS
        for beat in count(1):
            await connection.send((HEARTBEAT,))
            if beat >= due:
                again = agent.resend()
                await connection.send(map(encode, again))
                wait = min(wait * 2, MOST_RESEND_BEATS) if again else RESEND_BEATS
                due = beat + wait
            await asyncio.sleep(HEARTBEAT_SECONDS)


def make_agents(number: int, resources: str) -> list[SimulatedAgent]:
    """Return *number* agents, each with *resources* and an address of its own."""
    offered = Resources.parse(resources).messages()
    agents = []
    for index in range(number):
        address = FIRST_ADDRESS + index
        info = AgentInfo(hostname=f"simulated-{index}", port=5051, resources=offered)
        agents.append(
            SimulatedAgent(index, info, address, clock=time.time, new_uuid=lambda: uuid4().bytes)
        )
    return agents


def main() -> None:
    """Parse the command line and run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--master", required=True, help="HOST:PORT[,HOST:PORT]")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument(
        "--resources", default="cpus:64;mem:262144;disk:1000000;ports:[31000-32000]"
    )
    parser.add_argument("--tasks", type=int, default=0, help="running on each from the start")
    parser.add_argument("--framework", help="id of the framework whose tasks they are")
    given = parser.parse_args()
    pairs = (text.rpartition(":") for text in given.master.split(","))
    masters = [HostPort(host, int(port)) for host, _, port in pairs]
    with suppress(KeyboardInterrupt):
        framework = None
        if given.framework is not None:
            id = FrameworkID(value=given.framework)
            framework = FrameworkInfo(user="root", name="held", id=id, failover_timeout=1e6)
        agents = make_agents(given.count, given.resources)
        uvloop.run(Fleet(masters, agents, tasks=given.tasks, framework=framework).run())


if __name__ == "__main__":
    main()
