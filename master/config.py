"""The settings of a master."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from phalanx.core.config import check_port, setting
from phalanx.core.error import ConfigError, InvalidError
from phalanx.core.log import check_level
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.resources import Resources

DURATIONS = (
    "agent_ping_timeout",
    "agent_reregister_timeout",
    "agent_suspect_timeout",
    "allocation_interval",
)


@dataclass(frozen=True)
class MasterConfig:
    """Every setting, checked; durations are spelled as Mesos spells them."""

    work_dir: Path = setting("directory of the registry")
    ip: IPv4Address = setting(
        "address to listen on and to be known by", default=IPv4Address("127.0.0.1")
    )
    port: int = setting("port to listen on", default=5050)
    hostname: str = setting("name to be known by instead of the address", default="")
    zk: str = setting("ZooKeeper of the election and the registry, zk://h:p,h:p/path", default="")
    cluster: str = setting("name of the cluster", default="")
    default_network: tuple[str, ...] = setting(
        "networks to make in a new cluster, each name=subnet (a /24 for each agent)",
        default=("dcos=9.0.0.0/8",),
    )
    vip_range: IPv4Network = setting(
        "where named VIPs get their addresses", default=IPv4Network("11.0.0.0/8")
    )
    agent_ping_timeout: str = setting("length of one ping", default="15secs")
    max_agent_ping_timeouts: int = setting(
        "pings that an agent may miss before it is unreachable", default=5
    )
    agent_suspect_timeout: str = setting(
        "silence after which an agent is suspect: no offers, no new connections", default="3secs"
    )
    agent_reregister_timeout: str = setting(
        "how long a new leader waits for the agents it knows of", default="10mins"
    )
    allocation_interval: str = setting("time between allocations at rest", default="1secs")
    min_allocatable_resources: str = setting(
        "least resources worth an offer, alternatives joined by |", default="cpus:0.01|mem:32"
    )
    max_completed_frameworks: int = setting("completed frameworks to remember", default=50)
    max_completed_tasks_per_framework: int = setting("completed tasks to remember", default=1000)
    max_operator_event_stream_subscribers: int = setting("operator streams at most", default=1000)
    log_level: str = setting("debug, info, warning or error", default="info")

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that can't be used."""
        check_port("port", self.port)
        check_level(self.log_level)
        for key in DURATIONS:
            self._seconds(key)
        self.minimums  # noqa: B018 - raises when it can't be parsed
        self.default_networks  # noqa: B018 - raises when it can't be parsed
        if self.max_agent_ping_timeouts < 1:
            raise ConfigError(f"--max-agent-ping-timeouts: {self.max_agent_ping_timeouts}: below 1")
        if self.zk and not (self.zk.startswith("zk://") and "/" in self.zk.removeprefix("zk://")):
            raise ConfigError(f"--zk: {self.zk!r}: is not zk://HOST:PORT,HOST:PORT/PATH")

    def _seconds(self, key: str) -> float:
        try:
            seconds = parse_duration(getattr(self, key))
        except InvalidError as error:
            raise ConfigError(f"--{key.replace('_', '-')}: {error}") from error
        if seconds <= 0:
            raise ConfigError(f"--{key.replace('_', '-')}: {seconds:g}: must be more than zero")
        return seconds

    @property
    def public_hostname(self) -> str:
        """Return the name that this master is known by."""
        return self.hostname or str(self.ip)

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
    def minimums(self) -> tuple[Resources, ...]:
        """Return the alternatives of which an offer must hold one."""
        try:
            return tuple(
                Resources.parse(part)
                for part in self.min_allocatable_resources.split("|")
                if part.strip()
            )
        except InvalidError as error:
            raise ConfigError(f"--min-allocatable-resources: {error}") from error

    @property
    def default_networks(self) -> Mapping[str, IPv4Network]:
        """Return the networks of a new cluster, by name."""
        networks = {}
        for text in self.default_network:
            name, equals, subnet = text.partition("=")
            try:
                if not equals:
                    raise ValueError("is not name=subnet")
                networks[name] = IPv4Network(subnet)
            except ValueError as error:
                raise ConfigError(f"--default-network: {text!r}: {error}") from error
        return networks

    @property
    def zookeeper(self) -> tuple[str, str]:
        """Return hosts and path of ``--zk``."""
        hosts, _, path = self.zk.removeprefix("zk://").partition("/")
        return hosts, f"/{path}"

    def flags(self) -> Mapping[str, str]:
        """Return every setting that has a value, as text, as ``/flags`` shows it."""
        shown = {}
        for item in fields(self):
            value = getattr(self, item.name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            if text:
                shown[item.name] = text
        return shown
