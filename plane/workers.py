"""The workers of a plane's name server: what they are told of its settings."""

from collections.abc import Callable, Sequence

from phalanx.core.config import HostPort
from phalanx.dns.answer.cookie import Cookies
from phalanx.dns.forward.forwarder import Forwarder
from phalanx.dns.publish import ZoneTable
from phalanx.dns.workers.message import Start
from phalanx.dns.workers.pool import WorkerPool
from phalanx.plane.config import PlaneConfig


def worker_pool(
    config: PlaneConfig,
    zones: ZoneTable,
    forwarder: Forwarder,
    *,
    cookies: Cookies,
    listening: Callable[[], Sequence[HostPort]],
) -> WorkerPool:
    """Return the workers beside the plane itself; *listening* says where it answers."""

    def start() -> Start:
        return Start(
            node=str(config.ip),
            servers=tuple(map(str, config.dns_listen)),
            places=tuple((place.host, place.port) for place in listening()),
            settings=config.zones,
            serial=zones.ledger.serial,
            secrets=cookies.secrets,
            allowed=config.dns_allow,
            transfers=config.dns_transfer,
            per_second=config.dns_rate_limit,
            query_log=config.dns_query_log,
            log_level=config.log_level,
        )

    return WorkerPool(config.dns_workers - 1, start, zones, forwarder)
