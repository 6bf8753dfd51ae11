"""Three masters and three ZooKeeper servers on loopback: every way to lose a leader loses nothing.

Agents are simulated, so that what runs where is known to the test itself; the
framework launches all the time and launches again only what has ended.
"""

import asyncio
import signal
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from ipaddress import IPv4Address
from random import Random

import aiohttp
import pytest
from tests.e2e.holding import held_by, launches_of

from phalanx.core.config import MasterAddress
from phalanx.core.detector import open_detector
from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.labs.client import ask
from phalanx.labs.ensemble import Ensemble
from phalanx.labs.simulated.agent import SimulatedAgent
from phalanx.labs.simulated.command import Fleet, make_agents
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import TERMINAL, FrameworkInfo, Offer, TaskStatus
from phalanx.mesos.v1.scheduler import Call, Event, Subscribe

AGENTS = 10
FLAGS = (
    "--zk_session_timeout=4secs",
    "--agent_reregister_timeout=30secs",
    "--allocation_interval=100ms",
)


class Scheduler:
    """Launches a task of each offer until it has *wanted*, and again whatever ends."""

    def __init__(self, client: SchedulerClient) -> None:
        self.client = client
        self.wanted = 0
        self.made = 0
        self.states: dict[str, str] = {}  # of every task ever launched, as last heard
        self.updates: Counter[str] = Counter()
        self.subscriptions = 0
        self._id: str | None = None

    @property
    def running(self) -> set[str]:
        return {id for id, state in self.states.items() if state == "TASK_RUNNING"}

    @property
    def open(self) -> set[str]:
        """Return what was launched and has not ended as far as is known."""
        return {id for id, state in self.states.items() if state not in TERMINAL | {"TASK_UNKNOWN"}}

    async def run(self) -> None:
        async for event in self.client.events(self._subscribe):
            with suppress(UnavailableError, ProtocolError):
                await self._take(event)

    def _subscribe(self) -> Subscribe:
        info = {
            "user": "root",
            "name": "steady",
            "failover_timeout": 600.0,
            "checkpoint": True,
            "capabilities": [{"type": "PARTITION_AWARE"}],
            **({"id": {"value": self._id}} if self._id else {}),
        }
        return Subscribe(framework_info=from_json(FrameworkInfo, info))

    async def _take(self, event: Event) -> None:
        if event.subscribed is not None:
            self._id = event.subscribed.framework_id.value
            self.subscriptions += 1
            await self._reconcile()
        elif event.offers is not None:
            for offer in event.offers.offers:
                await self._use(offer)
        elif event.update is not None:
            await self._update(event.update.status)
        elif event.type == "HEARTBEAT":
            await self._reconcile()

    async def _reconcile(self) -> None:
        tasks = [{"task_id": {"value": id}} for id in self.open]
        if tasks:
            await self._call("RECONCILE", {"tasks": tasks})

    async def _use(self, offer: Offer) -> None:
        operations = []
        if len(self.open) < self.wanted:
            self.made += 1
            id = f"t{self.made}"
            self.states[id] = "launched"
            task = {
                "name": id,
                "task_id": {"value": id},
                "agent_id": {"value": offer.agent_id.value},
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}}],
                "command": {"value": "sleep 1000"},
            }
            operations = [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]
        body = {"offer_ids": [{"value": offer.id.value}], "filters": {"refuse_seconds": 0.0}}
        await self._call("ACCEPT", {**body, "operations": operations})

    async def _update(self, status: TaskStatus) -> None:
        id = status.task_id.value
        self.updates[status.state] += 1
        if self.states.get(id) not in TERMINAL:
            self.states[id] = status.state
        if status.uuid is not None:
            assert status.agent_id is not None
            body = {
                "agent_id": {"value": status.agent_id.value},
                "task_id": {"value": id},
                "uuid": b64encode(status.uuid).decode(),
            }
            await self._call("ACKNOWLEDGE", body)

    async def _call(self, kind: str, body: object) -> None:
        await self.client.call(from_json(Call, {"type": kind, kind.lower(): body}))


class World:
    """The ensemble, its agents and its framework."""

    def __init__(
        self, ensemble: Ensemble, agents: list[SimulatedAgent], scheduler: Scheduler
    ) -> None:
        self.ensemble = ensemble
        self.agents = agents
        self.scheduler = scheduler

    @property
    def held(self) -> Counter[str]:
        """Return how often each task is there on all agents together."""
        return held_by(self.agents)

    @property
    def launches(self) -> int:
        return launches_of(self.agents)

    async def grow(self, count: int) -> None:
        """Let so many more tasks be launched; return while that is under way."""
        self.scheduler.wanted += count
        await until(lambda: len(self.scheduler.open) > self.scheduler.wanted - count, "a launch")

    async def settled(self) -> None:
        """Wait until all that is wanted runs, and is known to run; nothing is there twice."""
        await until(self._is_settled, "every task to run", say=self._tell)
        assert set(self.held.values()) <= {1}
        assert self.held.keys() == self.scheduler.running
        assert (
            self.launches == len(set(self.scheduler.states)) or self.launches <= self.scheduler.made
        )

    def _is_settled(self) -> bool:
        running = self.scheduler.running
        return (
            len(running) == self.scheduler.wanted
            and self.scheduler.open == running
            and self.held.keys() == running
        )

    def _tell(self) -> str:
        return f"{Counter(self.scheduler.states.values())}, {len(self.held)} held"

    async def await_leader(self, *, other_than: str | None = None) -> str:
        return await asyncio.to_thread(self.ensemble.await_leader, other_than=other_than)


async def until(
    holds: Callable[[], bool], what: str, *, seconds: float = 60, say: Callable[[], str] = str
) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - many things change what is asked here
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"waited {seconds:g} s for {what}: {say()}")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    net = IPv4Address(f"127.{Random().randint(64, 250)}.{Random().randint(0, 255)}.0")
    with Ensemble(tmp_path_factory.mktemp("ensemble"), net, flags=FLAGS) as ensemble:
        yield ensemble


@pytest.fixture
async def world(ensemble: Ensemble) -> AsyncIterator[World]:
    for number in range(1, 4):
        for name in (f"z{number}", f"m{number}"):
            if not ensemble.is_alive(name):
                await asyncio.to_thread(ensemble.start, name)
    await asyncio.to_thread(ensemble.await_leader)
    agents = make_agents(AGENTS, "cpus:64;mem:65536")
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        address = MasterAddress(zookeeper=ensemble.zookeeper)
        detector = await open_detector(address, stack)
        scheduler = Scheduler(SchedulerClient(session, detector))
        running = [
            asyncio.ensure_future(Fleet(ensemble.hosts, agents).run()),
            asyncio.ensure_future(scheduler.run()),
        ]
        world = World(ensemble, agents, scheduler)
        try:
            await until(lambda: scheduler.subscriptions > 0, "the subscription")
            await world.grow(20)
            await world.settled()
            yield world
        finally:
            with suppress(UnavailableError, ProtocolError):
                await scheduler.client.call(from_json(Call, {"type": "TEARDOWN"}))
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def test_a_leader_killed_while_it_launches_loses_and_doubles_nothing(world: World) -> None:
    for _ in range(2):
        old = await world.await_leader()
        before = world.scheduler.running
        await world.grow(60)

        await asyncio.to_thread(world.ensemble.kill, old)
        new = await world.await_leader(other_than=old)
        await asyncio.to_thread(world.ensemble.start, old)

        assert new != old
        await world.settled()
        assert before <= world.scheduler.running


async def test_a_stopped_leader_does_not_lead_when_it_goes_on(world: World) -> None:
    old = await world.await_leader()
    before = world.scheduler.running
    world.ensemble.send(old, signal.SIGSTOP)
    new = await world.await_leader(other_than=old)
    said = len(world.ensemble.log(old).splitlines())

    world.ensemble.send(old, signal.SIGCONT)

    await until(lambda: not world.ensemble.is_alive(old), "the old leader's end", seconds=30)
    after = world.ensemble.log(old).splitlines()[said:]
    assert "leadership is" in after[-1]
    assert not any("offers_made" in line or "task_" in line for line in after)
    assert await world.await_leader() == new
    await world.grow(20)
    await world.settled()
    assert before <= world.scheduler.running


async def test_one_zookeeper_server_of_three_is_not_missed(world: World) -> None:
    leader = await world.await_leader()
    pid = world.ensemble.pid(leader)
    subscriptions = world.scheduler.subscriptions
    for name in ("z1", "z2", "z3"):
        await asyncio.to_thread(world.ensemble.kill, name)
        await world.grow(10)
        await world.settled()
        await asyncio.to_thread(world.ensemble.start, name)
        await until(partial(serves, world.ensemble, name), f"{name} to serve")

    assert await world.await_leader() == leader
    assert world.ensemble.pid(leader) == pid
    assert world.scheduler.subscriptions == subscriptions


async def test_without_zookeeper_nobody_leads_and_all_comes_back_with_it(world: World) -> None:
    old = await world.await_leader()
    before = world.scheduler.running

    for name in ("z1", "z2"):
        await asyncio.to_thread(world.ensemble.kill, name)
    await until(lambda: not world.ensemble.is_alive(old), "the leader to step down", seconds=30)
    assert await asyncio.to_thread(world.ensemble.leader) is None
    assert world.held.keys() == before

    for name in ("z1", "z2", old):
        await asyncio.to_thread(world.ensemble.start, name)
    await world.await_leader()
    await world.grow(10)
    await world.settled()
    assert before <= world.scheduler.running


async def test_a_leader_that_zookeeper_does_not_answer_steps_down(world: World) -> None:
    """Servers that are stopped refuse nothing and answer nothing, as behind a broken wire."""
    old = await world.await_leader()
    before = world.scheduler.running
    try:
        for name in ("z1", "z2", "z3"):
            world.ensemble.send(name, signal.SIGSTOP)
        await until(lambda: not world.ensemble.is_alive(old), "the leader to step down", seconds=30)
    finally:
        for name in ("z1", "z2", "z3"):
            world.ensemble.send(name, signal.SIGCONT)

    await world.await_leader(other_than=old)
    await asyncio.to_thread(world.ensemble.start, old)
    await world.grow(10)
    await world.settled()
    assert before <= world.scheduler.running


async def test_a_zookeeper_server_that_lost_its_data_gets_it_from_the_others(
    world: World,
) -> None:
    leader = await world.await_leader()
    pid = world.ensemble.pid(leader)
    for name in ("z1", "z2", "z3"):  # in the end none has what it began with
        await asyncio.to_thread(world.ensemble.wipe, name)
        await asyncio.to_thread(world.ensemble.start, name)
        await until(partial(serves, world.ensemble, name), f"{name} to serve")

    assert await world.await_leader() == leader
    assert world.ensemble.pid(leader) == pid
    await world.grow(10)
    await world.settled()


async def test_when_all_zookeeper_servers_lost_their_data_agents_bring_the_tasks_back(
    world: World,
) -> None:
    """The registry is empty then: what operators set is lost, what agents hold is not.

    Until its agent is back nobody knows of a task (TASK_UNKNOWN), so that a framework
    may launch another in its place.
    """
    old = await world.await_leader()
    before = world.scheduler.running
    for name in ("z1", "z2", "z3"):
        await asyncio.to_thread(world.ensemble.wipe, name)
    await until(lambda: not world.ensemble.is_alive(old), "the leader to step down", seconds=30)

    for name in ("z1", "z2", "z3", old):
        await asyncio.to_thread(world.ensemble.start, name)
    await world.await_leader()
    await until(lambda: before <= world.scheduler.running, "the tasks to be back")
    await until(lambda: world.held.keys() == world.scheduler.running, "every task to run")

    assert set(world.held.values()) == {1}


def serves(ensemble: Ensemble, name: str) -> bool:
    try:
        return "Mode: " in ask(None, ensemble.host(name), 2181, "srvr")
    except UnavailableError:
        return False
