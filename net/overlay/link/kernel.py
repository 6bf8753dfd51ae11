"""The kernel's VXLAN link, through rtnetlink."""

from collections.abc import Mapping
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.overlay.link.value import Link, OtherLink, VxlanLink
from phalanx.net.overlay.mark import TUNNEL
from phalanx.net.rtnl.kernel import Rtnl

IFF_UP = 1


class KernelLinks:
    """A Dataplane of the one link whose name is the tunnel's.

    A link of that name with other attributes is removed and made anew; its
    routes go with it, so routes are reconciled after links.
    """

    name = "links"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[str, Link]:
        """Return the tunnel, if there is a link of its name."""
        try:
            return await self._rtnl.call(_dump)
        except NetlinkError as error:
            raise DataplaneError(f"dump: {error}", table=self.name, errno=error.code) from error

    async def apply(self, change: Delta[str, Link]) -> None:
        """Make or correct the link; raise DataplaneError with what was refused."""
        refusals = await self._rtnl.call(lambda ipr: _apply(ipr, change))
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump(ipr: IPRoute) -> dict[str, Link]:
    links = {link.get("ifname"): link for link in ipr.link("dump")}
    return {TUNNEL: _value_of(links[TUNNEL])} if TUNNEL in links else {}


def _apply(ipr: IPRoute, change: Delta[str, Link]) -> list[str]:
    """Make the change; return what was refused."""
    refusals: list[str] = []
    for name in change.removals | change.upserts.keys():
        link = change.upserts.get(name)
        if name != TUNNEL or isinstance(link, OtherLink):
            refusals.append(f"{name}: not a link that we make")
            continue
        try:
            _make(ipr, link, _dump(ipr).get(name))
        except NetlinkError as error:
            refusals.append(f"{name}: {error}")
    return refusals


def _make(ipr: IPRoute, link: VxlanLink | None, present: Link | None) -> None:
    """Turn the link that is *present* into *link*."""
    stays = isinstance(present, VxlanLink) and link is not None and present.port == link.port
    if present is not None and not stays:
        ipr.link("del", ifname=TUNNEL)
    if link is None:
        return
    if not stays:
        ipr.link(
            "add",
            ifname=TUNNEL,
            kind="vxlan",
            vxlan_collect_metadata=True,
            vxlan_gpe=True,
            vxlan_learning=False,
            vxlan_port=link.port,
        )
    [index] = ipr.link_lookup(ifname=TUNNEL)
    ipr.link("set", index=index, mtu=link.mtu, state="up" if link.is_up else "down")


def _value_of(link: Any) -> Link:  # noqa: ANN401 - a message of untyped pyroute2
    info = link.get("linkinfo")
    kind = info.get("kind") if info else None
    data = info.get("data") if info else None
    if kind != "vxlan" or data is None:
        return OtherLink(f"kind {kind}")
    if not data.get("vxlan_collect_metadata") or not data.get("vxlan_gpe"):
        return OtherLink("vxlan without collect-metadata or GPE")
    if data.get("vxlan_learning"):
        return OtherLink("vxlan that learns")
    return VxlanLink(
        mtu=link.get("mtu"), port=data.get("vxlan_port"), is_up=bool(link["flags"] & IFF_UP)
    )
