"""The agent daemon: opens its parts, joins them, runs them."""

import asyncio
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from uuid import uuid4

import aiohttp
import structlog

from phalanx.agent.api.routes import build_app
from phalanx.agent.api.view import View, build_version
from phalanx.agent.client import MasterClient
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.config import AgentConfig
from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.container.mesos import MesosContainerizer, Ways
from phalanx.agent.container.runtime import Containers
from phalanx.agent.executor.executors import Executors
from phalanx.agent.executor.timing import Timing
from phalanx.agent.fetch.fetcher import Fetcher, FetchWays
from phalanx.agent.image.store import Images, remove_unfinished
from phalanx.agent.layout import Layout
from phalanx.agent.link import Link
from phalanx.agent.offering import Machine, offered_resources, parse_attributes
from phalanx.agent.registration import BOOT_ID, hold, note_boot, recover_id
from phalanx.agent.roster import Roster
from phalanx.agent.station import Station
from phalanx.agent.task.sender import UpdateSender
from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import Loader
from phalanx.core.daemon import run_daemon
from phalanx.core.detector import Listed
from phalanx.core.log import configure_log
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.size import parse_size
from phalanx.mesos.v1.mesos import AgentID, AgentInfo

log = structlog.get_logger()

LAUNCHES_PER_CORE = 2


def main(arguments: Sequence[str]) -> int:
    """Run an agent until it is told to stop; return its exit status."""

    async def run() -> None:
        loader = Loader(
            AgentConfig,
            program="phalanx agent",
            about="Run the tasks of one node.",
            environ_prefix="MESOS",
        )
        config = loader.load(arguments)
        configure_log("agent", level=config.log_level)
        await run_agent(config)

    return run_daemon(run)


async def run_agent(config: AgentConfig) -> None:
    """Run an agent for ever; raise AgentShutDownError if the master says so."""
    config.check_places()
    layout = Layout(config.work_dir, config.runtime_dir)
    async with AsyncExitStack() as stack:
        stack.callback(os.close, hold(layout))
        is_rebooted = note_boot(layout, BOOT_ID.read_text().strip())
        recovered_id = recover_id(layout)
        info = AgentInfo(
            hostname=config.hostname or str(config.ip),
            port=config.port,
            resources=offered_resources(config.resources, read_machine(config.work_dir)),
            attributes=parse_attributes(config.attributes),
            id=AgentID(value=recovered_id) if recovered_id else None,
        )
        # The master knows an agent by the address that it comes from.
        connector = aiohttp.TCPConnector(local_addr=(str(config.ip), 0))
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        link = Link(layout, info, str(build_version()["version"]))
        sender = UpdateSender(link.send_update, link.done)
        stack.push_async_callback(sender.close)
        station = _station(config, layout, sender)
        executors = Executors(
            station,
            group,
            {},
            timing=Timing(),
            new_container_id=lambda: str(uuid4()),
            agent_info=lambda: link.info,
            tell=link.tell,
        )
        roster = Roster(station, group, lambda: str(uuid4()), executors)
        client = MasterClient(
            session,
            Listed(config.master),
            subscribe=link.subscribe,
            take=link.take,
            lost=sender.pause,
            rng=random.Random(),
        )
        link.join(roster=roster, sender=sender, client=client)
        if recovered_id is not None:
            roster.recover(recovered_id, is_rebooted=is_rebooted)
        roster.remove_orphans()
        view = View(
            station=station,
            roster=roster,
            flags=flags_of(config),
            agent_info=lambda: link.info,
            master=lambda: client.master,
            start_time=time.time(),
        )
        app = build_app(view, layout.work / "slaves")
        await stack.enter_async_context(serve(app, Listener(str(config.ip), config.port)))
        beat = group.create_task(client.beat())
        try:
            await client.run()
        finally:
            beat.cancel()


def _station(config: AgentConfig, layout: Layout, sender: UpdateSender) -> Station:
    new_uuid: Callable[[], bytes] = lambda: uuid4().bytes  # noqa: E731 - one word needs no def
    store = config.docker_store_dir or layout.images
    remove_unfinished(store)
    images = Images(config.docker_registry, store)
    fetcher = Fetcher(
        FetchWays(
            cache=config.fetcher_cache_dir or layout.work / "fetch",
            cache_bytes=parse_size(config.fetcher_cache_size),
            stall_seconds=parse_duration(config.fetcher_stall_timeout),
            frameworks_home=config.frameworks_home,
        )
    )
    fetcher.clear()
    containerizer = MesosContainerizer(
        layout,
        Containers(layout, Cgroups(config.cgroups_root), config.runc),
        Networks(
            layout.networks,
            config.network_cni_config_dir,
            Plugins(config.plugin_directories, config.plugin_timeout_seconds),
        ),
        images,
        fetcher,
        Ways(
            ip=str(config.ip),
            launches=LAUNCHES_PER_CORE * (os.cpu_count() or 1),
            resolv_conf=config.resolv_conf,
            has_quota=config.cgroups_enable_cfs,
        ),
        time.time,
    )
    return Station(
        ip=str(config.ip),
        port=config.port,
        layout=layout,
        containerizer=containerizer,
        images=images,
        sender=sender,
        clock=time.time,
        new_uuid=new_uuid,
    )


def flags_of(config: AgentConfig) -> Mapping[str, str]:
    """Return the settings as ``/flags`` shows them."""
    shown = {}
    for field in fields(config):
        value = getattr(config, field.name)
        if isinstance(value, bool):
            shown[field.name] = str(value).lower()
        elif isinstance(value, tuple):
            shown[field.name] = ",".join(map(str, value))
        elif value is not None:
            shown[field.name] = str(value)
    return shown


def read_machine(work: Path) -> Machine:
    """Find out what this machine has."""
    page = os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(work)
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_megabytes=os.sysconf("SC_PHYS_PAGES") * page // 1024**2,
        disk_megabytes=disk.total // 1024**2,
    )
