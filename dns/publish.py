"""The holder of what is published: the zones of the latest View and the table that answers."""

from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Address

import structlog

from phalanx.dns.answer.ready import Counts
from phalanx.dns.answer.table import AnswerTable, Foreign
from phalanx.dns.zones.desired import (
    Zones,
    static_zones,
    unknown_zones,
    zone_aliases,
    zones_of,
)
from phalanx.dns.zones.ledger import HeldVips, Ledger
from phalanx.dns.zones.settings import DEFAULTS, ZoneSettings
from phalanx.net.model.view import Ref, View

log = structlog.get_logger()

# It gets the View, what is held, and what differs from the View before; None: that is to be found.
Published = Callable[[View, HeldVips | None, Collection[Ref] | None], None]


class ZoneTable:
    """Holds the published zones; before the first View those that follow it answer SERVFAIL.

    *node* is this node's underlay address, *servers* the addresses that we
    answer on. *serial* starts the zones' serial numbers, which grow with each
    publishing: the time in seconds when the daemon started keeps them growing
    across restarts. *foreign* knows some replies about names of others at once.
    """

    def __init__(
        self,
        *,
        node: IPv4Address,
        servers: Sequence[IPv4Address],
        settings: ZoneSettings = DEFAULTS,
        serial: int = 1,
        forwards: bool = False,
        foreign: Foreign | None = None,
    ) -> None:
        self.counts = Counts()
        self.settings = settings
        self.aliases = zone_aliases(settings.domain)
        self._servers = servers
        self.ledger = Ledger(settings, servers, serial)
        self._forwards = forwards
        self._foreign = foreign
        self._static = static_zones(node=node, servers=servers, serial=serial)
        self._is_published = False
        self.published: Published = _nobody  # told of each publishing, after it
        self._swap({**self._static, **unknown_zones(settings)})

    def publish(
        self,
        view: View,
        held: HeldVips | None = None,
        touched: Iterable[Ref] | None = None,
        *,
        is_last: bool = True,
    ) -> None:
        """Answer from *view* from now on.

        One that is not the *last* of some that make a whole is not yet answered from if it is
        the first of all: most names would be missing.

        Of its named VIPs only those in *held* get a name, the ones that this
        node's data plane serves; None stands for every IPv4 one. *touched* are the
        objects that may differ from the View before; None lets them be found. After
        one that failed the next begins with nothing.
        """
        ledger = self.ledger
        touched = None if touched is None else tuple(touched)
        ledger.serial = (ledger.serial + 1) % 2**32
        try:
            changes = ledger.follow(view, held, touched)
        except BaseException:  # half of a step is nothing to go on from; what was, answers
            self.ledger = Ledger(self.settings, self._servers, ledger.serial)
            self._is_published = False
            raise
        if not self._is_published and not is_last:
            return
        if not self._is_published:
            touched = None  # what was told before, if anything, is not what was followed last
            log.info("zones_first_published", zones=sorted(ledger.indexes))
        if changes.are_zones_new or not self._is_published:
            self._is_published = True
            self._swap({**self._static, **zones_of(ledger)})
        else:
            self.answers.forget(changes.names)
        self.published(view, held, touched)

    def set_forwards(self, forwards: bool) -> None:
        """Say from now on whether names of others are looked up here."""
        if forwards != self._forwards:
            self._forwards = forwards
            self._swap(self.zones)

    def _swap(self, zones: Zones) -> None:
        self.zones: Zones = zones
        self.answers = AnswerTable(
            zones, self.aliases, self.counts, settings=self.settings, forwards=self._forwards
        )
        if self._foreign is not None:
            self.answers.foreign = self._foreign


def _nobody(_: View, __: HeldVips | None, ___: Collection[Ref] | None) -> None:
    pass
