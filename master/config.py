"""The settings of a master: those of Mesos by their names (reference mesos §8), and our own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import ClassVar, Self

from phalanx.core.config import ZooKeeperAddress, fixed, rendered, setting
from phalanx.core.error import ConfigError, InvalidError
from phalanx.master.agents.domain import parse_domain
from phalanx.master.agents.limit import Rate, parse_rate
from phalanx.master.allocator.constraint import RegexLimits
from phalanx.master.allocator.rule import Rules, Timing, quantities
from phalanx.master.allocator.sorter import DRF, RANDOM
from phalanx.master.identity import master_info
from phalanx.master.network.definition import Ground, NetworkSpec
from phalanx.master.roles.weight import parsed_weights
from phalanx.master.scheduler.framework_info import Policy
from phalanx.mesos.role import DEFAULT
from phalanx.mesos.server_config import (
    BASIC_ALONE,
    NO_AUTHENTICATION,
    NO_MODULES,
    ServerConfig,
)
from phalanx.mesos.size import parse_size
from phalanx.mesos.v1.mesos import DomainInfo, MasterInfo
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6

DURATIONS = (
    "agent_ping_timeout",
    "agent_reregister_timeout",
    "agent_suspect_timeout",
    "allocation_interval",
    "allocator_recovery_timeout",
    "authentication_v0_timeout",
    "registry_fetch_timeout",
    "registry_gc_interval",
    "registry_max_agent_age",
    "registry_store_timeout",
    "zk_session_timeout",
)


@dataclass(frozen=True)
class MasterConfig(ServerConfig):
    """Every setting, checked; durations are spelled as Mesos spells them."""

    ROLE: ClassVar[str] = "master"

    # Who we are and where we keep things
    work_dir: Path = setting("directory of the registry")
    ip: IPv4Address = setting(
        "address to listen on and to be known by", default=IPv4Address("127.0.0.1")
    )
    port: int = setting("port to listen on", default=5050)
    hostname: str = setting("name to be known by instead of the address", default="")
    cluster: str = setting("name of the cluster", default="")
    zk: ZooKeeperAddress | None = setting(
        "ZooKeeper of the election and the registry; without it a master is alone",
        default=None,
        metavar="zk://[USER:PASSWORD@]HOST:PORT,HOST:PORT/PATH",
    )
    zk_session_timeout: str = setting(
        "silence after which ZooKeeper takes the leadership away", default="10secs"
    )
    quorum: int | None = setting(
        "accepted for Mesos' sake: the registry's quorum is that of the ZooKeeper ensemble",
        default=None,
    )
    domain: str = setting(
        "our fault domain, a DomainInfo as JSON; agents of another region are remote", default=""
    )

    # Registry
    registry: str = setting(
        "replicated_log (on disk, or in ZooKeeper with --zk) or in_memory", default="replicated_log"
    )
    registry_fetch_timeout: str = setting("how long recovery may take", default="1mins")
    registry_store_timeout: str = setting("how long one write may take", default="20secs")
    registry_gc_interval: str = setting(
        "time between two prunings of unreachable and gone agents", default="15mins"
    )
    registry_max_agent_age: str = setting(
        "how long an unreachable or gone agent is remembered", default="2weeks"
    )
    registry_max_agent_count: int = setting(
        "how many unreachable and how many gone agents are remembered", default=102400
    )
    registry_strict: bool = fixed("the registry is always strict", default=False, also=(True,))
    log_auto_initialize: bool = fixed("a new registry is begun as it is needed", default=True)

    # Agents
    agent_ping_timeout: str = setting(
        "length of one ping", default="15secs", aliases=("slave_ping_timeout",)
    )
    max_agent_ping_timeouts: int = setting(
        "pings that an agent may miss before it is unreachable",
        default=5,
        aliases=("max_slave_ping_timeouts",),
    )
    agent_suspect_timeout: str = setting(
        "silence after which an agent is suspect: no offers, no new connections", default="2.5secs"
    )
    agent_reregister_timeout: str = setting(
        "how long a new leader waits for the agents it knows of",
        default="10mins",
        aliases=("slave_reregister_timeout",),
    )
    agent_removal_rate_limit: str = setting(
        "how many agents may become unreachable in a time, such as 1/10mins",
        default="",
        aliases=("slave_removal_rate_limit",),
    )
    recovery_agent_removal_limit: str = setting(
        "share of the agents that a new leader may give up; it ends if more are missing",
        default="100%",
        aliases=("recovery_slave_removal_limit",),
    )
    require_agent_domain: bool = setting("refuse agents without a fault domain", default=False)
    max_executors_per_agent: int | None = fixed(
        "ports are not mapped by a kernel module", aliases=("max_executors_per_slave",)
    )

    # Offers
    allocator: str = fixed(
        "there is one allocator", default="hierarchical", also=("HierarchicalDRF",)
    )
    allocation_interval: str = setting("time between allocations at rest", default="1secs")
    min_allocatable_resources: str = setting(
        "least resources worth an offer, alternatives joined by |", default="cpus:0.01|mem:32"
    )
    role_sorter: str = setting("order of roles: drf, or random by weight", default="drf")
    framework_sorter: str = setting("order of a role's frameworks: drf or random", default="drf")
    fair_sharing_excluded_resource_names: str = setting(
        "resources that don't count for shares, joined by commas", default=""
    )
    filter_gpu_resources: bool = setting(
        "offer agents with GPUs only to frameworks with GPU_RESOURCES", default=True
    )
    offer_timeout: str = setting("how long an offer may be held; empty for ever", default="")
    offer_constraints_re2_max_mem: str = setting(
        "memory that a regular expression of offer constraints may take", default="4KB"
    )
    offer_constraints_re2_max_program_size: int = setting(
        "program size that such an expression may have", default=100
    )
    whitelist: Path | None = setting(
        "file of the host names that offers are made of, a JSON array or one a line; read anew"
        " every 5 s",
        default=None,
    )
    allocator_agent_recovery_factor: float = setting(
        "share of the known agents that must be back before quota is allocated by a new leader",
        default=0.8,
    )
    allocator_recovery_timeout: str = setting(
        "how long a new leader waits for that share", default="10mins"
    )

    # Networks
    default_network: tuple[str, ...] = setting(
        "networks to make in a new cluster, each name=subnet; an agent has a /24 or IPv6 /80 of it",
        default=("dcos=9.0.0.0/8", "dcos6=fd01:b::/64"),
    )
    enable_ipv6: bool = setting(
        "IPv6 for containers; without it IPv6 networks are neither made nor taken", default=True
    )
    vip_range: IPv4Network = setting("where named VIPs get their addresses", default=VIP_POOL)
    vip_range6: IPv6Network = setting("the same of IPv6", default=VIP_POOL6)

    # What is remembered
    max_completed_frameworks: int = setting("completed frameworks to remember", default=50)
    max_completed_tasks_per_framework: int = setting("completed tasks to remember", default=1000)
    max_unreachable_tasks_per_framework: int = setting(
        "unreachable tasks to remember", default=1000
    )
    max_operator_event_stream_subscribers: int = setting("operator streams at most", default=1000)

    # What Mesos has and we have not
    webui_dir: str = setting("accepted for Mesos' sake: there is no web page", default="")
    authenticate_frameworks: bool = fixed(NO_AUTHENTICATION, default=False)
    authenticate_agents: bool = fixed(
        NO_AUTHENTICATION, default=False, aliases=("authenticate_slaves",)
    )
    authenticate_http_frameworks: bool = setting("ask who frameworks are", default=False)
    authenticators: str = fixed(NO_AUTHENTICATION, default="crammd5")
    http_authenticators: str = fixed(BASIC_ALONE, default="basic")
    http_framework_authenticators: str = fixed(BASIC_ALONE, default="", also=("basic",))
    authentication_v0_timeout: str = setting(
        "accepted for Mesos' sake: callers are not authenticated", default="15secs"
    )
    credentials: Path | None = setting(
        "another name for --http-credentials, as Mesos' master has it", default=None
    )
    authorizers: str = fixed("callers are not authorized", default="local")
    rate_limits: str = fixed("frameworks are not limited", default="")
    root_submissions: bool = setting("whether frameworks of the user root are taken", default=True)
    roles: str = setting(
        "roles that frameworks may use, joined by commas; any when empty", default=""
    )
    weights: str = setting(
        "weights of roles, role=weight,role=weight; only while the registry has none", default=""
    )
    master_contender: str = fixed(NO_MODULES, default="")

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that can't be used."""
        self.check_common(self.port)
        for key in DURATIONS:
            self._seconds(key)
        self.offer_rules  # noqa: B018 - raises when it can't be parsed
        self.offer_timing  # noqa: B018 - raises when it can't be parsed
        self.default_networks  # noqa: B018 - raises when it can't be parsed
        self.role_weights  # noqa: B018 - raises when it can't be parsed
        self.removal_rate  # noqa: B018 - raises when it can't be parsed
        self.recovery_removal_share  # noqa: B018 - raises when it can't be parsed
        if self.max_agent_ping_timeouts < 1:
            raise ConfigError(f"--max-agent-ping-timeouts: {self.max_agent_ping_timeouts}: below 1")
        if self.registry not in ("replicated_log", "in_memory"):
            raise ConfigError(
                f"--registry: {self.registry!r}: is neither replicated_log nor in_memory"
            )
        if self.registry == "in_memory" and self.zk is not None:
            raise ConfigError("--registry: 'in_memory': can't be shared by the masters of --zk")
        if not 0 <= self.allocator_agent_recovery_factor <= 1:
            value = self.allocator_agent_recovery_factor
            raise ConfigError(f"--allocator-agent-recovery-factor: {value}: is no share of one")
        self.domain_info  # noqa: B018 - raises when it can't be parsed
        if self.require_agent_domain and not self.domain:
            raise ConfigError("--require-agent-domain: needs --domain")

    def _seconds(self, key: str) -> float:
        seconds = self.seconds(key)
        if seconds <= 0:
            raise ConfigError(f"--{key.replace('_', '-')}: {seconds:g}: must be more than zero")
        return seconds

    @property
    def address(self) -> IPv4Address:
        """Return the address that this master is known by."""
        return self.advertise_ip or self.ip

    @property
    def public_hostname(self) -> str:
        """Return the name that this master is known by."""
        return self.hostname or str(self.address)

    def identity(self, id: str, bound_port: int) -> MasterInfo:
        """Return who a master of these settings is that listens on *bound_port*."""
        port = self.advertise_port or bound_port
        return master_info(id, self.address, port, self.public_hostname, self.domain_info)

    def found(self, *, ip: IPv4Address | None = None, hostname: str | None = None) -> Self:
        """Return the settings with what was found out about this machine."""
        return replace(self, ip=ip or self.ip, hostname=hostname or self.hostname)

    @property
    def domain_info(self) -> DomainInfo | None:
        """Return the fault domain that this master is in."""
        try:
            return parse_domain(self.domain) if self.domain else None
        except InvalidError as error:
            raise ConfigError(f"--domain: {error}") from error

    @property
    def role_weights(self) -> Mapping[str, float]:
        """Return the weights of roles to begin with."""
        try:
            return parsed_weights(self.weights)
        except InvalidError as error:
            raise ConfigError(f"--weights: {error}") from error

    @property
    def asked(self) -> Mapping[str, bool]:
        """Return of each realm whether it asks who calls; frameworks have one of their own."""
        return {**super().asked, "scheduler": self.authenticate_http_frameworks}

    @property
    def zk_session_seconds(self) -> float:
        """Return the silence after which ZooKeeper ends our session."""
        return self._seconds("zk_session_timeout")

    @property
    def fetch_seconds(self) -> float:
        """Return how long the registry's recovery may take."""
        return self._seconds("registry_fetch_timeout")

    @property
    def store_seconds(self) -> float:
        """Return how long one write of the registry may take."""
        return self._seconds("registry_store_timeout")

    @property
    def prune_seconds(self) -> float:
        """Return the time between two prunings of the registry."""
        return self._seconds("registry_gc_interval")

    @property
    def prune_age_seconds(self) -> float:
        """Return how long unreachable and gone agents are remembered."""
        return self._seconds("registry_max_agent_age")

    @property
    def allocator_recovery_seconds(self) -> float:
        """Return how long quota waits for agents to come back."""
        return self._seconds("allocator_recovery_timeout")

    @property
    def removal_rate(self) -> Rate | None:
        """Return how many agents may become unreachable in what time, None for any number."""
        try:
            return parse_rate(self.agent_removal_rate_limit)
        except InvalidError as error:
            raise ConfigError(f"--agent-removal-rate-limit: {error}") from error

    @property
    def recovery_removal_share(self) -> float:
        """Return the share, at most one, of recovered agents that may be given up."""
        text = self.recovery_agent_removal_limit
        number, percent, rest = text.partition("%")
        if not percent or rest or not number.replace(".", "", 1).isdecimal():
            raise ConfigError(f"--recovery-agent-removal-limit: {text!r}: is no percentage")
        if float(number) > 100:
            raise ConfigError(f"--recovery-agent-removal-limit: {text!r}: is above 100%")
        return float(number) / 100

    @property
    def unreachable_seconds(self) -> float:
        """Return the silence after which an agent is unreachable."""
        return self._seconds("agent_ping_timeout") * self.max_agent_ping_timeouts

    @property
    def suspect_seconds(self) -> float:
        """Return the silence after which an agent is suspect."""
        return self._seconds("agent_suspect_timeout")

    @property
    def reregister_seconds(self) -> float:
        """Return how long recovered agents are waited for."""
        return self._seconds("agent_reregister_timeout")

    @property
    def allocation_seconds(self) -> float:
        """Return the time between allocations at rest."""
        return self._seconds("allocation_interval")

    @property
    def offer_rules(self) -> Rules:
        """Return what shapes offers."""
        for key in ("role_sorter", "framework_sorter"):
            if (value := getattr(self, key)) not in (DRF, RANDOM):
                raise ConfigError(f"--{key.replace('_', '-')}: {value!r}: is not drf or random")
        try:
            minimums = quantities(self.min_allocatable_resources)
        except InvalidError as error:
            raise ConfigError(f"--min-allocatable-resources: {error}") from error
        try:
            max_bytes = parse_size(self.offer_constraints_re2_max_mem)
        except InvalidError as error:
            raise ConfigError(f"--offer-constraints-re2-max-mem: {error}") from error
        domain = self.domain_info.fault_domain if self.domain_info is not None else None
        unfair = self.fair_sharing_excluded_resource_names.split(",")
        return Rules(
            minimums,
            self.role_sorter,
            self.framework_sorter,
            frozenset(name.strip() for name in unfair if name.strip()),
            self.filter_gpu_resources,
            domain.region.name if domain is not None else None,
            RegexLimits(max_bytes, self.offer_constraints_re2_max_program_size),
        )

    @property
    def policy(self) -> Policy:
        """Return which frameworks are taken."""
        roles = frozenset(role.strip() for role in self.roles.split(",") if role.strip())
        allowed = roles | {DEFAULT} if roles else None
        return Policy(allowed, self.root_submissions, self.offer_rules.regex)

    @property
    def offer_timing(self) -> Timing:
        """Return when offers are made and taken back."""
        return Timing(
            self.allocation_seconds,
            self._seconds("offer_timeout") if self.offer_timeout else None,
        )

    @property
    def default_networks(self) -> Sequence[NetworkSpec]:
        """Return the networks of a new cluster."""
        specs = []
        for text in self.default_network:
            name, equals, subnet = text.partition("=")
            try:
                if not equals:
                    raise ValueError("is not name=subnet")
                is_ipv6 = isinstance(ip_network(subnet), IPv6Network)
            except ValueError as error:
                raise ConfigError(f"--default-network: {text!r}: {error}") from error
            if not is_ipv6:
                specs.append(NetworkSpec(name, subnet))
            elif self.enable_ipv6:
                specs.append(NetworkSpec(name, subnet6=subnet))
        return specs

    @property
    def ground(self) -> Ground:
        """Return where networks and VIPs may lie."""
        return Ground(self.vip_range, self.vip_range6 if self.enable_ipv6 else None)

    def flags(self) -> Mapping[str, str]:
        """Return every setting that has a value, as text, as ``/flags`` shows it."""
        return {**rendered(self), "help": "false", "version": "false"}
