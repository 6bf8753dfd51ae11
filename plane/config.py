"""The settings of a plane."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from phalanx.core.config import HostPort, Loader, check_port, setting
from phalanx.core.error import ConfigError
from phalanx.core.log import check_level
from phalanx.dns.admission import Admission, parse_networks
from phalanx.dns.answer.cookie import Cookies, parse_secrets
from phalanx.dns.forward.route import name_servers, parse_routes
from phalanx.dns.resolvconf import ResolvConf
from phalanx.dns.workers.pool import MAX_WORKERS
from phalanx.dns.zones.settings import SOURCES, ZoneSettings
from phalanx.lb.choose import Kind, check_kind
from phalanx.net.isolation.fence import NodeService, parse_services
from phalanx.net.model.lease import VIP_POOL, VIP_POOL6
from phalanx.net.model.objects import IPAddress
from phalanx.net.overlay.mark import PEER_PORT

IPV6 = Path("/proc/sys/net/ipv6")  # there where the kernel has it


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
    peer_port: int = setting(
        "port on which this node's address tells other nodes what it does with a packet, for"
        " phalanx trace, the same on all nodes; 0 for none",
        default=PEER_PORT,
    )
    vip_range: IPv4Network = setting("where VIPs come from", default=VIP_POOL)
    vip_range6: IPv6Network = setting("where IPv6 VIPs come from", default=VIP_POOL6)
    enable_ipv6: bool = setting(
        "IPv6 for containers, where the kernel has it; without it no IPv6 is touched", default=True
    )
    lb: str = setting(f"load balancer: {', '.join(Kind)}", default="auto")
    lb_count_bytes: bool = setting(
        "count bytes by VIP and backend with nftables, too, for half a microsecond a packet",
        default=False,
    )
    dns_listen: tuple[IPv4Address, ...] = setting(
        "addresses of the resolver, put on lo",
        default=(
            IPv4Address("198.51.100.1"),
            IPv4Address("198.51.100.2"),
            IPv4Address("198.51.100.3"),
        ),
    )
    dns_listen6: tuple[IPv6Address, ...] = setting(
        "IPv6 addresses of the resolver, put on lo of a node that has IPv6",
        default=(
            IPv6Address("fd01:d::c633:6401"),
            IPv6Address("fd01:d::c633:6402"),
            IPv6Address("fd01:d::c633:6403"),
        ),
    )
    dns_port: int = setting("port of the resolver", default=53)
    upstreams: tuple[str, ...] = setting(
        "resolvers for every other name, ADDRESS or ADDRESS:PORT, or the path of a resolv.conf"
        " that names them; none to refuse other names",
        default=("/etc/resolv.conf",),
    )
    zone_upstreams: tuple[str, ...] = setting(
        "resolvers for the names of one zone, like corp.example=10.0.0.1/10.0.0.2:5353",
        default=(),
    )
    dns_listen_also: tuple[str, ...] = setting(
        "more addresses of this node to answer on, IPv4 or IPv6", default=()
    )
    dns_allow: tuple[str, ...] = setting(
        "networks whose queries are answered, the others' are refused; none for everybody's",
        default=(),
    )
    dns_transfer: tuple[str, ...] = setting(
        "networks that may have whole zones by AXFR", default=()
    )
    dns_rate_limit: int = setting(
        "queries a second of one address over UDP; 0 for any number", default=0
    )
    dns_workers: int = setting(
        "processes that answer names, the plane itself among them; each counts a client's queries"
        " by itself",
        default=1,
    )
    dns_query_log: int = setting("log one of so many queries: 1 for all, 0 for none", default=0)
    dns_cookie_secrets: Path | None = setting(
        "file with the secrets of DNS cookies, 32 hexadecimal digits a line, the newest first;"
        " nodes with the same know each other's (default: a random one)",
        default=None,
    )
    mesos_dns_port: int = setting(
        "port on which this node's address serves the HTTP API of Mesos-DNS, on masters 8123;"
        " 0 for none",
        default=0,
    )
    resolv_conf: Path | None = setting(
        "resolv.conf of this node to write and keep: our addresses, and the upstreams when none"
        " of ours answers; what it said comes back at the end (default: leave it alone)",
        default=None,
    )
    dns_search: tuple[str, ...] = setting("domains to search, in --resolv-conf", default=())
    dns_options: tuple[str, ...] = setting(
        "options of --resolv-conf", default=("timeout:1", "attempts:3")
    )
    dns_domain: str = setting("domain of the names that Mesos-DNS makes", default="mesos")
    dns_ttl: int = setting("seconds for which a client may keep a record of ours", default=5)
    dns_sources: tuple[str, ...] = setting(
        f"whose addresses lead to a task, the first that has any: {', '.join(SOURCES)}",
        default=("netinfo", "mesos", "host"),
    )
    dns_rfc952: bool = setting("make labels of at most 24 characters, as RFC 952", default=False)
    dns_prefer_healthy: bool = setting(
        "leave tasks that fail their check out of a name while others are at it", default=True
    )
    dns_compat: bool = setting(
        "answer as Mesos-DNS did even where that is against the RFCs", default=False
    )
    node_services: tuple[str, ...] = setting(
        "what containers reach on this node beside DNS, VIPs, its agent or master and tasks on its"
        " own network, like tcp:9100 or udp:5000-5010; any for everything",
        default=("tcp:5050", "tcp:5051", "tcp:8080", "tcp:8123"),
    )
    resync: float = setting("seconds between two looks at the whole kernel state", default=30.0)
    log_level: str = setting("debug, info, warning or error", default="info")

    def __post_init__(self) -> None:
        """Raise ConfigError for the first value that can't be used."""
        for key in ("api_port", "feed_port", "peer_port", "dns_port", "mesos_dns_port"):
            check_port(key.replace("_", "-"), getattr(self, key))
        if not self.source:
            raise ConfigError("--source: '': at least one URL is needed")
        if not self.resync > 0:
            raise ConfigError(f"--resync: {self.resync!r}: must be above 0")
        parse_routes([each for each in self.upstreams if "/" not in each], self.zone_upstreams)
        check_kind(self.lb)
        if self.dns_rate_limit < 0:
            raise ConfigError(f"--dns-rate-limit: {self.dns_rate_limit!r}: must not be below 0")
        if not 1 <= self.dns_workers <= MAX_WORKERS:
            raise ConfigError(f"--dns-workers: {self.dns_workers!r}: must be 1 to {MAX_WORKERS}")
        if self.dns_workers > 1 and not self.dns_port:
            raise ConfigError("--dns-port: 0: all of --dns-workers answer on one port")
        if self.dns_query_log < 0:
            raise ConfigError(f"--dns-query-log: {self.dns_query_log!r}: must not be below 0")
        _ = self.admission
        _ = self.cookies
        _ = self.resolver_file
        _ = self.zones  # raises for what it can't use
        check_level(self.log_level)

    @property
    def has_ipv6(self) -> bool:
        """Tell whether containers may have IPv6 here."""
        return self.enable_ipv6 and IPV6.exists()

    @property
    def resolvers(self) -> tuple[IPAddress, ...]:
        """Return the addresses of the resolver that are put on lo, IPv4 first."""
        return (*self.dns_listen, *(self.dns_listen6 if self.has_ipv6 else ()))

    def name_servers(self) -> Sequence[str]:
        """Return the upstreams, those of a resolv.conf as it is now.

        A file that can't be read names none. Addresses that we answer on are
        left out of one: it may be ours.
        """
        found: list[str] = []
        own = {str(each) for each in (self.ip, *self.resolvers, *self.dns_listen_also)}
        for upstream in self.upstreams:
            if "/" not in upstream:
                found.append(upstream)
                continue
            with suppress(OSError, UnicodeDecodeError):
                found += name_servers(Path(upstream).read_text(), own)
        return tuple(dict.fromkeys(found))

    @property
    def resolver_file(self) -> ResolvConf:
        """Return what --resolv-conf should say beside the servers."""
        return ResolvConf(self.dns_search, self.dns_options)

    @property
    def admission(self) -> Admission:
        """Return who may ask for names."""
        return Admission(
            allowed=parse_networks("dns-allow", self.dns_allow),
            transfers=parse_networks("dns-transfer", self.dns_transfer),
            per_second=self.dns_rate_limit,
        )

    @property
    def reachable(self) -> tuple[NodeService, ...] | None:
        """Return what containers reach on this node; None for everything."""
        try:
            return parse_services(self.node_services)
        except ValueError as error:
            raise ConfigError(f"--node-services: {error}") from error

    @property
    def cookies(self) -> Cookies | None:
        """Return the cookies of the secrets given, None without; raises ConfigError."""
        if self.dns_cookie_secrets is None:
            return None
        try:
            text = self.dns_cookie_secrets.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--dns-cookie-secrets: {error}") from error
        return parse_secrets("dns-cookie-secrets", text)

    @property
    def zones(self) -> ZoneSettings:
        """Return what is chosen about names."""
        return ZoneSettings(
            domain=self.dns_domain.lower().strip("."),
            ttl_seconds=self.dns_ttl,
            sources=self.dns_sources,
            enforces_rfc952=self.dns_rfc952,
            prefers_healthy=self.dns_prefer_healthy,
            is_compat=self.dns_compat,
        )


LOADER = Loader(
    PlaneConfig,
    program="phalanx plane",
    about="The node daemon: DNS, load balancer, overlay, isolation, CNI back end.",
    environ_prefix="PHALANX_PLANE",
)
