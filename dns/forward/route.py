"""Whom to ask about which names: the zone with the longest suffix wins; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from phalanx.core.config import HostPort
from phalanx.core.error import ConfigError
from phalanx.dns.answer.wire import encode_name
from phalanx.dns.forward.upstream import parse_upstream
from phalanx.dns.resolvconf import remembered_upstreams
from phalanx.dns.zones.hostname import is_domain
from phalanx.dns.zones.record import is_encodable

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Routes:
    """Upstreams for every name, and others for the names of some zones.

    *zones* are by apex as bytes in lower case; one without upstreams is refused.
    """

    default: Sequence[HostPort] = ()
    zones: Mapping[bytes, Sequence[HostPort]] = ()  # type: ignore[assignment]  # empty is empty

    def upstreams_of(self, name: bytes) -> Sequence[HostPort]:
        """Return whom to ask about *name*, in bytes and lower case; more may follow it."""
        if self.zones:
            at = 0
            end = name.index(0) + 1
            while name[at]:
                found = self.zones.get(name[at:end])
                if found is not None:
                    return found
                at += 1 + name[at]
        return self.default

    @property
    def all(self) -> Sequence[HostPort]:
        """Return every upstream once."""
        zones = dict(self.zones)
        return tuple(dict.fromkeys([*self.default, *(u for us in zones.values() for u in us)]))


def parse_routes(upstreams: Iterable[str], zones: Iterable[str] = ()) -> Routes:
    """Return the routes; *zones* are like ``corp.example=10.0.0.1/10.0.0.2:5353``.

    Raises ConfigError for what can't be read.
    """
    found: dict[bytes, list[HostPort]] = {}
    for text in zones:
        name, equals, addresses = text.partition("=")
        apex = name.lower().strip(".")
        if not equals or not is_domain(apex) or not is_encodable(apex):
            raise ConfigError(f"zone upstreams: {text!r} is not ZONE=ADDRESS[/ADDRESS]")
        servers = [parse_upstream(each) for each in addresses.split("/") if each]
        found.setdefault(encode_name(f"{apex}."), []).extend(servers)
    default = tuple(dict.fromkeys(map(parse_upstream, upstreams)))
    return Routes(default, {apex: tuple(dict.fromkeys(each)) for apex, each in found.items()})


def name_servers(resolv_conf: str, own: Iterable[Address | str]) -> Sequence[str]:
    """Return the name servers of a resolv.conf(5), without ourselves and those we can't ask.

    One that a plane wrote names those that it replaced.
    """
    ours = {str(address) for address in own}
    remembered = remembered_upstreams(resolv_conf)
    if remembered is not None:
        return tuple(remembered)
    found = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver" or words[1] in ours:
            continue
        try:
            found.append(str(parse_upstream(words[1]).host))
        except ConfigError:
            continue
    return tuple(dict.fromkeys(found))
