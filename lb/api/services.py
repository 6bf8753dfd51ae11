"""``GET /v1/services`` and ``/v1/vip-problems``: VIPs on this node, what they do, and why.

``GET /v1/vips`` beside them is DC/OS's form of the same.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address
from typing import Any

from aiohttp import web

from phalanx.core.error import DataplaneError, NotFoundError
from phalanx.lb.explain import ZONE, Behind, Explained, explain
from phalanx.lb.problem import Problem, about, vip_problems
from phalanx.lb.service import Endpoint, IPAddress, Vip, spell
from phalanx.lb.traffic import Counted, ReadTraffic, Traffic
from phalanx.net.model.view import View

PATH = "/v1/services"
NOTHING = Counted(0, 0)
PROBLEMS_PATH = "/v1/vip-problems"
MOST_HINTS = 3  # labels that are quoted to who asks for a VIP that is not there


def service_routes(
    view: Callable[[], View],
    *,
    node: IPv4Address,
    traffic: ReadTraffic,
    taken: Callable[[], Collection[IPAddress]] = tuple,
) -> Sequence[web.RouteDef]:
    """Return the routes; *view* is asked anew for each request and may raise UnavailableError.

    *taken* says what `desired_services` calls so.
    """

    async def get_services(request: web.Request) -> web.Response:
        query = request.query.get("name", "")
        known = view()
        # A View of many tasks takes a second, in which names must be answered.
        found = await asyncio.to_thread(explain, known, query, node=node, taken=taken())
        if query and not found:
            problems = await asyncio.to_thread(vip_problems, known, taken=taken())
            raise NotFoundError(not_declared(query, problems))
        counted: Traffic | None
        try:
            counted = await traffic(with_open=True)
        except DataplaneError:  # logged by the pass that repairs it
            counted = None
        return web.json_response({"services": [shown(each, known, counted) for each in found]})

    async def get_problems(_request: web.Request) -> web.Response:
        problems = await asyncio.to_thread(vip_problems, view(), taken=taken())
        return web.json_response({"problems": [shown_problem(each) for each in problems]})

    return [web.get(PATH, get_services), web.get(PROBLEMS_PATH, get_problems)]


def not_declared(query: str, problems: Sequence[Problem]) -> str:
    """Return that there is no such VIP, with labels that may have been meant for it."""
    name = query.lower().strip("/").partition(":")[0].partition("/")[0].partition(".")[0]
    found = [f"{each.label}: {each.reason}" for each in about(problems, name)[:MOST_HINTS]]
    return "; ".join((f"no task declares a VIP {query!r}", *found))


def shown(each: Explained, view: View, traffic: Traffic | None) -> dict[str, Any]:
    """Return a VIP as JSON; without *traffic* its counters are null."""
    host = f"{each.name}.{ZONE}" if each.name else each.address and spell(each.address)
    behind = [(one, _counted(each, one, traffic)) for one in sorted(each.behind, key=_place_of)]
    return {
        "vip": f"{host}:{each.port}" if host else None,
        "name": each.name or None,
        "address": None if each.address is None else str(each.address),
        "port": each.port,
        "protocol": str(each.protocol),
        "state": each.state,
        "reason": each.reason or None,
        "scheduler": str(each.scheduler),
        "affinity_seconds": each.affinity_seconds,
        "connections": sum(counted.connections for _, counted in behind if counted is not None),
        "active": sum(counted.active or 0 for _, counted in behind if counted is not None),
        "backends": [_shown_backend(one, view, counted) for one, counted in behind],
    }


def shown_problem(problem: Problem) -> dict[str, Any]:
    """Return a problem as JSON."""
    return {
        "vip": problem.vip or None,
        "label": problem.label or None,
        "reason": problem.reason,
        "tasks": list(problem.tasks),
    }


def _shown_backend(one: Behind, view: View, counted: Counted | None) -> dict[str, Any]:
    task = one.task
    framework = view.frameworks.get(task.framework_id)
    machine = view.nodes.get(str(task.node))
    return {
        "ip": None if one.ip is None else str(one.ip),
        "port": one.port,
        "weight": one.weight,
        "reason": one.reason or None,
        "note": one.note or None,
        "task": task.id,
        "task_name": task.name,
        "framework": task.framework_id if framework is None else framework.name,
        "node": str(task.node),
        "hostname": None if machine is None else machine.hostname,
        "node_state": None if machine is None else str(machine.liveness),
        "phase": str(task.phase),
        "checked": task.is_checked,
        "healthy": task.healthy,
        "connections": None if counted is None else counted.connections,
        "active": None if counted is None else counted.active,
        "bytes_in": None if counted is None else counted.bytes_in,
        "bytes_out": None if counted is None else counted.bytes_out,
    }


def _counted(each: Explained, one: Behind, traffic: Traffic | None) -> Counted | None:
    if traffic is None or each.address is None or one.ip is None or one.port is None:
        return None
    vip = Vip(each.address, each.port, each.protocol)
    return traffic.get((vip, Endpoint(one.ip, one.port)), NOTHING)


def _place_of(one: Behind) -> tuple[int, int, str]:
    return (0 if one.ip is None else int(one.ip), one.port or 0, one.task.key)
