"""Who may ask, and how often; it is told the time."""

from collections.abc import Sequence
from enum import Enum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from phalanx.core.error import ConfigError

MAX_REMEMBERED = 65536  # clients whose permission is remembered
MAX_COUNTED = 65536  # clients whose queries of one second are counted

Network = IPv4Network | IPv6Network


class Verdict(Enum):
    """What a client's query earns."""

    ADMIT = "admit"
    REFUSE = "refuse"  # say REFUSED
    CUT = "cut"  # say TC: a client that is not made up comes again over TCP
    DROP = "drop"  # say nothing


_ADMIT, _CUT, _DROP = Verdict.ADMIT, Verdict.CUT, Verdict.DROP  # 0.3 µs each where they are used


class Admission:
    """Refuses clients outside of *allowed* and bounds the datagrams of one client.

    A client is its packed address, as packed_address gives it. Empty *allowed*
    admits everybody. *per_second* bounds the queries of one address over UDP,
    0 does not; as many again are answered with TC, and the rest with silence.
    Only clients in *transfers* may have a whole zone.
    """

    def __init__(
        self,
        *,
        allowed: Sequence[Network] = (),
        transfers: Sequence[Network] = (),
        per_second: int = 0,
    ) -> None:
        self._allowed = allowed
        self._transfers = transfers
        self._per_second = per_second
        self._permissions: dict[bytes, bool] = {}
        self._counts: dict[bytes, int] = {}
        self._second = 0
        self.is_open = not allowed and not per_second  # there is nothing to look at

    def verdict(self, client: bytes, now: float) -> Verdict:
        """Return what a datagram from *client* at *now* earns, in seconds of any clock."""
        if not self.may_ask(client):
            return Verdict.REFUSE
        if not self._per_second:
            return _ADMIT
        second = int(now)
        if second != self._second:
            self._second = second
            self._counts = {}
        count = self._counts.get(client, 0) + 1
        if count == 1 and len(self._counts) >= MAX_COUNTED:
            return _CUT  # so many at once are made up; who is not comes again over TCP
        self._counts[client] = count
        if count <= self._per_second:
            return _ADMIT
        return _CUT if count <= 2 * self._per_second else _DROP

    def may_ask(self, client: bytes) -> bool:
        """Tell whether *client* may ask at all."""
        if not self._allowed:
            return True
        known = self._permissions.get(client)
        if known is None:
            if len(self._permissions) >= MAX_REMEMBERED:
                self._permissions.clear()
            known = self._permissions[client] = _lies_in(client, self._allowed)
        return known

    def may_transfer(self, client: bytes) -> bool:
        """Tell whether *client* may have a whole zone."""
        return _lies_in(client, self._transfers)


OPEN = Admission()


def parse_networks(key: str, texts: Sequence[str]) -> Sequence[Network]:
    """Return the networks that *texts* name, as ADDRESS or ADDRESS/LENGTH; raises ConfigError."""
    found = []
    for text in texts:
        try:
            found.append(ip_network(text))
        except ValueError as error:
            raise ConfigError(f"--{key}: {text!r}: {error}") from error
    return found


def packed_address(text: str) -> bytes:
    """Return an address as 4 or 16 bytes, without the link that follows ``%``."""
    return ip_address(text.partition("%")[0]).packed


def _lies_in(client: bytes, networks: Sequence[Network]) -> bool:
    try:
        address = ip_address(client)
    except ValueError:
        return False
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in network for network in networks)
