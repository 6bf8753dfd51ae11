"""From the registry to a leader that is ready to run: each part made, and given its others."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import structlog

from phalanx.core.error import UnavailableError
from phalanx.core.store.store import Store
from phalanx.master.agents.holdings import Holdings
from phalanx.master.agents.liveness import Patience
from phalanx.master.agents.observer import Observer
from phalanx.master.agents.orders import Orders
from phalanx.master.agents.reconcile import Tasks
from phalanx.master.agents.registration import Registration
from phalanx.master.agents.registry import AgentRegistry
from phalanx.master.agents.roster import Roster
from phalanx.master.agents.stray import Strays
from phalanx.master.agents.updates import Updates
from phalanx.master.allocator.loop import Allocator
from phalanx.master.clock import Clock
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.config import MasterConfig
from phalanx.master.event import Bus
from phalanx.master.identity import Identities
from phalanx.master.leader import Gate, Leader
from phalanx.master.maintenance.maintenance import Maintenance
from phalanx.master.masters import Masters
from phalanx.master.network.registry import NetworkRegistry
from phalanx.master.operator.counts import Counts
from phalanx.master.operator.events import Watchers
from phalanx.master.operator.operations import Operations
from phalanx.master.roles.roles import Roles
from phalanx.master.scheduler.calls import Calls
from phalanx.master.scheduler.frameworks import Frameworks
from phalanx.master.scheduler.operations import Conversions
from phalanx.master.view.publisher import Publisher
from phalanx.mesos.v1.mesos import MasterInfo

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Ground:
    """What every part stands on."""

    config: MasterConfig
    info: MasterInfo
    clock: Clock
    new_id: Callable[[], str]
    bus: Bus
    cluster: Cluster
    ids: Identities


@dataclass(frozen=True, slots=True)
class _Durable:
    """What the registry holds, read."""

    agents: AgentRegistry
    networks: NetworkRegistry
    masters: Masters


async def recover(
    config: MasterConfig,
    info: MasterInfo,
    store: Store,
    clock: Clock,
    *,
    new_id: Callable[[], str],
    rng: Random,
) -> Leader:
    """Read the registry and return a leader that is ready to run.

    Raises UnavailableError when the store can't be read or written.
    """
    bus = Bus()
    cluster = Cluster(
        bus,
        max_completed_frameworks=config.max_completed_frameworks,
        max_completed_tasks=config.max_completed_tasks_per_framework,
    )
    ids = Identities(info.id)
    ground = _Ground(config, info, clock, new_id, bus, cluster, ids)
    durable = await _load(ground, store)
    gate = Gate()
    allocator = _allocator(ground, gate, rng)
    poke = allocator.poke
    frameworks = Frameworks(
        cluster, ids, clock, info, poke=poke, new_stream_id=new_id, policy=config.policy
    )
    conversions = Conversions(cluster, poke=poke, new_uuid=ids.operation)
    tasks, holdings = Tasks(cluster, clock), Holdings(cluster)
    roster = Roster(cluster, durable.agents, tasks, holdings, clock, poke)
    strays = Strays(config.unreachable_seconds)
    registration = _registration(ground, durable, roster, frameworks, strays)
    orders = Orders(roster)
    roles = Roles(cluster, store, poke=poke)
    await roles.load(config.role_weights)
    maintenance = Maintenance(cluster, store, poke=poke, shut_down=orders.shut_down)
    await maintenance.load()
    interval = config.allocation_seconds
    leader = Leader(
        info=info,
        config=config,
        clock=clock,
        elected=clock.wall(),
        cluster=cluster,
        registry=durable.agents,
        networks=durable.networks,
        frameworks=frameworks,
        calls=Calls(cluster, frameworks, conversions, clock, poke=poke, interval=interval),
        conversions=conversions,
        roster=roster,
        registration=registration,
        observer=_observer(config, roster, strays),
        orders=orders,
        updates=Updates(cluster, poke=poke),
        allocator=allocator,
        publisher=_publisher(ground, durable),
        masters=durable.masters,
        bus=bus,
        watchers=Watchers(
            cluster,
            bus,
            limit=config.max_operator_event_stream_subscribers,
            new_stream_id=new_id,
        ),
        roles=roles,
        maintenance=maintenance,
        operations=Operations(cluster, clock, poke=poke, new_uuid=ids.operation),
        counts=Counts(bus),
        gate=gate,
    )
    registration.recover()
    known = len(durable.networks.networks)
    log.info("registry_recovered", agents=len(cluster.recovered), networks=known)
    return leader


async def _load(ground: _Ground, store: Store) -> _Durable:
    """Read the registry, and be one of its masters."""
    config = ground.config
    agents = AgentRegistry(store)
    await agents.load()
    networks = NetworkRegistry(store, ground.bus, ground=config.ground)
    await networks.load(agents.nodes)
    await networks.make_defaults(config.default_networks)
    masters = Masters(store)
    try:
        await masters.join(config.address, ground.info)
    except UnavailableError as error:  # a full disk; whoever runs us tries again until it is done
        log.warning("master_not_joined", error=str(error))
    await masters.load()
    return _Durable(agents, networks, masters)


def _allocator(ground: _Ground, gate: Gate, rng: Random) -> Allocator:
    config = ground.config
    return Allocator(
        ground.cluster,
        ground.ids,
        ground.clock,
        timing=config.offer_timing,
        rules=config.offer_rules,
        whitelist=config.whitelist,
        is_open=lambda: gate.has_offers,
        rng=rng,
    )


def _registration(
    ground: _Ground, durable: _Durable, roster: Roster, frameworks: Frameworks, strays: Strays
) -> Registration:
    config = ground.config
    return Registration(
        roster,
        frameworks,
        ground.ids,
        strays,
        domain=config.domain_info,
        is_domain_required=config.require_agent_domain,
        lease=durable.networks.lease_node,
        move=durable.networks.move_node,
        new_stream_id=ground.new_id,
    )


def _observer(config: MasterConfig, roster: Roster, strays: Strays) -> Observer:
    return Observer(
        roster,
        strays,
        Patience(config.suspect_seconds, config.unreachable_seconds),
        removal_rate=config.removal_rate,
        missing_share=config.recovery_removal_share,
    )


def _publisher(ground: _Ground, durable: _Durable) -> Publisher:
    config, info = ground.config, ground.info
    return Publisher(
        ground.cluster,
        durable.networks,
        ground.bus,
        epoch=info.id,
        leader=(config.address, config.public_hostname, info.port),
        others=lambda: (
            (address, other.hostname or str(address), other.port)
            for address, other in durable.masters.known.items()
        ),
    )
