"""``POST /api/v1``: the v1 operator API (reference mesos §3.1, §3.2)."""

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.master.api.door import SEAT, leader_of
from phalanx.master.leader import Leader
from phalanx.master.operator import v1
from phalanx.master.operator.events import HEARTBEAT, HEARTBEAT_SECONDS
from phalanx.master.operator.metrics import metrics
from phalanx.master.seat import Seat
from phalanx.mesos.api.answer import answer_with
from phalanx.mesos.api.call import accepted, read_call
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.v1.master import Call, Response
from phalanx.mesos.v1.media import Media

Answer = Callable[[Seat, Leader], Mapping[str, Any]]


def all_metrics(seat: Seat, leader: Leader) -> Mapping[str, float]:
    """Return every metric of the leading master."""
    return metrics(
        leader.cluster, leader.updates.counts, uptime=seat.uptime, runs=leader.allocator.runs
    )


def _pairs(items: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in items.items()]


def _master(seat: Seat, leader: Leader) -> Mapping[str, Any]:
    return {
        "master_info": leader.info,
        "start_time": seat.started,
        "elected_time": leader.elected,
    }


ANSWERS: Mapping[str, Answer] = {
    "GET_HEALTH": lambda _seat, _leader: {"healthy": True},
    "GET_FLAGS": lambda seat, _leader: {"flags": _pairs(seat.config.flags())},
    "GET_VERSION": lambda _seat, _leader: {"version_info": v1.version_info()},
    "GET_METRICS": lambda seat, leader: {"metrics": _pairs(all_metrics(seat, leader))},
    "GET_STATE": lambda _seat, leader: v1.state_json(leader.cluster),
    "GET_AGENTS": lambda _seat, leader: v1.agents_json(leader.cluster),
    "GET_FRAMEWORKS": lambda _seat, leader: v1.frameworks_json(leader.cluster),
    "GET_EXECUTORS": lambda _seat, _leader: v1.executors_json(),
    "GET_TASKS": lambda _seat, leader: v1.tasks_json(leader.cluster),
    "GET_ROLES": lambda _seat, leader: v1.roles_json(leader.cluster),
    "GET_MASTER": _master,
}


async def post_operator(request: web.Request) -> web.StreamResponse:
    """Answer one operator call."""
    leader = leader_of(request)
    call = await read_call(request, Call)
    if call.type is None:
        raise _invalid("type")
    media = accepted(request)
    if call.type == "SUBSCRIBE":
        return await _subscribe(request, leader, media)
    if call.type == "TEARDOWN":
        return _teardown(leader, call)
    if call.type == "MARK_AGENT_GONE":
        return await _mark_agent_gone(leader, call)
    answer = ANSWERS.get(call.type)
    if answer is None:
        raise web.HTTPNotImplemented(text=f"'{call.type}' is not supported in this build")
    body = answer(request.app[SEAT], leader)
    return answer_with(Response, {"type": call.type, call.type.lower(): body}, media)


async def _subscribe(request: web.Request, leader: Leader, media: Media) -> web.StreamResponse:
    stream = leader.watchers.subscribe(media)
    return await respond(
        request,
        stream,
        heartbeat=HEARTBEAT,
        every_seconds=HEARTBEAT_SECONDS,
        on_end=lambda: leader.watchers.leave(stream),
    )


def _teardown(leader: Leader, call: Call) -> web.Response:
    if call.teardown is None:
        raise _invalid("teardown")
    framework = leader.cluster.frameworks.get(call.teardown.framework_id.value)
    if framework is None:
        raise InvalidError("No framework found with specified ID")
    leader.frameworks.remove(framework, "teardown by an operator")
    return web.Response()


async def _mark_agent_gone(leader: Leader, call: Call) -> web.Response:
    if call.mark_agent_gone is None:
        raise _invalid("mark_agent_gone")
    id = call.mark_agent_gone.agent_id.value
    if id not in leader.registry.records:
        raise NotFoundError("Agent not found")
    address = leader.registry.records[id].node
    await leader.agents.mark_gone(id)
    if not any(agent.address == address for agent in leader.cluster.agents.values()):
        await leader.networks.free_node(address)
    return web.Response()


def _invalid(field: str) -> InvalidError:
    return InvalidError(f"Failed to validate master::Call: Expecting '{field}' to be present")
