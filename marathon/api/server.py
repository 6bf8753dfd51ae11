"""Who we are and how we do: ``/ping``, ``/v2/info``, ``/v2/leader``, ``/metrics``."""

from collections import Counter
from collections.abc import Mapping

from aiohttp import web

from phalanx.marathon.api.answer import as_json
from phalanx.marathon.api.desk import SEAT, Desk, desk_of
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


async def delete_leader(request: web.Request) -> web.Response:
    """Let another lead: this process ends soon, and whoever supervises it starts it anew."""
    desk_of(request).abdicate()
    return as_json({"message": "Leadership abdicated"})


async def get_metrics(request: web.Request) -> web.Response:
    """Answer gauges under Marathon's names."""
    desk = request.app[SEAT].desk
    return as_json(
        {
            "version": "4.0.0",
            "counters": {},
            "gauges": {name: {"value": value} for name, value in _gauges(desk).items()},
            "histograms": {},
            "meters": {},
            "timers": {},
        }
    )


def _gauges(desk: Desk | None) -> Mapping[str, float]:
    """Return what there is to tell; little where another leads."""
    if desk is None:
        return {"marathon.leadership.duration.gauge.seconds": 0.0}
    ledger = desk.board.ledger
    conditions = Counter(instance.condition for instance in ledger.instances())
    duration = round(desk.board.clock() - desk.started_at, 3)
    return {
        "marathon.apps.active.gauge": len(ledger.apps),
        "marathon.deployments.active.gauge": len(ledger.deployments),
        "marathon.instances.running.gauge": conditions[Condition.RUNNING],
        "marathon.instances.staged.gauge": conditions[Condition.STAGING],
        "marathon.instances.inflight-kills.gauge": len(desk.board.kills_sent),
        "marathon.leadership.duration.gauge.seconds": duration,
        "marathon.uptime.gauge.seconds": duration,
    }
