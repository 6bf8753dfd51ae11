"""Who we are and how we do: ``/ping``, ``/v2/info``, ``/v2/leader``, ``/metrics``."""

from collections import Counter

from aiohttp import web

from phalanx.marathon.api.answer import as_json
from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.model.instance import Condition


async def ping(request: web.Request) -> web.Response:
    """Answer ``pong``."""
    return web.Response(text="pong")


async def get_info(request: web.Request) -> web.Response:
    """Answer name, version, framework id and settings."""
    desk = desk_of(request)
    return as_json(
        {
            **desk.info,
            "name": desk.framework_name,
            "elected": True,
            "leader": desk.leader,
            "frameworkId": desk.board.ledger.framework_id,
        }
    )


async def get_leader(request: web.Request) -> web.Response:
    """Answer who leads."""
    return as_json({"leader": desk_of(request).leader})


async def get_metrics(request: web.Request) -> web.Response:
    """Answer gauges under Marathon's names."""
    desk = desk_of(request)
    ledger = desk.board.ledger
    conditions = Counter(instance.condition for instance in ledger.instances())
    gauges = {
        "marathon.apps.active.gauge": len(ledger.apps),
        "marathon.deployments.active.gauge": len(ledger.deployments),
        "marathon.instances.running.gauge": conditions[Condition.RUNNING],
        "marathon.instances.staged.gauge": conditions[Condition.STAGING],
        "marathon.instances.inflight-kills.gauge": len(desk.board.kills_sent),
        "marathon.uptime.gauge.seconds": round(desk.board.clock() - desk.started_at, 3),
    }
    return as_json(
        {
            "version": "4.0.0",
            "counters": {},
            "gauges": {name: {"value": value} for name, value in gauges.items()},
            "histograms": {},
            "meters": {},
            "timers": {},
        }
    )
