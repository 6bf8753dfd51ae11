"""What the settings of a master and of an agent have in common (reference mesos §8)."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import ClassVar

from phalanx.core.config import check_port, fixed, setting
from phalanx.core.error import ConfigError, InvalidError
from phalanx.core.log import check_level
from phalanx.mesos.credential import parse_firewall
from phalanx.mesos.duration import parse_duration

NO_MODULES = "modules are libraries for another program"
NO_AUTHENTICATION = "callers are authenticated over HTTP alone"
BASIC_ALONE = "HTTP basic is the one way"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The settings of either daemon; a subclass is one of them, and has *port* and *ROLE*."""

    ROLE: ClassVar[str]  # master or agent

    # How it is found
    ip_discovery_command: str = setting(
        "command whose output is the address to listen on, instead of --ip", default=""
    )
    advertise_ip: IPv4Address | None = setting(
        "address to be known by, where it is another than that to listen on", default=None
    )
    advertise_port: int | None = setting(
        "port to be known by, where it is another than that to listen on", default=None
    )
    hostname_lookup: bool = setting(
        "without --hostname, look up the name of the address; used if it leads back to it",
        default=True,
    )

    # Log
    logging_level: str = setting(
        "debug, info, warning or error", default="INFO", aliases=("log_level",)
    )
    log_dir: Path | None = setting("directory of a log file, beside standard error", default=None)
    quiet: bool = setting("nothing below an error on standard error", default=False)
    external_log_file: Path | None = setting(
        "log file that somebody else writes, to be served instead of ours", default=None
    )
    logbufsecs: int = fixed("every line is written at once", default=0)
    initialize_driver_logging: bool = fixed("there is no driver", default=True, also=(False,))

    # Who may call
    authenticate_http_readonly: bool = setting(
        "ask who reads, by HTTP basic authentication", default=False
    )
    authenticate_http_readwrite: bool = setting(
        "ask who makes v1 calls or changes something", default=False
    )
    http_credentials: Path | None = setting(
        "file of principals and secrets for what is asked: Mesos' JSON, or a pair on each line",
        default=None,
    )
    firewall_rules: str = setting(
        'pages to close, as JSON: {"disabled_endpoints":{"paths":["/files/browse"]}}', default=""
    )

    # What Mesos has and we have not
    acls: str = fixed("callers are not authorized", default="")
    modules: str = fixed(NO_MODULES, default="")
    modules_dir: str = fixed(NO_MODULES, default="")
    hooks: str = fixed(NO_MODULES, default="")
    master_detector: str = fixed(NO_MODULES, default="")
    memory_profiling: bool = fixed("memory is not profiled", default=False)

    def check_common(self, port: int) -> None:
        """Raise ConfigError for the first value of these, or *port*, that can't be used."""
        check_port("port", port)
        check_port("advertise-port", self.advertise_port or 0)
        check_level(self.logging_level)
        self.closed  # noqa: B018 - raises when it can't be parsed

    @property
    def closed(self) -> tuple[str, ...]:
        """Return the paths of the pages that nobody may see."""
        return parse_firewall(self.firewall_rules)

    @property
    def asked(self) -> Mapping[str, bool]:
        """Return of each realm whether it asks who calls."""
        return {
            "readonly": self.authenticate_http_readonly,
            "readwrite": self.authenticate_http_readwrite,
        }

    @property
    def realms(self) -> Mapping[str, str]:
        """Return the realms that ask who calls, by the name that pages give them."""
        return {name: f"mesos-{self.ROLE}-{name}" for name, asks in self.asked.items() if asks}

    @property
    def log_file(self) -> Path | None:
        """Return the file that the log is to be read from, if there is one."""
        return self.external_log_file or self.log_file_of_ours

    @property
    def log_file_of_ours(self) -> Path | None:
        """Return the file that we write our log to, if there is one."""
        return None if self.log_dir is None else self.log_dir / f"phalanx-{self.ROLE}.log"

    def seconds(self, key: str) -> float:
        """Return a duration among the settings; raise ConfigError if it is none."""
        try:
            return parse_duration(getattr(self, key))
        except InvalidError as error:
            raise ConfigError(f"--{key.replace('_', '-')}: {error}") from error
