"""Run ``phalanx marathon``: the only place that knows all parts."""

import asyncio
import socket
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random

import aiohttp
import msgspec
import structlog

from phalanx.core.api.serve import Listener, serve
from phalanx.core.collector import calm_collector, collect_now_and_then
from phalanx.core.coordination import Coordination, alone_on_disk, through_zookeeper
from phalanx.core.daemon import allow_many_files, run_daemon
from phalanx.core.detector import open_detector
from phalanx.core.error import UnavailableError
from phalanx.core.log import configure_log
from phalanx.marathon.api.application import build_app
from phalanx.marathon.api.desk import Desk, Seat
from phalanx.marathon.config import LOADER, MarathonConfig
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.orders import Orders
from phalanx.marathon.engine.scheduler import Scheduler
from phalanx.marathon.info import FAILOVER_SECONDS, info
from phalanx.marathon.ledger.archive import Archives
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.probe.client import Prober
from phalanx.marathon.probe.readiness import ReadinessRounds
from phalanx.marathon.probe.rounds import Rounds
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.v1.mesos import Capability, FrameworkInfo

log = structlog.get_logger()

ROLES = ("*",)
CAPABILITIES = (
    *("PARTITION_AWARE", "MULTI_ROLE", "TASK_KILLING_STATE"),
    *("REGION_AWARE", "GPU_RESOURCES"),
)
ABDICATION_SECONDS = 0.5
COLLECT_SECONDS = 10.0  # calls to the master leave cycles; a look takes 50 ms at 50,000 tasks


def main(arguments: Sequence[str]) -> int:
    """Run Marathon until a signal; return the exit status."""

    async def start() -> None:
        config = LOADER.load(arguments)
        configure_log("marathon", level=config.log_level)
        allow_many_files()
        await run(config)

    return run_daemon(start)


async def run(config: MarathonConfig) -> None:
    """Listen, contend, and lead whenever we win; end when leadership is lost.

    A Marathon that lost leadership starts anew: whoever leads now has changed the state.
    """
    async with AsyncExitStack() as stack:
        coordination = await _coordination(config, stack)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)
        )
        listener = Listener(str(config.http_address), config.http_port)
        seat = Seat()
        (bound,) = await stack.enter_async_context(
            serve(build_app(seat, session, config.policy), listener)
        )
        assert isinstance(bound, Listener)  # it was asked for as one
        seat.me = f"{config.hostname or socket.gethostname()}:{bound.port}"
        await contend(config, coordination, seat)


async def _coordination(config: MarathonConfig, stack: AsyncExitStack) -> Coordination:
    """Return election and store: ZooKeeper's with ``--zk``, else those of a Marathon alone."""
    if config.zk is None:
        return alone_on_disk(config.work_dir / "marathon.db", stack)
    seconds = config.zk_session_seconds
    return await through_zookeeper(config.zk, "state", stack, session_seconds=seconds)


class Candidate(msgspec.Struct, frozen=True):
    """What our node in the election says; *id* tells us from earlier lives at our address."""

    id: str
    leader: str


async def contend(config: MarathonConfig, coordination: Coordination, seat: Seat) -> None:
    """Follow the election; raise UnavailableError, in a group, when we lose what we won."""
    me = Candidate(str(uuid.uuid4()), seat.me)
    seat.is_certain = coordination.election.is_certain
    is_leading = False
    async with asyncio.TaskGroup() as tasks:
        async for payload in coordination.election.watch(msgspec.json.encode(me)):
            holder = _holder(payload, me)
            log.info("leader_elected", leader=holder.leader if holder else None)
            if holder == me and not is_leading:
                is_leading = True
                seat.fill(seat.me)
                tasks.create_task(lead(config, coordination, seat))
            elif holder != me:
                seat.fill(holder.leader if holder is not None else None)
                if is_leading:
                    raise UnavailableError("leadership is lost")


def _holder(payload: bytes | None, me: Candidate) -> Candidate | None:
    """Return who leads; nobody for an earlier life of ours, which can't answer any more."""
    if payload is None:
        return None
    try:
        holder = msgspec.json.decode(payload, type=Candidate)
    except msgspec.DecodeError as error:
        log.warning("leader_not_understood", error=str(error))
        return None
    return None if holder.leader == me.leader and holder.id != me.id else holder


async def lead(config: MarathonConfig, coordination: Coordination, seat: Seat) -> None:
    """Open everything and lead until cancelled; raise UnavailableError when leading must end."""
    async with AsyncExitStack() as stack:
        store = coordination.fenced()
        archives = Archives(config.backup_location, store)
        await archives.restore_if_asked()
        ledger = Ledger(store)
        calm_collector()  # or it looks through all that is being read again and again
        await ledger.load()
        calm_collector()
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        board = Board(ledger, clock=time.time, rng=Random(), identity=lambda: str(uuid.uuid4()))
        rounds = Rounds(board, Prober(session).probe)
        stack.push_async_callback(rounds.close)
        readiness = ReadinessRounds(board, Prober(session).ask)
        stack.push_async_callback(readiness.close)

        def settle() -> None:
            rounds.settle()
            readiness.settle()

        client = SchedulerClient(
            session,
            await open_detector(config.master, stack),
            lost=lambda: board.bus.publish("scheduler_disconnected_event"),
        )
        abdicated = asyncio.Event()
        desk = Desk(
            board=board,
            orders=Orders(board),
            leader=seat.me,
            framework_name=config.framework_name,
            default_network=config.default_network_name,
            master=lambda: client.master,
            started_at=time.time(),
            info=info(config),
            abdicate=abdicated.set,
            archives=archives,
        )
        hostname = config.hostname or socket.gethostname()
        scheduler = Scheduler(board, client, framework(config, hostname), settled=settle)
        seat.fill(seat.me, desk)
        log.info("leading", apps=len(ledger.apps), tasks=len(ledger.instances()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(scheduler.run())
            tasks.create_task(coordination.doubt())
            tasks.create_task(collect_now_and_then(COLLECT_SECONDS))
            tasks.create_task(_step_down(abdicated))


async def _step_down(abdicated: asyncio.Event) -> None:
    """Raise UnavailableError soon after an operator asked us to let another lead."""
    await abdicated.wait()
    await asyncio.sleep(ABDICATION_SECONDS)
    raise UnavailableError("leadership was abdicated")


def framework(config: MarathonConfig, hostname: str) -> FrameworkInfo:
    """Return how we present ourselves to the master."""
    return FrameworkInfo(
        user="root",
        name=config.framework_name,
        roles=ROLES,
        checkpoint=True,
        failover_timeout=FAILOVER_SECONDS,
        hostname=hostname,
        webui_url=f"http://{hostname}:{config.http_port}",
        capabilities=tuple(Capability(type=name) for name in CAPABILITIES),
    )
