"""``GET /v1/vips``: every VIP and its backends, in DC/OS's form with our fields added."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from phalanx.lb.desired import desired_services
from phalanx.lb.service import IPAddress
from phalanx.net.model.view import View

PATH = "/v1/vips"
ZONE = "l4lb.thisdcos.directory"


def vips_route(view: Callable[[], View]) -> web.RouteDef:
    """Return the route; *view* is asked anew for each request and may raise UnavailableError."""

    async def get_vips(_request: web.Request) -> web.Response:
        return web.json_response(listed_vips(view()))

    return web.get(PATH, get_vips)


def listed_vips(view: View) -> list[dict[str, Any]]:
    """Return the VIPs of *view* by address; a leased address is shown by its name."""
    name_of: dict[IPAddress, str] = {
        lease.address: f"{lease.name}.{ZONE}" for lease in view.vips.values()
    }
    return [
        {
            "vip": f"{name_of.get(vip.address, vip.address)}:{vip.port}",
            "protocol": str(vip.protocol),
            "address": str(vip.address),
            "backend": [
                {"ip": str(backend.address), "port": backend.port, "weight": backend.weight}
                for backend in service.backends
            ],
        }
        for vip, service in sorted(desired_services(view).items())
    ]
