"""The kernel's routing rules that carry our protocol number, through rtnetlink."""

import errno
from collections.abc import Mapping
from ipaddress import IPv4Network
from socket import AF_INET
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_TO_TBL

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.overlay.mark import PROTOCOL, RULE_PRIORITY, TABLE_NODES
from phalanx.net.rtnl.kernel import Rtnl


class KernelRules:
    """A Dataplane of the sources that look other nodes up in the table of nodes."""

    name = "rules"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[IPv4Network, None]:
        """Dump the rules that are ours and as we make them."""
        try:
            return await self._rtnl.call(_dump)
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error

    async def apply(self, change: Delta[IPv4Network, None]) -> None:
        """Remove, then add; a refused rule does not hold up the others."""
        refusals = await self._rtnl.call(lambda ipr: _apply(ipr, change))
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump(ipr: IPRoute) -> dict[IPv4Network, None]:
    return {_source_of(rule): None for rule in ipr.rule("dump", family=AF_INET) if _is_ours(rule)}


def _apply(ipr: IPRoute, change: Delta[IPv4Network, None]) -> list[str]:
    """Make the change; return what was refused."""
    refusals: list[str] = []
    for source in sorted(change.removals):
        refusals += _request(ipr, "del", source, accepted=errno.ENOENT)
    for source in sorted(change.upserts):
        refusals += _request(ipr, "add", source, accepted=errno.EEXIST)
    return refusals


def _request(ipr: IPRoute, command: str, source: IPv4Network, *, accepted: int) -> list[str]:
    """Send one request; return the refusal, if there was one."""
    try:
        ipr.rule(
            command,
            family=AF_INET,
            src=str(source.network_address),
            src_len=source.prefixlen,
            table=TABLE_NODES,
            priority=RULE_PRIORITY,
            protocol=PROTOCOL,
        )
    except NetlinkError as error:
        return [] if error.code == accepted else [f"{source}: {command}: {error}"]
    return []


def _is_ours(rule: Any) -> bool:  # noqa: ANN401 - a message of untyped pyroute2
    return (
        rule.get("protocol") == PROTOCOL
        and rule.get("table") == TABLE_NODES
        and rule.get("priority") == RULE_PRIORITY
        and rule["action"] == FR_ACT_TO_TBL
        and bool(rule.get("src"))
        and not rule["dst_len"]
        and not rule.get("iifname")
        and not rule.get("oifname")
        and not rule.get("fwmark")
    )


def _source_of(rule: Any) -> IPv4Network:  # noqa: ANN401 - as above
    return IPv4Network((rule.get("src"), rule["src_len"]))
