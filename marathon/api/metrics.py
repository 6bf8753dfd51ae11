"""``/metrics``: what is counted and measured, under Marathon's names (reference marathon §2.8)."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping

from aiohttp import web

from phalanx.marathon.api.answer import Handler, as_json
from phalanx.marathon.api.desk import SEAT, Desk
from phalanx.marathon.model.instance import Condition


class Meters:
    """What the REST API counts of itself."""

    def __init__(self) -> None:
        self.active = 0
        self.streams = 0
        self.statuses: Counter[int] = Counter()  # by class: 2, 4 and so on
        self.bytes_in = 0
        self.bytes_out = 0
        self.seconds: dict[str, float] = defaultdict(float)  # by method, in all
        self.requests: Counter[str] = Counter()

    def counters(self) -> Mapping[str, float]:
        """Return what only grows."""
        return {
            "marathon.http.requests.size.counter.bytes": self.bytes_in,
            "marathon.http.responses.size.counter.bytes": self.bytes_out,
            **{
                f"marathon.http.responses.{kind}xx.counter": self.statuses[kind]
                for kind in (1, 2, 3, 4, 5)
            },
        }


METERS: web.AppKey[Meters] = web.AppKey("meters", Meters)


@web.middleware
async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count a request, how long it took and what came of it."""
    meters, began = request.app[METERS], time.monotonic()
    meters.active += 1
    try:
        response = await handler(request)
    finally:
        meters.active -= 1
    method = request.method.lower()
    meters.statuses[response.status // 100] += 1
    meters.bytes_in += request.content_length or 0
    meters.bytes_out += response.content_length or 0
    meters.requests[method] += 1
    meters.seconds[method] += time.monotonic() - began
    return response


async def get_metrics(request: web.Request) -> web.Response:
    """Answer everything as JSON."""
    desk, meters = request.app[SEAT].desk, request.app[METERS]
    timers = {
        f"marathon.http.requests.{method}.duration.timer.seconds": {
            "count": count,
            "mean": meters.seconds[method] / count,
        }
        for method, count in meters.requests.items()
    }
    counters = {**meters.counters(), **_counters(desk)}
    return as_json(
        {
            "version": "4.0.0",
            "counters": {name: {"count": value} for name, value in counters.items()},
            "gauges": {name: {"value": value} for name, value in _gauges(desk, meters).items()},
            "histograms": {},
            "meters": {},
            "timers": timers,
        }
    )


async def get_prometheus(request: web.Request) -> web.Response:
    """Answer counters and gauges in Prometheus' text format."""
    desk, meters = request.app[SEAT].desk, request.app[METERS]
    kinds = {"counter": {**meters.counters(), **_counters(desk)}, "gauge": _gauges(desk, meters)}
    lines = []
    for kind, values in kinds.items():
        for name, value in values.items():
            plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            lines += [f"# TYPE {plain} {kind}", f"{plain} {value}"]
    return web.Response(
        text="\n".join([*lines, ""]),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def _counters(desk: Desk | None) -> Mapping[str, float]:
    """Return what the leader has counted since it leads."""
    if desk is None:
        return {}
    told = desk.board.bus.told
    states = {
        kind.removeprefix("status_update_event:"): count
        for kind, count in told.items()
        if kind.startswith("status_update_event:")
    }
    return {
        "marathon.deployments.counter": told["deployment_info"],
        "marathon.deployments.dismissed.counter": told["deployment_failed"],
        "marathon.groups.changes.counter": told["group_change_success"],
        "marathon.tasks.launched.counter": states.get("TASK_RUNNING", 0),
        **{
            f"marathon.mesos.task-updates.{state.lower().replace('_', '-')}.counter": count
            for state, count in sorted(states.items())
        },
    }


def _gauges(desk: Desk | None, meters: Meters) -> Mapping[str, float]:
    """Return what is now; little where another leads."""
    own: dict[str, float] = {
        "marathon.http.requests.active.gauge": meters.active,
        "marathon.http.event-streams.active.gauge": meters.streams,
    }
    if desk is None:
        return {**own, "marathon.leadership.duration.gauge.seconds": 0.0}
    ledger = desk.board.ledger
    conditions = Counter(instance.condition for instance in ledger.instances())
    duration = round(desk.board.clock() - desk.started_at, 3)
    return {
        **own,
        "marathon.apps.active.gauge": len(ledger.apps),
        "marathon.groups.active.gauge": len(ledger.root.group_ids()),
        "marathon.deployments.active.gauge": len(ledger.deployments),
        "marathon.instances.running.gauge": conditions[Condition.RUNNING],
        "marathon.instances.staged.gauge": conditions[Condition.STAGING],
        "marathon.instances.inflight-kills.gauge": len(desk.board.kills_sent),
        "marathon.leadership.duration.gauge.seconds": duration,
        "marathon.uptime.gauge.seconds": duration,
    }
