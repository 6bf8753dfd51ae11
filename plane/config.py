"""The settings of a plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from phalanx.core.config import HostPort, Loader, check_port, setting
from phalanx.core.error import ConfigError
from phalanx.lb.choose import Kind


@dataclass(frozen=True, slots=True)
class PlaneConfig:
    """What a plane needs to know before it hears of the cluster."""

    ip: IPv4Address = setting("this node's underlay address", metavar="ADDRESS")
    source: tuple[HostPort, ...] = setting(
        "where the feed comes from: the masters on a master node, else the planes of master nodes",
        metavar="URL[,URL]",
    )
    api_port: int = setting("port of the node API on 127.0.0.1; 0 for none", default=62080)
    socket: Path = setting("unix socket of the node API", default=Path("/run/phalanx/plane.sock"))
    cni_socket: Path = setting(
        "unix socket that CNI plugins call", default=Path("/run/phalanx/cni.sock")
    )
    cni_config_dir: Path | None = setting(
        "where to keep a CNI configuration file for each network; none on a node without agent",
        default=None,
    )
    state_dir: Path = setting(
        "where the last view and the address leases lie", default=Path("/var/lib/phalanx/plane")
    )
    feed_port: int = setting(
        "port on which this node's address relays the feed; 0 for none", default=0
    )
    vip_range: IPv4Network = setting("where VIPs come from", default=IPv4Network("11.0.0.0/8"))
    lb: str = setting(f"load balancer: {', '.join(Kind)}", default="auto")
    dns_listen: tuple[IPv4Address, ...] = setting(
        "addresses of the resolver, put on lo",
        default=(
            IPv4Address("198.51.100.1"),
            IPv4Address("198.51.100.2"),
            IPv4Address("198.51.100.3"),
        ),
    )
    dns_port: int = setting("port of the resolver", default=53)
    upstreams: tuple[str, ...] = setting(
        "resolvers for every other name, HOST or HOST:PORT", default=()
    )
    resync: float = setting("seconds between two looks at the whole kernel state", default=30.0)
    log_level: str = setting("debug, info, warning or error", default="info")


def load(arguments: Sequence[str]) -> PlaneConfig:
    """Read and check the settings; raise ConfigError with the key and the value."""
    loader = Loader(
        PlaneConfig,
        program="phalanx plane",
        about="The node daemon: DNS, load balancer, overlay, isolation, CNI back end.",
        environ_prefix="PHALANX_PLANE",
    )
    config = loader.load(arguments)
    for key in ("api_port", "feed_port", "dns_port"):
        check_port(key.replace("_", "-"), getattr(config, key))
    if not config.source:
        raise ConfigError("--source: '': at least one URL is needed")
    if config.lb not in set(Kind):
        raise ConfigError(f"--lb: {config.lb!r}: is none of {', '.join(Kind)}")
    if not config.resync > 0:
        raise ConfigError(f"--resync: {config.resync!r}: must be above 0")
    return config
