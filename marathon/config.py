"""The settings of ``phalanx marathon``."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.core.config import Loader, MasterAddress, ZooKeeperAddress, check_port, setting
from phalanx.core.error import ConfigError
from phalanx.core.log import check_level
from phalanx.marathon.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class MarathonConfig:
    """The settings of one Marathon."""

    master: MasterAddress = setting(
        "the masters, any of which tells who leads, or ZooKeeper, which knows",
        metavar="HOST:PORT,…|zk://…",
    )
    work_dir: Path = setting(
        "directory of the state that outlives the process, unless ZooKeeper keeps it", metavar="DIR"
    )
    zk: ZooKeeperAddress | None = setting(
        "ZooKeeper of the election and the state; without it this Marathon is alone",
        default=None,
        metavar="zk://HOST:PORT,…/PATH",
    )
    zk_session_timeout: int = setting("silence that ends a session, milliseconds", default=6_000)
    http_address: IPv4Address = setting(
        "address of the REST API", default=IPv4Address("0.0.0.0"), metavar="A"
    )
    http_port: int = setting("port of the REST API; 0 takes a free one", default=8080)
    backup_location: Path | None = setting(
        "directory in which DELETE /v2/leader may write and find backups; without it, it may not",
        default=None,
        metavar="DIR",
    )
    framework_name: str = setting(
        "name of the framework, part of every DNS name", default="marathon"
    )
    hostname: str | None = setting("our name in URLs; the machine's if not given", default=None)
    default_network_name: str = setting(
        "network of apps that ask for a container network without a name", default="dcos"
    )
    http_credentials: str | None = setting(
        "what clients prove by HTTP basic authentication; best given by the environment",
        default=None,
        metavar="USER:PASSWORD",
    )
    access_control_allow_origin: str = setting(
        "web origins whose pages may read answers, separated by commas; * is any", default=""
    )
    log_level: str = setting("least level that is logged", default="info")

    def __post_init__(self) -> None:
        check_port("http-port", self.http_port)
        check_level(self.log_level)
        if self.zk_session_timeout < 1000:
            raise ConfigError(f"--zk-session-timeout: {self.zk_session_timeout}: below 1000")
        if not self.framework_name:
            raise ConfigError("--framework-name: '': must not be empty")
        if self.http_credentials is not None and ":" not in self.http_credentials.strip(":"):
            raise ConfigError("--http-credentials: must be USER:PASSWORD")  # and is not shown

    @property
    def origins(self) -> frozenset[str]:
        """Return the web origins whose pages may read answers."""
        found = (origin.strip() for origin in self.access_control_allow_origin.split(","))
        return frozenset(filter(None, found))

    @property
    def policy(self) -> Policy:
        """Return whom the REST API answers."""
        return Policy(credentials=self.http_credentials, origins=self.origins)

    @property
    def zk_session_seconds(self) -> float:
        """Return the silence that ends a session."""
        return self.zk_session_timeout / 1000


LOADER = Loader(
    MarathonConfig,
    program="phalanx marathon",
    about="Run Marathon: apps, deployments and health checks on a cluster.",
    environ_prefix="MARATHON",
)
