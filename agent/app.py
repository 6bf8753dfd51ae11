"""The agent daemon: opens its parts, joins them, runs them."""

import asyncio
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp
import msgspec
import structlog

from phalanx.agent.api.routes import build_app
from phalanx.agent.api.view import View
from phalanx.agent.client import MasterClient
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.dns import parse_defaults
from phalanx.agent.cni.plugin import Plugins
from phalanx.agent.composed import Composed
from phalanx.agent.config import AgentConfig
from phalanx.agent.container.build import build_containerizer
from phalanx.agent.container.mesos import MesosContainerizer
from phalanx.agent.discovery import discovered
from phalanx.agent.docker.containerizer import DockerContainerizer, DockerWays
from phalanx.agent.executor.executors import Executors
from phalanx.agent.executor.timing import Timing
from phalanx.agent.fetch.fetcher import Fetcher
from phalanx.agent.gc import Collector, Patience
from phalanx.agent.image.store import Images, remove_unfinished
from phalanx.agent.layout import Layout
from phalanx.agent.link import AgentLeftError, Link
from phalanx.agent.offering import Machine, offered_resources, parse_attributes
from phalanx.agent.operation.ledger import Ledger
from phalanx.agent.operation.operations import Operations, read_ledger
from phalanx.agent.registration import (
    BOOT_ID,
    forget_id,
    hold,
    kept_id,
    note_boot,
    recover_info,
)
from phalanx.agent.roster import Roster
from phalanx.agent.station import Station
from phalanx.agent.task.sender import UpdateSender
from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import Loader
from phalanx.core.daemon import run_daemon
from phalanx.core.detector import open_detector
from phalanx.core.error import ConfigError, ContainerError
from phalanx.core.files import write_whole
from phalanx.core.log import configure_log
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.build import VERSION
from phalanx.mesos.credential import Doors
from phalanx.mesos.resources import Resources
from phalanx.mesos.size import parse_size
from phalanx.mesos.v1.mesos import AgentID, AgentInfo

log = structlog.get_logger()

TIDY_SECONDS = 60.0


def main(arguments: Sequence[str]) -> int:
    """Run an agent until it is told to stop; return its exit status."""

    async def run() -> None:
        loader = Loader(
            AgentConfig,
            program="phalanx agent",
            about="Run the tasks of one node.",
            environ_prefix="MESOS",
            version=VERSION,
        )
        config = loader.load(arguments)
        configure_log(
            "agent", level=config.logging_level, file=config.log_file_of_ours, is_quiet=config.quiet
        )
        await run_agent(config)

    return run_daemon(run)


async def run_agent(config: AgentConfig) -> None:
    """Run an agent for ever; raise AgentShutDownError if the master says so.

    SIGUSR1 makes it take leave of the master for good; ``--recover=cleanup`` ends
    it as soon as what an earlier agent left is killed.
    """
    config = await discovered(config)
    config.check_places()
    layout = Layout(config.work_dir, config.runtime)
    try:
        async with AsyncExitStack() as stack:
            await _run(config, layout, stack)
    except* AgentLeftError as group:
        log.info("left", message=str(group.exceptions[0]))


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who this agent is: what it will register as, and what an earlier agent left of itself."""

    info: AgentInfo
    ledger: Ledger
    is_rebooted: bool

    @property
    def id(self) -> AgentID | None:
        """Return the id to go on under; None for a new agent."""
        return self.info.id


@dataclass(frozen=True, slots=True)
class _Containers:
    """What makes containers."""

    mesos: MesosContainerizer
    docker: DockerContainerizer | None
    composed: Composed
    images: Images


async def _run(config: AgentConfig, layout: Layout, stack: AsyncExitStack) -> None:
    doors = Doors.read(config.realms, config.http_credentials, config.closed)
    stack.callback(os.close, hold(layout))
    identity = _identity(config, layout)
    # The master knows an agent by the address that it comes from.
    connector = aiohttp.TCPConnector(local_addr=(str(config.listening), 0))
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    detector = await open_detector(config.master, stack)
    group = await stack.enter_async_context(asyncio.TaskGroup())
    link = _link(config, layout, identity)
    sender = UpdateSender(link.send_update, link.done)
    stack.push_async_callback(sender.close)
    operations = Operations(
        identity.ledger,
        file=layout.ledger,
        work=layout.work,
        send=link.send_operation,
        new_uuid=lambda: uuid4().bytes,
    )
    stack.push_async_callback(operations.close)
    containers = _containers(config, layout, stack)
    station = _station(config, layout, sender, containers)
    roster = _roster(config, station, link, group)
    roster.collector = collector = _collector(config, layout, roster)
    client = MasterClient(
        session,
        detector,
        subscribe=link.subscribe,
        take=link.take,
        lost=link.lost,
        rng=random.Random(),
    )
    link.join(roster=roster, sender=sender, client=client, operations=operations)
    started = time.time()
    await _recover(config, layout, identity, roster, link)
    view = View(
        station=station,
        roster=roster,
        flags=config.flags(),
        agent_info=lambda: link.info,
        master=lambda: client.master,
        start_time=started,
        ledger=lambda: operations.ledger,
        drain=lambda: link.drainage.now,
        collector=collector,
        log_file=config.log_file,
        recovery_seconds=time.time() - started,
        cache=lambda: (
            parse_size(config.fetcher_cache_size),
            containers.mesos.fetcher.cache_used_bytes,
        ),
    )
    verbosity = Verbosity()
    stack.callback(verbosity.reset)
    app = build_app(
        view, doors, verbosity, heartbeat_seconds=config.seconds("http_heartbeat_interval")
    )
    await stack.enter_async_context(serve(app, Listener(str(config.listening), config.port)))
    beside = [client.beat(), collector.run(), containers.mesos.watch_disks()]
    if containers.docker is not None:
        beside.append(_tidy(containers.docker))
    beside.append(_leave(_asked_to_leave(stack), link))
    tasks = [group.create_task(work) for work in beside]
    try:
        await client.run()
    finally:
        for task in tasks:
            task.cancel()


def _identity(config: AgentConfig, layout: Layout) -> _Identity:
    """Return who we are; raise ConfigError where too much has changed for the id of before."""
    is_rebooted = note_boot(layout, BOOT_ID.read_text().strip())
    before = recover_info(layout, is_strict=config.strict)
    machine = read_machine(config.work_dir)
    info = AgentInfo(
        hostname=config.hostname or str(config.address),
        port=config.advertise_port or config.port,
        resources=offered_resources(config.resources, machine, config.default_role),
        attributes=parse_attributes(config.attributes),
        domain=config.domain_info,
    )
    agent_id = kept_id(
        before,
        info,
        layout=layout,
        policy=config.reconfiguration_policy,
        is_rebooted=is_rebooted,
    )
    ledger = read_ledger(layout.ledger, Resources.of(info.resources), is_strict=config.strict)
    return _Identity(msgspec.structs.replace(info, id=agent_id), ledger, is_rebooted)


def _link(config: AgentConfig, layout: Layout, identity: _Identity) -> Link:
    address = str(config.advertise_ip) if config.advertise_ip is not None else None
    link = Link(layout, identity.info, VERSION, time.time, address)
    if identity.id is not None:
        link.drainage.recover()
    return link


def _containers(config: AgentConfig, layout: Layout, stack: AsyncExitStack) -> _Containers:
    store = config.docker_store_dir or layout.images
    remove_unfinished(store)
    images = Images(config.docker_registry, store)
    mesos = build_containerizer(config, layout, images)
    stack.push_async_callback(mesos.close)
    docker = _docker(config, layout, mesos.fetcher, stack)
    composed = Composed(
        mesos, docker, config.containerizers, config.default_container, config.variables
    )
    return _Containers(mesos, docker, composed, images)


def _roster(config: AgentConfig, station: Station, link: Link, group: asyncio.TaskGroup) -> Roster:
    executors = Executors(
        station,
        group,
        {},
        timing=Timing(
            registration=config.seconds("executor_registration_timeout"),
            reregistration=config.seconds("executor_reregistration_timeout"),
            shutdown_grace=config.seconds("executor_shutdown_grace_period"),
        ),
        new_container_id=lambda: str(uuid4()),
        agent_info=lambda: link.info,
        tell=link.tell,
    )
    return Roster(
        station,
        group,
        lambda: str(uuid4()),
        executors,
        most_completed=config.max_completed_executors_per_framework,
    )


def _collector(config: AgentConfig, layout: Layout, roster: Roster) -> Collector:
    return Collector(
        layout,
        Patience(
            config.seconds("gc_delay"),
            config.gc_disk_headroom,
            max(config.seconds("disk_watch_interval"), 0.01),
        ),
        in_use=roster.container_ids,
        clock=time.time,
    )


async def _recover(
    config: AgentConfig, layout: Layout, identity: _Identity, roster: Roster, link: Link
) -> None:
    """Take over what an earlier agent left; raise AgentLeftError if it was all to be removed."""
    if identity.id is not None:
        roster.recover(identity.id.value, is_rebooted=identity.is_rebooted)
    roster.remove_orphans()
    if config.recover == "cleanup":
        await roster.kill_all()
        forget_id(layout)
        raise AgentLeftError("what an earlier agent left is removed")
    if link.drainage.now is not None:
        await roster.drain(link.drainage.now.config)


def _asked_to_leave(stack: AsyncExitStack) -> asyncio.Event:
    """Return what is set when SIGUSR1 comes."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, asked.set)
    stack.callback(loop.remove_signal_handler, signal.SIGUSR1)
    return asked


async def _leave(asked: asyncio.Event, link: Link) -> None:
    await asked.wait()
    await link.unregister()
    raise AgentLeftError("unregistered")


async def _tidy(docker: DockerContainerizer) -> None:
    """Remove containers of Docker that are too old, or that nobody knows."""
    while True:
        try:
            await docker.remove_orphans()
            await docker.remove_old()
        except ContainerError as error:
            log.warning("docker_not_tidied", error=str(error))
        await asyncio.sleep(TIDY_SECONDS)


def _networks(config: AgentConfig, layout: Layout) -> Networks:
    return Networks(
        layout.networks,
        config.network_cni_config_dir,
        Plugins(config.plugin_directories, config.plugin_timeout_seconds),
        parse_defaults(config.default_container_dns),
    )


def _docker(
    config: AgentConfig, layout: Layout, fetcher: Fetcher, stack: AsyncExitStack
) -> DockerContainerizer | None:
    """Return the containerizer of Docker if the settings name it; raise ConfigError."""
    if "docker" not in config.containerizers:
        return None
    # Its package takes long to import, and only who asks for Docker waits for it.
    from phalanx.agent.docker.engine import Engine

    try:
        engine = Engine(config.docker_socket, config.docker)
    except ContainerError as error:
        raise ConfigError(f"--containerizers: {error}") from error
    stack.callback(engine.close)
    credentials = None
    if config.docker_config:
        credentials = layout.runtime / "docker-config"
        credentials.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(credentials / "config.json", config.docker_config.encode())
    ways = DockerWays(
        ip=str(config.address),
        owner=str(layout.runtime),
        ip6=str(config.ip6) if config.ip6 is not None else None,
        has_quota=config.cgroups_enable_cfs,
        switches_user=config.switch_user,
        remove_delay_seconds=config.seconds("docker_remove_delay"),
        kills_orphans=config.docker_kill_orphans,
        config=credentials,
    )
    networks = _networks(config, layout)
    return DockerContainerizer(layout, engine, networks, ways, time.time, fetcher)


def _station(
    config: AgentConfig,
    layout: Layout,
    sender: UpdateSender,
    containers: _Containers,
) -> Station:
    return Station(
        ip=str(config.address),
        port=config.advertise_port or config.port,
        layout=layout,
        containerizer=containers.composed,
        images=containers.images,
        sender=sender,
        clock=time.time,
        new_uuid=lambda: uuid4().bytes,
        drain_seconds=config.seconds("vip_drain_timeout"),
    )


def read_machine(work: Path) -> Machine:
    """Find out what this machine has."""
    page = os.sysconf("SC_PAGE_SIZE")
    disk = shutil.disk_usage(work)
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_megabytes=os.sysconf("SC_PHYS_PAGES") * page // 1024**2,
        disk_megabytes=disk.total // 1024**2,
    )
