"""The node API: is this plane in sync, and with what."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@dataclass(frozen=True, slots=True)
class Status:
    """What a plane says of itself.

    *in_sync*: the View came by the feed, and every table and every name of
    this node holds it. *sequence* is the View received, *applied* the one that
    the tables hold.
    """

    node: str
    in_sync: bool
    epoch: str | None
    sequence: int
    applied: int
    tables: Mapping[str, bool]


async def _nothing() -> bytes:
    return b""


def node_routes(
    status: Callable[[], Status],
    registry: CollectorRegistry,
    more: Callable[[], Awaitable[bytes]] = _nothing,
) -> list[web.RouteDef]:
    """Return ``/v1/status``, ``/v1/health`` and ``/metrics``.

    *more* returns metrics that are too many to be rendered on the event loop.
    """

    async def get_status(_request: web.Request) -> web.Response:
        return web.json_response(asdict(status()))

    async def get_health(_request: web.Request) -> web.Response:
        return web.json_response({"healthy": True})

    async def get_metrics(_request: web.Request) -> web.Response:
        body = await more() + generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return [
        web.get("/v1/status", get_status),
        web.get("/v1/health", get_health),
        web.get("/metrics", get_metrics),
    ]
