"""The holder of what is published: the zones of the latest View and the table that answers."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address

import structlog

from phalanx.dns.answer.table import AnswerTable, Counts
from phalanx.dns.zones.desired import (
    Zones,
    desired_zones,
    static_zones,
    unknown_zones,
    zone_aliases,
)
from phalanx.net.model.view import View

log = structlog.get_logger()


class ZoneTable:
    """Holds the published zones; before the first View those that follow it answer SERVFAIL.

    *node* is this node's underlay address, *servers* the addresses that we
    answer on. *serial* starts the zones' serial numbers, which grow with each
    publishing: the time in seconds when the daemon started keeps them growing
    across restarts.
    """

    def __init__(
        self,
        *,
        node: IPv4Address,
        servers: Sequence[IPv4Address],
        domain: str = "mesos",
        serial: int = 1,
        forwards: bool = False,
    ) -> None:
        self.counts: Counts = defaultdict(int)
        self.aliases = zone_aliases(domain)
        self._domain = domain
        self._servers = servers
        self._serial = serial
        self._forwards = forwards
        self._static = static_zones(node=node, servers=servers, serial=serial)
        self._swap({**self._static, **unknown_zones(domain)})

    def publish(self, view: View, held: Collection[str] | None = None) -> None:
        """Answer from *view* from now on.

        Of its named VIPs only those in *held* get a name, the ones that this
        node's data plane serves; None stands for all.
        """
        self._serial = (self._serial + 1) % 2**32
        dynamic = desired_zones(
            view, domain=self._domain, held=held, serial=self._serial, servers=self._servers
        )
        if all(zone is None for zone in map(self.zones.get, dynamic)):
            log.info("zones_first_published", zones=sorted(dynamic))
        self._swap({**self._static, **dynamic})

    def _swap(self, zones: Zones) -> None:
        self.zones: Zones = zones
        self.answers = AnswerTable(zones, self.aliases, self.counts, forwards=self._forwards)
