"""A master of paper: the real protocol over real HTTP, with every decision left to the test."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from phalanx.core.config import HostPort
from phalanx.core.detector import Listed
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import Store
from phalanx.marathon.api.application import build_app
from phalanx.marathon.api.desk import Desk, Seat
from phalanx.marathon.app import framework
from phalanx.marathon.config import LOADER
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.orders import Orders
from phalanx.marathon.engine.scheduler import Scheduler
from phalanx.marathon.info import info
from phalanx.marathon.ledger.archive import Archives
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.probe.client import Prober
from phalanx.marathon.probe.readiness import ReadinessRounds
from phalanx.marathon.probe.rounds import Rounds
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.scheduler import Call, Event, Offers, Subscribed, Update

SECONDS = 30.0


class FakeMaster:
    """Answers subscriptions, keeps every call, and sends the events it is told to."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.subscriptions: list[Call] = []
        self.stream_id = ""
        self.heartbeat_seconds = 15.0
        self.redirect_to: str | None = None
        self.is_closed = False
        self.refusal: int | None = None  # status of the next call, instead of 202
        self.framework_id = "fw-0000"
        self._stream: web.StreamResponse | None = None
        self._ended = asyncio.Event()
        self._arrived = asyncio.Condition()
        self._server = TestServer(self._application())

    def _application(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.post("/api/v1/scheduler", self._receive)])
        return app

    async def start(self) -> None:
        """Listen on a free port."""
        await self._server.start_server()

    async def stop(self) -> None:
        """End the stream and stop listening."""
        self.hang_up()
        await self._server.close()

    @property
    def address(self) -> HostPort:
        """Return where it listens."""
        return HostPort("127.0.0.1", int(self._server.port or 0))

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        if self.redirect_to is not None:
            location = f"//{self.redirect_to}/api/v1/scheduler"
            return web.Response(status=307, headers={"Location": location})
        if self.is_closed:
            return web.Response(status=503)
        call = decode(Call, await request.read())
        if call.type == "SUBSCRIBE":
            return await self._subscribe(request, call)
        if request.headers.get("Mesos-Stream-Id") != self.stream_id:
            return web.Response(status=400, text="The stream ID didn't match")
        if self.refusal is not None:
            status, self.refusal = self.refusal, None
            return web.Response(status=status, text="refused")
        async with self._arrived:
            self.calls.append(call)
            self._arrived.notify_all()
        return web.Response(status=202)

    async def _subscribe(self, request: web.Request, call: Call) -> web.StreamResponse:
        self.hang_up()
        self._ended = ended = asyncio.Event()
        self.stream_id = str(uuid.uuid4())
        stream = web.StreamResponse(headers={"Mesos-Stream-Id": self.stream_id})
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        self._stream = stream
        await self.send(
            Event(
                type="SUBSCRIBED",
                subscribed=Subscribed(
                    framework_id=mesos.FrameworkID(value=self.framework_id),
                    heartbeat_interval_seconds=self.heartbeat_seconds,
                ),
            )
        )
        async with self._arrived:
            self.subscriptions.append(call)
            self._arrived.notify_all()
        await ended.wait()
        return stream

    def hang_up(self) -> None:
        """End the present stream."""
        self._ended.set()

    async def send(self, event: Event) -> None:
        """Send one event."""
        await self.send_raw(encode_record(encode(event)))

    async def send_raw(self, raw: bytes) -> None:
        """Send bytes as they are."""
        assert self._stream is not None
        await self._stream.write(raw)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until *condition* is true after some call; return what it is."""
        async with asyncio.timeout(SECONDS), self._arrived:
            return await self._arrived.wait_for(condition)

    def of(self, kind: str) -> list[Call]:
        """Return the calls of one type so far."""
        return [call for call in self.calls if call.type == kind]

    async def next(self, kind: str, *, seen: int = 0) -> Call:
        """Wait for the call of this type that follows *seen* others; return it."""
        await self.until(lambda: len(self.of(kind)) > seen)
        return self.of(kind)[seen]

    async def subscribed(self, number: int = 1) -> Call:
        """Wait for this many subscriptions; return the last of them."""
        await self.until(lambda: len(self.subscriptions) >= number)
        return self.subscriptions[number - 1]

    def launched(self) -> list[mesos.TaskInfo]:
        """Return every task of every ACCEPT so far."""
        return [
            task
            for call in self.of("ACCEPT")
            if call.accept is not None
            for operation in call.accept.operations
            for task in _tasks_of(operation)
        ]

    def groups(self) -> list[mesos.LaunchGroup]:
        """Return every task group of every ACCEPT so far."""
        return [
            operation.launch_group
            for call in self.of("ACCEPT")
            if call.accept is not None
            for operation in call.accept.operations
            if operation.launch_group is not None
        ]

    async def tasks(self, count: int) -> list[mesos.TaskInfo]:
        """Wait until this many tasks were launched in all; return them."""
        await self.until(lambda: len(self.launched()) >= count)
        return self.launched()

    async def offer(
        self, *hostnames: str, cpus: float = 8, ports: str = "31000-32000", role: str = "*"
    ) -> None:
        """Offer one agent for each name."""
        offers = tuple(make_offer(name, cpus=cpus, ports=ports, role=role) for name in hostnames)
        await self.send(Event(type="OFFERS", offers=Offers(offers=offers)))

    async def update(
        self,
        task: mesos.TaskInfo,
        state: str,
        *,
        address: str = "9.0.1.2",
        healthy: bool | None = None,
        with_uuid: bool = True,
        message: str | None = None,
    ) -> bytes | None:
        """Send a status update of *task*; return its uuid."""
        number = uuid.uuid4().bytes if with_uuid else None
        network = mesos.NetworkInfo(ip_addresses=(mesos.IPAddress(ip_address=address),))
        status = mesos.TaskStatus(
            task_id=task.task_id,
            state=mesos.TaskState(state),
            agent_id=task.agent_id,
            uuid=number,
            healthy=healthy,
            message=message,
            container_status=mesos.ContainerStatus(network_infos=(network,)),
        )
        await self.send(Event(type="UPDATE", update=Update(status=status)))
        return number


def _tasks_of(operation: mesos.Operation) -> tuple[mesos.TaskInfo, ...]:
    if operation.launch_group is not None:
        return operation.launch_group.task_group.tasks
    return () if operation.launch is None else operation.launch.task_infos


def make_offer(
    hostname: str,
    *,
    cpus: float = 8,
    mem: float = 4096,
    ports: str = "31000-32000",
    role: str = "*",
) -> mesos.Offer:
    """Return an offer of an agent, its resources allocated to *role*."""
    begin, _, end = ports.partition("-")
    allocation = mesos.AllocationInfo(role=role)
    scalars = tuple(
        mesos.Resource(
            name=name,
            type=mesos.ValueType.SCALAR,
            scalar=mesos.Scalar(value=value),
            role="*",
            allocation_info=allocation,
        )
        for name, value in (("cpus", cpus), ("mem", mem), ("disk", 10_000.0))
    )
    spans = mesos.Ranges(range=(mesos.Range(begin=int(begin), end=int(end)),))
    port_range = mesos.Resource(
        name="ports",
        type=mesos.ValueType.RANGES,
        ranges=spans,
        role="*",
        allocation_info=allocation,
    )
    return mesos.Offer(
        id=mesos.OfferID(value=f"offer-{uuid.uuid4().hex[:8]}"),
        framework_id=mesos.FrameworkID(value="fw-0000"),
        agent_id=mesos.AgentID(value=f"agent-{hostname}"),
        hostname=hostname,
        url=mesos.URL(
            scheme="http", address=mesos.Address(hostname=hostname, ip="127.0.0.1", port=5051)
        ),
        resources=(*scalars, port_range),
        allocation_info=allocation,
    )


class Marathon:
    """A running Marathon and a client of its REST API."""

    def __init__(self, session: aiohttp.ClientSession, base: str, board: Board, seat: Seat) -> None:
        self.session = self._session = session
        self.url = base
        self.board = board
        self.seat = seat

    async def ask(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None
    ) -> tuple[int, Any]:
        """Make one request; return status and parsed body, the text if it is not JSON."""
        data = raw if raw is not None or body is None else msgspec.json.encode(body)
        async with self._session.request(method, self.url + path, data=data) as response:
            text = await response.read()
            is_json = bool(text) and response.content_type == "application/json"
            return response.status, msgspec.json.decode(text) if is_json else text.decode()

    async def request(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """Make one request and leave the answer open."""
        return await self._session.request(method, self.url + path, **options)

    async def until(self, path: str, condition: Callable[[Any], bool]) -> Any:
        """Ask for *path* until its answer meets *condition*; return the answer."""
        async with asyncio.timeout(SECONDS):
            while True:
                _, answer = await self.ask("GET", path)
                if condition(answer):
                    return answer
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_marathon(
    master: FakeMaster, work_dir: Path, wrap: Callable[[Store], Store] = lambda store: store
) -> AsyncIterator[Marathon]:
    """Run a Marathon on *master* while the context lasts, wired as ``app.lead`` wires it."""
    store = wrap(SqliteStore(work_dir / "marathon.db"))
    archives = Archives(work_dir / "backup", store)
    await archives.restore_if_asked()
    ledger = Ledger(store)
    await ledger.load()
    config = LOADER.load(["--master", str(master.address), "--work-dir", str(work_dir)], {})
    async with aiohttp.ClientSession() as session:
        loop = asyncio.get_running_loop()
        board = Board(
            ledger,
            clock=lambda: 1.6e9 + loop.time(),
            rng=Random(7),
            identity=lambda: str(uuid.uuid4()),
        )
        rounds = Rounds(board, Prober(session).probe)
        readiness = ReadinessRounds(board, Prober(session).ask)

        def settle() -> None:
            rounds.settle()
            readiness.settle()

        client = SchedulerClient(
            session,
            Listed([master.address]),
            backoff=lambda _: 0.01,
            lost=lambda: board.bus.publish("scheduler_disconnected_event"),
        )
        desk = Desk(
            board=board,
            orders=Orders(board),
            leader="m1:8080",
            framework_name="marathon",
            default_network="dcos",
            master=lambda: client.master,
            started_at=board.clock(),
            info=info(config),
            abdicate=lambda: None,
            archives=archives,
        )
        seat = Seat()
        seat.me = "m1:8080"
        seat.fill("m1:8080", desk)
        server = TestServer(build_app(seat, session))
        await server.start_server()
        scheduler = Scheduler(board, client, framework(config, "m1"), settled=settle)
        running = asyncio.create_task(scheduler.run())
        try:
            yield Marathon(session, str(server.make_url("")).rstrip("/"), board, seat)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await rounds.close()
            await readiness.close()
            await server.close()
            await ledger.close()


@pytest.fixture
async def master() -> AsyncIterator[FakeMaster]:
    """Yield a master that listens."""
    fake = FakeMaster()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def second() -> AsyncIterator[FakeMaster]:
    """Yield another master that listens."""
    fake = FakeMaster()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def start(master: FakeMaster, tmp_path: Path) -> Callable[[], Any]:
    """Return how to run a Marathon on the master; each call uses the same work directory."""
    return lambda: running_marathon(master, tmp_path / "work")


@pytest.fixture
async def marathon(master: FakeMaster, tmp_path: Path) -> AsyncIterator[Marathon]:
    """Yield a Marathon that is subscribed."""
    async with running_marathon(master, tmp_path / "work") as running:
        await master.subscribed()
        yield running
