"""``GET /v1/vips``: every VIP and its backends, in DC/OS's form with our fields added."""

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from phalanx.lb.desired import desired_services
from phalanx.lb.explain import ZONE
from phalanx.lb.problem import names_by_address
from phalanx.lb.service import IPAddress, Vip, spell
from phalanx.net.model.view import View

PATH = "/v1/vips"


def vips_route(
    view: Callable[[], View], *, taken: Callable[[], Collection[IPAddress]] = tuple
) -> web.RouteDef:
    """Return the route; *view* is asked anew for each request and may raise UnavailableError.

    *taken* says what `desired_services` calls so.

    An answer carries an ETag, and 304 is for who names it in If-None-Match
    (reference dcos-net §5).
    """

    async def get_vips(request: web.Request) -> web.Response:
        # A View of many tasks takes a second, in which names must be answered.
        body = json.dumps(await asyncio.to_thread(listed_vips, view(), taken())).encode()
        digest = hashlib.sha1(body, usedforsecurity=False).digest()
        tag = base64.b64encode(digest).decode()
        headers = {"ETag": f'"{tag}"'}
        if any(each.value in (tag, "*") for each in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    return web.get(PATH, get_vips)


def listed_vips(view: View, taken: Collection[IPAddress] = ()) -> list[dict[str, Any]]:
    """Return the VIPs of *view* by address; a leased address is shown by its name."""
    names, services = names_by_address(view), desired_services(view, taken=taken)
    return [
        {
            "vip": f"{_host(names.get(vip.address)) or spell(vip.address)}:{vip.port}",
            "protocol": str(vip.protocol),
            "address": str(vip.address),
            "backend": [
                {"ip": str(backend.address), "port": backend.port, "weight": backend.weight}
                for backend in service.backends
            ],
        }
        for vip, service in sorted(services.items(), key=lambda item: _place(item[0]))
    ]


def _host(name: str | None) -> str:
    return f"{name}.{ZONE}" if name else ""


def _place(vip: Vip) -> tuple[int, int, int, str]:
    return (vip.address.version, int(vip.address), vip.port, vip.protocol)
