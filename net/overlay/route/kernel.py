"""The kernel's routes that carry our protocol number, through rtnetlink."""

import errno
import socket
from collections.abc import Iterable, Mapping

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta
from phalanx.net.overlay.mark import TUNNEL
from phalanx.net.overlay.route.message import (
    DUMP_REQUESTS,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    decode_route,
    encode_key,
    encode_route,
)
from phalanx.net.overlay.route.value import Route, RouteKey, TunnelRoute
from phalanx.net.rtnl.conversation import NLM_F_CREATE, NLM_F_EXCL, Conversation, Request
from phalanx.net.rtnl.kernel import Rtnl


class KernelRoutes:
    """A Dataplane of the routes of both families that carry our protocol number.

    A route is made only where there is none, never in the place of somebody
    else's: that one is refused, and the error says so.
    """

    name = "routes"

    def __init__(self, rtnl: Rtnl) -> None:
        self._rtnl = rtnl

    async def read(self) -> Mapping[RouteKey, Route]:
        """Dump the routes that are ours, of every table."""
        try:
            return await self._rtnl.call(lambda _: _dump())
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error

    async def apply(self, change: Delta[RouteKey, Route]) -> None:
        """Remove, then upsert, wide prefixes first; a refused route does not hold up the others."""
        try:
            refusals = await self._rtnl.call(lambda _: _apply(change))
        except OSError as error:
            raise DataplaneError(str(error), table=self.name, errno=error.errno) from error
        if refusals:
            raise DataplaneError("; ".join(refusals), table=self.name)


def _dump() -> dict[RouteKey, Route]:
    links = dict(socket.if_nameindex())
    with Conversation() as conversation:
        messages = [
            message
            for request in DUMP_REQUESTS
            for message in conversation.dump(RTM_GETROUTE, request)
        ]
    return dict(found for message in messages if (found := decode_route(message, links)))


def _apply(change: Delta[RouteKey, Route]) -> list[str]:
    """Make the change; return what was refused."""
    indices = {name: index for index, name in socket.if_nameindex()}
    refusals: list[str] = []
    news: dict[RouteKey, Request] = {}
    for key in sorted(change.upserts, key=lambda key: key.place):
        route = change.upserts[key]
        oif = indices.get(TUNNEL if isinstance(route, TunnelRoute) else "lo")
        if oif is None:
            refusals.append(f"{key}: there is no link {TUNNEL}")
            continue
        try:
            payload = encode_route(key, route, oif=oif)
        except ValueError as error:
            refusals.append(f"{key}: {error}")
            continue
        news[key] = Request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, payload)
    with Conversation() as conversation:
        refusals += _remove(conversation, change.removals)
        for key, number in zip(news, conversation.ask(list(news.values())), strict=True):
            if number == errno.EEXIST:
                refusals += _replace(conversation, key, news[key])
            elif number:
                refusals.append(_refusal(key, number))
    return refusals


def _replace(conversation: Conversation, key: RouteKey, new: Request) -> list[str]:
    """Put *new* in the place of what is ours at *key*."""
    if refusals := _remove(conversation, [key]):
        return refusals
    [number] = conversation.ask([new])
    if number == errno.EEXIST:
        return [f"{key}: there is a route that is not ours"]
    return [_refusal(key, number)] if number else []


def _remove(conversation: Conversation, keys: Iterable[RouteKey]) -> list[str]:
    """Remove every route of ours at *keys*; there may be several at one, if somebody appended."""
    refusals: list[str] = []
    rest = list(keys)
    while rest:
        requests = [Request(RTM_DELROUTE, 0, encode_key(key)) for key in rest]
        results = dict(zip(rest, conversation.ask(requests), strict=True))
        refusals += [
            _refusal(key, number)
            for key, number in results.items()
            if number not in (0, errno.ESRCH)
        ]
        rest = [key for key, number in results.items() if number == 0]
    return refusals


def _refusal(key: RouteKey, number: int) -> str:
    return f"{key}: the kernel says {errno.errorcode.get(number, number)}"
