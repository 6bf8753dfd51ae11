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

_Rule = tuple[IPv4Network, int]  # source, and the mark that is passed over


class KernelRules:
    """A Dataplane of the sources that look other nodes up in the table of nodes.

    The value of each is the mark whose packets the rule passes over, 0 for none: an older version
    made such.
    """

    name = "rules"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[IPv4Network, int]:
        """Dump the rules that are ours; of several with one source the one with the least mark."""
        try:
            found = await self._rtnl.call(_dump)
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error
        return dict(sorted(found, reverse=True))

    async def apply(self, change: Delta[IPv4Network, int]) -> None:
        """Remove, then add; a refused rule does not hold up the others."""
        try:
            refusals = await self._rtnl.call(lambda ipr: _apply(ipr, change))
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump(ipr: IPRoute) -> list[_Rule]:
    return [
        (_source_of(rule), rule.get("fwmask") or 0)
        for rule in ipr.rule("dump", family=AF_INET)
        if _is_ours(rule)
    ]


def _apply(ipr: IPRoute, change: Delta[IPv4Network, int]) -> list[str]:
    """Make the change; return what was refused.

    A rule that is to have another mark goes after its successor came: no packet finds neither.
    """
    refusals: list[str] = []
    there = sorted(_dump(ipr))
    for rule in there:
        if rule[0] in change.removals:
            refusals += _request(ipr, "del", rule, accepted=errno.ENOENT)
    for rule in sorted(change.upserts.items()):
        refusals += _request(ipr, "add", rule, accepted=errno.EEXIST)
    for rule in there:
        if change.upserts.get(rule[0], rule[1]) != rule[1]:
            refusals += _request(ipr, "del", rule, accepted=errno.ENOENT)
    return refusals


def _request(ipr: IPRoute, command: str, rule: _Rule, *, accepted: int) -> list[str]:
    """Send one request; return the refusal, if there was one.

    The kernel takes a removal without a mark for the first rule of the source, whatever its mark.
    """
    source, mark = rule
    try:
        ipr.rule(
            command,
            family=AF_INET,
            src=str(source.network_address),
            src_len=source.prefixlen,
            table=TABLE_NODES,
            priority=RULE_PRIORITY,
            protocol=PROTOCOL,
            **({"fwmask": mark} if mark else {}),
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
