"""Run ``phalanx marathon``: the only place that knows all parts."""

import asyncio
import socket
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from random import Random

import aiohttp
import structlog

from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import HostPort
from phalanx.core.daemon import run_daemon
from phalanx.core.election import Election, Standalone
from phalanx.core.error import ConfigError, UnavailableError
from phalanx.core.log import configure_log
from phalanx.core.store.sqlite import SqliteStore
from phalanx.marathon.api.application import build_app
from phalanx.marathon.api.desk import Desk
from phalanx.marathon.config import LOADER, MarathonConfig
from phalanx.marathon.engine.board import Board
from phalanx.marathon.engine.orders import Orders
from phalanx.marathon.engine.scheduler import Scheduler
from phalanx.marathon.ledger.ledger import Ledger
from phalanx.marathon.probe.client import Prober
from phalanx.marathon.probe.rounds import Rounds
from phalanx.mesos.client import SchedulerClient
from phalanx.mesos.v1.mesos import Capability, FrameworkInfo

log = structlog.get_logger()

VERSION = "1.11.24"  # of the REST API that we are compatible with
ROLES = ("*",)
CAPABILITIES = ("PARTITION_AWARE", "MULTI_ROLE", "TASK_KILLING_STATE")
FAILOVER_SECONDS = 604_800.0


def main(arguments: Sequence[str]) -> int:
    """Run Marathon until a signal; return the exit status."""
    try:
        config = LOADER.load(arguments)
        configure_log("marathon", level=config.log_level)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run_daemon(lambda: run(config, Standalone()))


async def run(config: MarathonConfig, election: Election) -> None:
    """Lead whenever *election* says so; end when leadership is lost.

    A Marathon that lost leadership starts anew: whoever leads now has changed the state.
    """
    me = f"{config.hostname or socket.gethostname()}:{config.http_port}".encode()
    leading: asyncio.Task[None] | None = None
    async with asyncio.TaskGroup() as tasks:
        async for leader in election.watch(me):
            if leader == me and leading is None:
                leading = tasks.create_task(lead(config))
            elif leader != me and leading is not None:
                raise UnavailableError("leadership lost")


async def lead(config: MarathonConfig) -> None:
    """Open everything and run until cancelled."""
    async with AsyncExitStack() as stack:
        ledger = Ledger(SqliteStore(config.work_dir / "marathon.db"))
        stack.push_async_callback(ledger.close)
        await ledger.load()
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        board = Board(ledger, clock=time.time, rng=Random(), identity=lambda: str(uuid.uuid4()))
        rounds = Rounds(board, Prober(session).probe)
        stack.push_async_callback(rounds.close)
        client = SchedulerClient(session, config.master)
        hostname = config.hostname or socket.gethostname()
        desk = Desk(
            board=board,
            orders=Orders(board),
            leader=f"{hostname}:{config.http_port}",
            framework_name=config.framework_name,
            default_network=config.default_network_name,
            master=lambda: client.master,
            started_at=time.time(),
            info=info(config),
        )
        listener = Listener(str(config.http_address), config.http_port)
        await stack.enter_async_context(serve(build_app(desk), listener))
        scheduler = Scheduler(board, client, framework(config, hostname), settled=rounds.settle)
        log.info("leading", apps=len(ledger.apps), tasks=len(ledger.instances()))
        await scheduler.run()


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


def info(config: MarathonConfig) -> Mapping[str, object]:
    """Return what ``/v2/info`` says of our settings."""
    masters: Sequence[HostPort] = config.master
    return {
        "version": VERSION,
        "buildref": "phalanx",
        "marathon_config": {
            "checkpoint": True,
            "decline_offer_duration": 120_000,
            "default_network_name": config.default_network_name,
            "executor": "//cmd",
            "failover_timeout": FAILOVER_SECONDS,
            "features": ["task_killing", "vips"],
            "framework_name": config.framework_name,
            "ha": False,
            "hostname": config.hostname or socket.gethostname(),
            "local_port_min": 10_000,
            "local_port_max": 20_000,
            "master": ",".join(str(master) for master in masters),
            "mesos_role": "*",
            "mesos_user": "root",
        },
        "zookeeper_config": {},
        "http_config": {"http_port": config.http_port, "https_port": None},
    }
