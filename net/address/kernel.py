"""The kernel's addresses on lo that carry our label, through rtnetlink."""

import errno
from collections.abc import Mapping
from ipaddress import IPv4Address
from socket import AF_INET

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import rt_scope

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.rtnl.kernel import Rtnl

LABEL = "lo:phx"  # listed in docs/reference/marks.md


class KernelAddresses:
    """A Dataplane of the /32 addresses on lo that carry our label.

    Their scope is the host, so no connection ever leaves from one by itself.
    """

    name = "addresses"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[IPv4Address, None]:
        """Dump the addresses that are ours."""
        try:
            return await self._rtnl.call(_dump)
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error

    async def apply(self, change: Delta[IPv4Address, None]) -> None:
        """Remove, then add; a refused address does not hold up the others."""
        refusals = await self._rtnl.call(lambda ipr: _apply(ipr, change))
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump(ipr: IPRoute) -> dict[IPv4Address, None]:
    return {
        IPv4Address(item.get("local")): None
        for item in ipr.addr("dump", family=AF_INET)
        if item.get("label") == LABEL and item["prefixlen"] == 32
    }


def _apply(ipr: IPRoute, change: Delta[IPv4Address, None]) -> list[str]:
    refusals: list[str] = []
    for address in sorted(change.removals):
        refusals += _request(ipr, "del", address)
    for address in sorted(change.upserts):
        refusals += _request(ipr, "add", address)
    return refusals


def _request(ipr: IPRoute, command: str, address: IPv4Address) -> list[str]:
    """Send one request; return the refusal, if there was one."""
    [index] = ipr.link_lookup(ifname="lo")
    try:
        ipr.addr(
            command,
            index=index,
            address=str(address),
            prefixlen=32,
            label=LABEL,
            scope=rt_scope["host"],
        )
    except NetlinkError as error:
        if command == "del" and error.code == errno.EADDRNOTAVAIL:
            return []
        if error.code == errno.EEXIST:
            return [f"{address}: there is one on lo that is not ours"]
        return [f"{address}: {command}: {error}"]
    return []
