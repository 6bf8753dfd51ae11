"""``GET /overlay-agent/overlay``: what DC/OS' overlay module of an agent told its neighbours."""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any

from aiohttp import web

from phalanx.net.model.dcos import CONFIGURING, OK, agent_overlays, failed
from phalanx.net.model.view import View
from phalanx.plane.api.node import Status

PATH = "/overlay-agent/overlay"


def overlay_route(
    view: Callable[[], View], status: Callable[[], Status], *, node: IPv4Address
) -> web.RouteDef:
    """Return the route; *view* is the newest, *status* says whether the kernel holds it."""

    async def get_overlay(_request: web.Request) -> web.Response:
        return web.json_response(node_overlays(view(), status(), node=node))

    return web.get(PATH, get_overlay)


def node_overlays(view: View, status: Status, *, node: IPv4Address) -> dict[str, Any]:
    """Return what a node has of each network that leases it a subnet, and whether it works."""
    leases = (lease for lease in view.subnets.values() if lease.node == node)
    found = agent_overlays(node, view.networks, leases, _state(status))
    return {**found, "configuration_attempts": 1}


def _state(status: Status) -> Mapping[str, str]:
    refused = sorted(name for name, is_held in status.tables.items() if not is_held)
    if refused:
        return failed(f"not as desired: {', '.join(refused)}")
    return OK if status.sequence and status.applied == status.sequence else CONFIGURING
