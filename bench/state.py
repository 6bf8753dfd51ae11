"""How soon `GET /state` of a great cluster begins, and what offers feel of it meanwhile."""

import asyncio
import json
import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from multiprocessing import Queue
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import aiohttp
import uvloop
from claim import Bound, Figure
from daemons import running

from phalanx.core.api.serve import Listener, serve
from phalanx.core.collector import calm_collector
from phalanx.core.log import configure_log
from phalanx.core.store.memory import MemoryStore
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.recovery import recover
from phalanx.master.seat import Seat
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import AgentInfo, FrameworkInfo, Task

PORT = 15151
AGENTS = 10_000
TASKS = 100_000
FRAMEWORKS = 200
SPARE = 20  # agents that have something to offer
READERS = 4
AT_REST_SECONDS = 10.0
FOR_EVER = 1e9
POLL_SECONDS = 0.1
FRAME_BYTES = 64  # of an answer before its first byte counts

GOALS = {"first": 0.1, "whole": 15.0, "offers": 1.25}


def measure() -> Sequence[Figure]:
    """Fill a master, watch a framework's offers at rest and while several clients read."""
    with filled_master():
        return uvloop.run(watch())


async def watch() -> Sequence[Figure]:
    """Measure with one process that reads offers and *READERS* that read the state."""
    alone = await asyncio.to_thread(read, "/state")
    warm = await asyncio.to_thread(read, "/state")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}") as session:
        subscription = Subscription(session)
        task = asyncio.create_task(subscription.run())
        await asyncio.sleep(AT_REST_SECONDS)
        rest = subscription.longest_gap()
        context = multiprocessing.get_context("spawn")
        queue: Any = context.Queue()
        readers = [context.Process(target=read_into, args=(queue,)) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        results = [await asyncio.to_thread(queue.get) for _ in readers]
        busy = subscription.longest_gap()
        for reader in readers:
            reader.join()
        task.cancel()
    first = max(result[0] for times in results for result in times)
    total = max(result[1] for times in results for result in times)
    return [
        Figure("first byte, first read", "s", alone[0], Bound.OURS_AT_MOST, GOALS["first"]),
        Figure("whole answer, first read", "s", alone[1], Bound.OURS_AT_MOST, GOALS["whole"]),
        Figure("first byte, read again", "s", warm[0], Bound.OURS_AT_MOST, GOALS["first"]),
        Figure("whole answer, read again", "s", warm[1], Bound.OURS_AT_MOST, GOALS["whole"]),
        Figure(f"first byte, {READERS} readers", "s", first, Bound.OURS_AT_MOST, GOALS["first"]),
        Figure(f"whole answer, {READERS} readers", "s", total, Bound.OURS_AT_MOST, GOALS["whole"]),
        Figure(
            f"longest time from DECLINE to offers, {READERS} readers (peer: at rest)",
            "s",
            busy,
            Bound.OURS_AT_MOST,
            GOALS["offers"],
            peer=rest,
        ),
    ]


class Subscription:
    """A framework that declines whatever it is offered, and when it was offered something."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._waits: list[float] = []

    def longest_gap(self) -> float:
        """Return the longest wait for offers since it was last asked."""
        longest = max(self._waits, default=0.0)
        self._waits.clear()
        return longest

    async def run(self) -> None:
        """Subscribe and decline until cancelled."""
        info: dict[str, object] = {
            "user": "root",
            "name": "watcher",
            "roles": ["watcher"],
            "capabilities": [{"type": "MULTI_ROLE"}],
        }
        body = {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}
        decoder = RecordDecoder(max_bytes=64 * 1024 * 1024)
        asked = 0.0
        async with self._session.post(
            "/api/v1/scheduler", json=body, timeout=aiohttp.ClientTimeout(total=None)
        ) as response:
            headers = {"Mesos-Stream-Id": response.headers["Mesos-Stream-Id"]}
            framework_id: Any = None
            async for chunk in response.content.iter_any():
                for record in decoder.feed(chunk):
                    event = json.loads(record)
                    if event["type"] == "SUBSCRIBED":
                        framework_id = event["subscribed"]["framework_id"]
                    if event["type"] != "OFFERS":
                        continue
                    now = time.perf_counter()
                    if asked:
                        self._waits.append(now - asked)
                    ids = [offer["id"] for offer in event["offers"]["offers"]]
                    call = {
                        "framework_id": framework_id,
                        "type": "DECLINE",
                        "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 0}},
                    }
                    asked = time.perf_counter()
                    async with self._session.post(
                        "/api/v1/scheduler", json=call, headers=headers
                    ) as answered:
                        assert answered.status == 202, await answered.text()


def read_into(queue: "Queue[list[tuple[float, float]]]") -> None:
    """Read the state three times over and tell how long each took."""
    queue.put([read("/state") for _ in range(3)])


def read(path: str) -> tuple[float, float]:
    """Return the seconds to the first byte of a page's body, and to its end."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", PORT)) as end:
        request = f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n"
        end.sendall(request.encode())
        head = b""
        while len(head.partition(b"\r\n\r\n")[2]) < 1:
            some = end.recv(65536)
            if not some:
                raise SystemExit(f"{path}: no answer")
            head += some
        first = time.perf_counter() - began
        size = len(head)
        while some := end.recv(1 << 20):
            size += len(some)
    if b" 200 " not in head[:FRAME_BYTES]:
        raise SystemExit(head[:FRAME_BYTES].decode())
    return first, time.perf_counter() - began


@contextmanager
def filled_master() -> Iterator[None]:
    """Run a master with a full cluster in a process of its own."""
    with running([sys.executable, __file__]) as process:
        assert process.stdout is not None  # a pipe, as asked for
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the master does not answer")
        yield


async def serve_filled() -> None:
    """Serve a master that leads *AGENTS* agents with *TASKS* tasks; print a line once it does."""
    configure_log("bench", level="error")
    config = MasterConfig(work_dir=Path("/nonexistent"), port=PORT)
    clock = SystemClock()
    seat = Seat(config, clock)
    seat.me = seat.holder = master_info(str(uuid4()), config.ip, PORT, "bench")
    leader = await recover(
        config, seat.me, MemoryStore(), clock, new_id=lambda: str(uuid4()), rng=Random(1)
    )
    fill(leader.cluster, clock)
    calm_collector()
    leader.publisher.open()
    await leader.publisher.publish_once()  # it takes seconds, and nobody reads before it is done
    seat.leader = leader
    async with serve(build_app(seat), Listener("127.0.0.1", PORT)):
        leading = asyncio.ensure_future(leader.run())
        while not leader.allocator.runs:  # noqa: ASYNC110 - nothing tells of a first run
            await asyncio.sleep(POLL_SECONDS)
        print("ready", flush=True)
        await leading


def fill(cluster: Cluster, clock: SystemClock) -> None:
    """Put agents, frameworks and running tasks into a cluster."""
    total = Resources.parse("cpus:16;mem:65536;disk:500000;ports:[31000-32000]")
    wall = clock.wall()
    for number in range(AGENTS):
        id = f"bench-S{number}"
        info = from_json(
            AgentInfo, {"hostname": f"node-{number}", "id": {"value": id}, "port": 5051}
        )
        address = IPv4Address("10.64.0.1") + number
        agent = Agent(id, info, address, "1.11.0", total, wall, clock.now() + FOR_EVER)
        agent.stream = Stream(f"stream-{number}")
        agent.is_deactivated = number >= SPARE
        cluster.add_agent(agent)
    for number in range(FRAMEWORKS):
        framework_info = from_json(
            FrameworkInfo,
            {"user": "root", "name": f"framework-{number}", "id": {"value": f"bench-{number}"}},
        )
        cluster.add_framework(Framework(framework_info, registered=wall, reregistered=wall))
    for number in range(TASKS):
        cluster.add_task(task(number, wall))


def task(number: int, wall: float) -> Task:
    """Return a running task as a scheduler of services launches them."""
    id = f"service-{number % 997}.instance-{number}"
    address = str(IPv4Address("9.0.0.0") + number)
    agent_id = {"value": f"bench-S{number % AGENTS}"}
    network = {"name": "dcos", "ip_addresses": [{"protocol": "IPv4", "ip_address": address}]}
    statuses = [
        {
            "task_id": {"value": id},
            "state": state,
            "timestamp": wall,
            "source": "SOURCE_EXECUTOR",
            "agent_id": agent_id,
            "container_status": {
                "container_id": {"value": f"{number:032x}"},
                "network_infos": [network],
            },
        }
        for state in ("TASK_STARTING", "TASK_RUNNING")
    ]
    port = 31000 + number // AGENTS
    return from_json(
        Task,
        {
            "name": id,
            "task_id": {"value": id},
            "framework_id": {"value": f"bench-{number % FRAMEWORKS}"},
            "agent_id": agent_id,
            "state": "TASK_RUNNING",
            "resources": [
                {
                    "name": name,
                    "type": "SCALAR",
                    "scalar": {"value": value},
                    "allocation_info": {"role": "*"},
                }
                for name, value in (("cpus", 0.5), ("mem", 256.0))
            ]
            + [
                {
                    "name": "ports",
                    "type": "RANGES",
                    "ranges": {"range": [{"begin": port, "end": port}]},
                    "allocation_info": {"role": "*"},
                }
            ],
            "statuses": statuses,
            "labels": {"labels": [{"key": "team", "value": f"team-{number % 40}"}]},
            "discovery": {
                "visibility": "CLUSTER",
                "name": f"service-{number % 997}",
                "ports": {"ports": [{"number": port, "name": "http", "protocol": "tcp"}]},
            },
        },
    )


if __name__ == "__main__":
    uvloop.run(serve_filled())
