"""The master daemon: wires election, store, leadership and HTTP."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random
from uuid import uuid4

import msgspec
import structlog

from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import Loader
from phalanx.core.coordination import (
    Coordination,
    alone,
    alone_on_disk,
    through_zookeeper,
)
from phalanx.core.daemon import allow_many_files, run_daemon
from phalanx.core.error import InvalidError, UnavailableError
from phalanx.core.log import configure_log
from phalanx.core.store.memory import MemoryStore
from phalanx.core.store.store import Store
from phalanx.master.api.application import build_app
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.discovery import discovered
from phalanx.master.masters import Masters
from phalanx.master.recovery import recover
from phalanx.master.seat import Seat
from phalanx.mesos.build import VERSION
from phalanx.mesos.v1.codec import decode, encode
from phalanx.mesos.v1.mesos import MasterInfo

log = structlog.get_logger()

REGISTRY_FILE = "registry.db"
JOIN_SECONDS = 2.0


def main(arguments: Sequence[str]) -> int:
    """Run ``phalanx master``; return its exit status."""
    loader = Loader(
        MasterConfig,
        program="phalanx master",
        about="Run a master: offers, agents, frameworks, the network registry and the feed.",
        environ_prefix="MESOS",
        version=f"phalanx master, Mesos {VERSION}",
    )

    async def run() -> None:
        config = loader.load(arguments)
        file = None if config.external_log_file is not None else config.log_file
        configure_log("master", level=config.logging_level, file=file, is_quiet=config.quiet)
        allow_many_files()
        await run_master(await discovered(config))

    return run_daemon(run)


async def run_master(config: MasterConfig) -> None:
    """Run a master until cancelled, or until it loses the leadership it had."""
    seat = Seat(config, SystemClock())
    async with AsyncExitStack() as stack:
        coordination = await _coordination(config, stack)
        listener = Listener(str(config.ip), config.port)
        (bound,) = await stack.enter_async_context(
            serve(build_app(seat), listener, must_cut=lambda: seat.is_lost)
        )
        assert isinstance(bound, Listener)  # it was asked for as one
        # Before the server closes: whom it disconnects then did not leave by himself.
        stack.callback(seat.leave)
        seat.me = config.identity(str(uuid4()), bound.port)
        log.info("started", id=seat.me.id, hostname=seat.me.hostname, work_dir=str(config.work_dir))
        try:
            await contend(seat, coordination)
        except* UnavailableError:
            seat.is_lost = True
            raise


async def _coordination(config: MasterConfig, stack: AsyncExitStack) -> Coordination:
    """Return election and store: ZooKeeper's with ``--zk``, else those of a master alone."""
    if config.zk is not None:
        seconds = config.zk_session_seconds
        return await through_zookeeper(
            config.zk,
            "registry",
            stack,
            session_seconds=seconds,
            store_seconds=config.store_seconds,
        )
    if config.registry == "in_memory":
        return alone(MemoryStore())
    return alone_on_disk(config.work_dir / REGISTRY_FILE, stack)


async def contend(seat: Seat, coordination: Coordination) -> None:
    """Follow the election; lead once this master wins.

    Raises a group with UnavailableError when it loses what it won: only a new
    process may lead again.
    """
    assert seat.me is not None  # known before anybody contends
    me = seat.me
    seat.is_certain = coordination.election.is_certain
    is_leading = False
    async with asyncio.TaskGroup() as group:
        group.create_task(_join(me, seat.config, coordination.store))
        async for payload in coordination.election.watch(node_of(me)):
            seat.holder = None if payload is None else holder_of(payload, me)
            holder = None if seat.holder is None else seat.holder.pid
            log.info("leader_elected", leader=holder, is_me=seat.is_mine)
            if seat.is_mine and not is_leading:
                is_leading = True
                group.create_task(_lead(seat, me, coordination))
            elif is_leading and not seat.is_mine:
                seat.leader = None
                raise UnavailableError("leadership is lost")


def node_of(me: MasterInfo) -> bytes:
    """Return what our candidate's node says: as Mesos writes it, in the order of names (§4.8)."""
    return msgspec.json.encode(msgspec.json.decode(encode(me)), order="sorted")


def holder_of(payload: bytes, me: MasterInfo) -> MasterInfo | None:
    """Return the leader that a candidate's node tells of.

    None for what nobody can read, and for an earlier life of ourselves: its
    session outlives it by seconds, and whom we sent there would come back here.
    """
    try:
        holder = decode(MasterInfo, payload)
    except InvalidError as error:
        log.warning("leader_not_understood", error=str(error))
        return None
    return None if holder.pid == me.pid and holder.id != me.id else holder


async def _join(me: MasterInfo, config: MasterConfig, store: Store) -> None:
    """Write down that this master exists, as soon as the store takes it."""
    while True:
        try:
            await Masters(store).join(config.address, me)
        except UnavailableError as error:
            log.warning("store_not_reached", error=str(error))
            await asyncio.sleep(JOIN_SECONDS)
        else:
            return


async def _lead(seat: Seat, me: MasterInfo, coordination: Coordination) -> None:
    seconds = seat.config.fetch_seconds
    try:
        async with asyncio.timeout(seconds):
            leader = await recover(
                seat.config,
                me,
                coordination.fenced(),
                seat.clock,
                new_id=lambda: str(uuid4()),
                rng=Random(),
            )
    except TimeoutError as error:
        raise UnavailableError(f"the registry was not read within {seconds:g} s") from error
    seat.leader = leader
    async with asyncio.TaskGroup() as group:
        group.create_task(leader.run())
        group.create_task(coordination.doubt())
