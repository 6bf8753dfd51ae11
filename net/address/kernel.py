"""The kernel's addresses on lo that are ours, through rtnetlink."""

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from socket import AF_INET, AF_INET6
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import rt_scope

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.model.objects import NODES6, IPAddress
from phalanx.net.rtnl.kernel import Rtnl

LABEL = "lo:phx"  # of an IPv4 address; listed in docs/reference/marks.md
# IPv6 addresses have no label: ours lie in these prefixes. Listed there, too.
OURS6 = (NODES6, IPv6Network("fd01:d::/64"))

FOR_EVER = 0xFFFFFFFF  # seconds, as the kernel counts lifetimes
IFA_F_NODAD = 2  # else the address is no route's source for a moment, while it is "tentative"


class KernelAddresses:
    """A Dataplane of the single addresses on lo that are ours, of both families.

    No connection ever leaves from one by itself: IPv4's have the scope of the
    host, IPv6's are deprecated (RFC 4862 §5.5.4).
    """

    name = "addresses"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[IPAddress, None]:
        """Dump the addresses that are ours."""
        try:
            return await self._rtnl.call(_dump)
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error

    async def apply(self, change: Delta[IPAddress, None]) -> None:
        """Remove, then add; a refused address does not hold up the others."""
        refusals = await self._rtnl.call(lambda ipr: _apply(ipr, change))
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump(ipr: IPRoute) -> dict[IPAddress, None]:
    [index] = ipr.link_lookup(ifname="lo")
    found: dict[IPAddress, None] = {
        IPv4Address(item.get("local")): None
        for item in ipr.addr("dump", family=AF_INET)
        if item.get("label") == LABEL and item["prefixlen"] == 32
    }
    for item in ipr.addr("dump", family=AF_INET6, index=index):
        if item["family"] != AF_INET6 or item["prefixlen"] != 128:
            continue  # a kernel without IPv6 answers with IPv4's
        address = IPv6Address(item.get("address"))
        if any(address in prefix for prefix in OURS6):
            found[address] = None
    return found


def _apply(ipr: IPRoute, change: Delta[IPAddress, None]) -> list[str]:
    refusals: list[str] = []
    for address in sorted(change.removals, key=_order):
        refusals += _request(ipr, "del", address)
    for address in sorted(change.upserts, key=_order):
        refusals += _request(ipr, "add", address)
    return refusals


def _request(ipr: IPRoute, command: str, address: IPAddress) -> list[str]:
    """Send one request; return the refusal, if there was one."""
    [index] = ipr.link_lookup(ifname="lo")
    form: dict[str, Any] = {
        "prefixlen": 128,
        "preferred": 0,
        "valid": FOR_EVER,
        "flags": IFA_F_NODAD,
    }
    if address.version == 4:
        form = {"prefixlen": 32, "label": LABEL, "scope": rt_scope["host"]}
    elif command == "del":
        form = {"prefixlen": 128}
    try:
        ipr.addr(command, index=index, address=str(address), **form)
    except NetlinkError as error:
        if command == "del" and error.code == errno.EADDRNOTAVAIL:
            return []
        if error.code == errno.EEXIST:
            return [f"{address}: there is one on lo that is not ours"]
        return [f"{address}: {command}: {error}"]
    return []


def _order(address: IPAddress) -> tuple[int, int]:
    return address.version, int(address)
