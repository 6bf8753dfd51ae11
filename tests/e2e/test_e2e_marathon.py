"""A Marathon that is killed, and what it leans on: deployments end well, nothing runs twice.

Agents are simulated, so that what was launched is known to the test itself.
"""

import asyncio
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from tests.e2e.alone import PHALANX, free_port
from tests.e2e.holding import held_by, launches_of

from phalanx.labs.client import ask
from phalanx.labs.ensemble import Ensemble
from phalanx.labs.simulated.agent import SimulatedAgent
from phalanx.labs.simulated.command import Fleet, make_agents
from phalanx.labs.zookeeper import CLIENT_PORT

AGENTS = 5
INSTANCES = 3
SECONDS = 60.0
FLAGS = (
    "--zk_session_timeout=4secs",
    "--agent_reregister_timeout=30secs",
    "--allocation_interval=100ms",
)
APP: dict[str, Any] = {
    "id": "/job",
    "cmd": "sleep 1000",
    "cpus": 0.1,
    "mem": 32,
    "portDefinitions": [],
    "backoffSeconds": 0,
    "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.4},
}


class World:
    """The ensemble, its agents, and one Marathon at a time."""

    def __init__(self, ensemble: Ensemble, place: Path, store: str) -> None:
        self.ensemble = ensemble
        self.agents: list[SimulatedAgent] = make_agents(AGENTS, "cpus:64;mem:65536")
        self._place = place
        self._port = free_port()
        zookeeper = ensemble.zookeeper
        base = f"zk://{zookeeper.hosts}"
        words = [f"--master={base}{zookeeper.path}", f"--work-dir={place}"]
        words += ["--http-address=127.0.0.1", f"--http-port={self._port}", "--hostname=127.0.0.1"]
        if store == "zookeeper":
            words += [f"--zk={base}/{place.name}", "--zk-session-timeout=4000"]
        self._words = words
        self._count_writes = self._zookeeper_writes if store == "zookeeper" else self._disk_writes
        self._process: subprocess.Popen[bytes] | None = None
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))

    @property
    def held(self) -> Counter[str]:
        """Return how often each task is there on all agents together."""
        return held_by(self.agents)

    @property
    def launches(self) -> int:
        """Return how many tasks agents have ever launched."""
        return launches_of(self.agents)

    @property
    def is_alive(self) -> bool:
        """Tell whether Marathon's process runs."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start a Marathon."""
        with (self._place / "log").open("ab") as log:
            words = [*PHALANX, "marathon", *self._words]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)

    async def start(self) -> None:
        """Start a Marathon, again whenever it ends as a supervisor would, until it leads."""
        self.spawn()
        async with asyncio.timeout(SECONDS):
            while (await self.ask("GET", "/v2/leader"))[0] != 200:
                if not self.is_alive:
                    self.spawn()
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """Kill Marathon at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make one request; the status is 0 when nobody answers."""
        url = f"http://127.0.0.1:{self._port}{path}"
        try:
            async with self._session.request(method, url, json=body) as answer:
                return answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError):
            return 0, None

    def kill_at_write(self, number: int, over: threading.Event) -> bool:
        """Kill Marathon when it has written so often; tell if it came to that before *over*."""
        seen, count, deadline = self._count_writes(), 0, time.monotonic() + SECONDS
        while not over.is_set() and time.monotonic() < deadline:
            now = self._count_writes()
            if now != seen:
                seen, count = now, count + 1
                if count >= number:
                    self.kill()
                    return True
            time.sleep(0.0002)  # waits: between two looks at what is written
        return False

    async def upgrade(self, turn: int) -> None:
        """Order the app of this turn, again until the order is known to be taken."""
        wanted = {**APP, "instances": INSTANCES, "env": {"TURN": str(turn)}}
        while self.is_alive:
            _, answer = await self.ask("GET", "/v2/apps/job")
            if answer and answer.get("app", {}).get("env") == wanted["env"]:
                return
            await self.ask("PUT", "/v2/apps/job?force=true", wanted)

    async def settled(self) -> None:
        """Wait until nothing is deployed and every task that runs is one of Marathon's."""
        what = ""
        try:
            async with asyncio.timeout(SECONDS):
                while what != "settled":
                    what = await self._look()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"waited {SECONDS:g} s: {what}; see {self._place}/log")

    async def _look(self) -> str:
        _, deployments = await self.ask("GET", "/v2/deployments")
        if deployments != []:
            return f"deployments: {deployments}"
        _, answer = await self.ask("GET", "/v2/apps/job/tasks")
        tasks = {task["id"] for task in (answer or {}).get("tasks", ())}
        is_same = tasks == self.held.keys() and len(tasks) > 0
        return "settled" if is_same else f"{tasks} are not {self.held}"

    async def ended(self) -> int:
        """Wait until Marathon has ended by itself; return its status."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, SECONDS)

    async def close(self) -> None:
        """End everything."""
        await self._session.close()
        self.kill()

    def _disk_writes(self) -> object:
        with suppress(FileNotFoundError):
            found = (self._place / "marathon.db-wal").stat()
            return found.st_size, found.st_mtime_ns
        return None

    def _zookeeper_writes(self) -> object:
        said = ask(None, self.ensemble.host("z1"), CLIENT_PORT, "srvr")
        return next((line for line in said.splitlines() if line.startswith("Zxid")), None)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    net = IPv4Address(f"127.{Random().randint(64, 250)}.{Random().randint(0, 255)}.0")
    place = tmp_path_factory.mktemp("ensemble")
    with Ensemble(place, net, masters=2, flags=FLAGS) as ensemble:
        yield ensemble


@asynccontextmanager
async def world_on(ensemble: Ensemble, place: Path, store: str) -> AsyncIterator[World]:
    """Run a Marathon with the first turn of its app."""
    for name in ("z1", "z2", "z3", "m1", "m2"):
        if not ensemble.is_alive(name):
            await asyncio.to_thread(ensemble.start, name)
    await asyncio.to_thread(ensemble.await_leader)
    world = World(ensemble, place, store)
    running = asyncio.ensure_future(Fleet(ensemble.hosts, world.agents).run())
    try:
        await world.start()
        await world.upgrade(0)
        await world.settled()
        yield world
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await world.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("store", "apart"), [("sqlite", 3), ("zookeeper", 6)])
async def test_killed_at_any_write_it_comes_back_and_launches_nothing_twice(
    ensemble: Ensemble, tmp_path: Path, store: str, apart: int
) -> None:
    async with world_on(ensemble, tmp_path, store) as world:
        turn, number, is_killed = 0, 1, True
        while is_killed:
            turn, before = turn + 1, world.launches
            over = threading.Event()
            killing = asyncio.create_task(asyncio.to_thread(world.kill_at_write, number, over))
            await world.upgrade(turn)
            if world.is_alive:
                finishing = asyncio.create_task(world.settled())
                await asyncio.wait((killing, finishing), return_when=asyncio.FIRST_COMPLETED)
                finishing.cancel()
                await asyncio.gather(finishing, return_exceptions=True)
            over.set()
            is_killed = await killing
            if is_killed:
                await world.start()
                await world.upgrade(turn)
                await world.settled()

            assert len(world.held) == INSTANCES, f"after {number} writes"
            assert set(world.held.values()) == {1}, f"after {number} writes"
            assert world.launches == before + INSTANCES, f"after {number} writes"
            number += apart
        assert turn > 2


async def test_a_master_that_fails_over_amid_a_deployment_is_not_missed(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    async with world_on(ensemble, tmp_path, "sqlite") as world:
        before = world.held.keys()
        old = await asyncio.to_thread(ensemble.await_leader)
        await world.ask("PUT", "/v2/apps/job", {"instances": 4 * INSTANCES})

        await asyncio.to_thread(ensemble.kill, old)

        await asyncio.to_thread(ensemble.await_leader, other_than=old)
        await world.settled()
        assert before < world.held.keys()
        assert len(world.held) == 4 * INSTANCES == world.launches


async def test_without_zookeeper_marathon_ends_and_goes_on_when_it_is_back(
    ensemble: Ensemble, tmp_path: Path
) -> None:
    async with world_on(ensemble, tmp_path, "zookeeper") as world:
        before = world.held.keys()
        await world.ask("PUT", "/v2/apps/job", {"instances": 4 * INSTANCES})
        for name in ("z1", "z2"):
            await asyncio.to_thread(ensemble.kill, name)
        assert await world.ended() == 1
        assert before <= world.held.keys()

        for name in ("z1", "z2", "m1", "m2"):
            if not ensemble.is_alive(name):
                await asyncio.to_thread(ensemble.start, name)
        await asyncio.to_thread(ensemble.await_leader)
        await world.start()

        await world.settled()
        assert before < world.held.keys()
        assert len(world.held) == 4 * INSTANCES == world.launches
