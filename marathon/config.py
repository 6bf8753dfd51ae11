"""The settings of ``phalanx marathon``."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from phalanx.core.config import HostPort, Loader, check_port, setting
from phalanx.core.error import ConfigError
from phalanx.core.log import check_level


@dataclass(frozen=True, slots=True, kw_only=True)
class MarathonConfig:
    """The settings of one Marathon."""

    master: tuple[HostPort, ...] = setting(
        "the masters, any of which tells who leads", metavar="HOST:PORT,…"
    )
    work_dir: Path = setting("directory of the state that outlives the process", metavar="DIR")
    http_address: IPv4Address = setting(
        "address of the REST API", default=IPv4Address("0.0.0.0"), metavar="A"
    )
    http_port: int = setting("port of the REST API; 0 takes a free one", default=8080)
    framework_name: str = setting(
        "name of the framework, part of every DNS name", default="marathon"
    )
    hostname: str | None = setting("our name in URLs; the machine's if not given", default=None)
    default_network_name: str = setting(
        "network of apps that ask for a container network without a name", default="dcos"
    )
    log_level: str = setting("least level that is logged", default="info")

    def __post_init__(self) -> None:
        check_port("http-port", self.http_port)
        check_level(self.log_level)
        if not self.master:
            raise ConfigError("--master: '': names no master")
        if not self.framework_name:
            raise ConfigError("--framework-name: '': must not be empty")


LOADER = Loader(
    MarathonConfig,
    program="phalanx marathon",
    about="Run Marathon: apps, deployments and health checks on a cluster.",
    environ_prefix="MARATHON",
)
