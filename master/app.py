"""The master daemon: wires election, store, leadership and HTTP."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random
from uuid import uuid4

import structlog

from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import Loader
from phalanx.core.daemon import run_daemon
from phalanx.core.election import Election, Standalone
from phalanx.core.error import UnavailableError
from phalanx.core.log import configure_log
from phalanx.core.store.sqlite import SqliteStore
from phalanx.core.store.store import Store
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.leader import recover
from phalanx.master.masters import Masters
from phalanx.master.seat import Seat
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import MasterInfo

log = structlog.get_logger()

REGISTRY_FILE = "registry.db"


def main(arguments: Sequence[str]) -> int:
    """Run ``phalanx master``; return its exit status."""
    loader = Loader(
        MasterConfig,
        program="phalanx master",
        about="Run a master: offers, agents, frameworks, the network registry and the feed.",
        environ_prefix="MESOS",
    )

    async def run() -> None:
        config = loader.load(arguments)
        configure_log("master", level=config.log_level)
        await run_master(config)

    return run_daemon(run)


async def run_master(config: MasterConfig) -> None:
    """Run a master until cancelled, or until it loses the leadership it had."""
    seat = Seat(config, SystemClock())
    async with AsyncExitStack() as stack:
        election, store = await _coordination(config, stack)
        listener = Listener(str(config.ip), config.port)
        (bound,) = await stack.enter_async_context(serve(build_app(seat), listener))
        assert isinstance(bound, Listener)  # it was asked for as one
        # Before the server closes: whom it disconnects then did not leave by himself.
        stack.callback(seat.leave)
        seat.me = master_info(str(uuid4()), config.ip, bound.port, config.public_hostname)
        log.info("started", id=seat.me.id, hostname=seat.me.hostname, work_dir=str(config.work_dir))
        await Masters(store).join(config.ip, seat.me)
        await contend(seat, election, store)


async def _coordination(config: MasterConfig, stack: AsyncExitStack) -> tuple[Election, Store]:
    """Return election and store: ZooKeeper's with ``--zk``, else those of a master alone."""
    if not config.zk:
        sqlite = SqliteStore(config.work_dir / REGISTRY_FILE)
        stack.push_async_callback(sqlite.close)
        return Standalone(), sqlite
    # Only here: whoever is alone need not pay for kazoo.
    from phalanx.core.zookeeper import ZooKeeperElection, ZooKeeperStore

    hosts, path = config.zookeeper
    election: Election = await stack.enter_async_context(ZooKeeperElection(hosts, path))
    # Below one node, so that detectors find nothing but candidates beside it.
    store: Store = await stack.enter_async_context(ZooKeeperStore(hosts, f"{path}/registry"))
    return election, store


async def contend(seat: Seat, election: Election, store: Store) -> None:
    """Follow the election; lead once this master wins.

    Raises a group with UnavailableError when it loses what it won: only a new
    process may lead again.
    """
    assert seat.me is not None  # known before anybody contends
    is_leading = False
    async with asyncio.TaskGroup() as group:
        async for payload in election.watch(encode(seat.me)):
            seat.holder = None if payload is None else decode(MasterInfo, payload)
            holder = None if seat.holder is None else seat.holder.pid
            log.info("leader_elected", leader=holder, is_me=seat.is_mine)
            if seat.is_mine and not is_leading:
                is_leading = True
                group.create_task(_lead(seat, seat.me, store))
            elif is_leading and not seat.is_mine:
                seat.leader = None
                raise UnavailableError("leadership is lost")


async def _lead(seat: Seat, me: MasterInfo, store: Store) -> None:
    leader = await recover(
        seat.config, me, store, seat.clock, new_id=lambda: str(uuid4()), rng=Random()
    )
    seat.leader = leader
    await leader.run()
