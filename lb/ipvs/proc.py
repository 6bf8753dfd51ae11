"""The kernel's own listing of IPVS, /proc/net/ip_vs, as values; pure.

Netlink tells a service's backends by one dump for each service. This listing
tells those of all services at once, but for their counters and limits.
"""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from phalanx.lb.ipvs.message import Destination
from phalanx.lb.service import Backend, Endpoint, IPAddress, Vip
from phalanx.net.model.objects import Protocol

BACKEND = b"  -> "
TRANSLATED = b"Masq"
PROTOCOLS = {b"TCP": Protocol.TCP, b"UDP": Protocol.UDP}


def parse_table(listing: bytes) -> dict[Vip, list[Destination]]:
    """Return the backends of every service that has a VIP; raises ValueError for other text."""
    found: dict[Vip, list[Destination]] = {}
    current: list[Destination] | None = None  # None where a service has no VIP of our kind
    for line in listing.splitlines():
        if not line.startswith(BACKEND):
            words = line.split(maxsplit=2)
            protocol = PROTOCOLS.get(words[0])
            if protocol is None:
                current = None
                continue
            at = _endpoint(words[1])
            current = found[Vip(at.address, at.port, protocol)] = []
        elif current is not None:
            where, method, weight, active, inactive = line[len(BACKEND) :].split()
            at = _endpoint(where)
            backend = Backend(at.address, at.port, int(weight))
            is_plain = method == TRANSLATED
            current.append(Destination(backend, is_plain, int(active), int(inactive)))
    return found


@lru_cache(maxsize=131072)
def _endpoint(text: bytes) -> Endpoint:
    """Return what stands as 0B000001:0050, or as a whole IPv6 address in brackets."""
    words, _, port = text.decode().rpartition(":")
    address: IPAddress = (
        IPv6Address(words[1:-1]) if words.startswith("[") else IPv4Address(int(words, 16))
    )
    return Endpoint(address, int(port, 16))
