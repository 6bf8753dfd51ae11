"""``POST /v1/agent``: our own protocol with agents (``phalanx.mesos.agent_protocol``)."""

from ipaddress import AddressValueError, IPv4Address

from aiohttp import web

from phalanx.core.error import InvalidError, UnavailableError
from phalanx.master.agents.agents import HEARTBEAT
from phalanx.master.api.door import SEAT, leader_of, read_call
from phalanx.master.api.streaming import respond
from phalanx.master.leader import Leader
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    STREAM_HEADER,
    AgentCall,
    AgentSubscribe,
)


async def post_agent(request: web.Request) -> web.StreamResponse:
    """Answer one agent call."""
    leader = leader_of(request)
    call = await read_call(request, AgentCall)
    if call.type == "SUBSCRIBE" and call.subscribe is not None:
        return await _subscribe(request, leader, call.subscribe)
    try:
        agent = leader.agents.hear(request.headers.get(STREAM_HEADER, ""))
    except UnavailableError as error:
        return web.json_response({"error": str(error)}, status=403)
    if call.type == "UPDATE" and call.update is not None:
        leader.updates.take(agent, call.update)
    elif call.type != "HEARTBEAT":
        raise InvalidError(f"type: {call.type!r} is no call of an agent, or lacks its message")
    return web.Response(status=202)


async def _subscribe(
    request: web.Request, leader: Leader, subscribe: AgentSubscribe
) -> web.StreamResponse:
    address = agent_address(subscribe, request.remote)
    check_tasks(subscribe)
    agent, stream = await leader.agents.subscribe(subscribe, address)
    seat = request.app[SEAT]

    def ended() -> None:
        if agent is not None and seat.leader is leader:
            leader.agents.disconnected(agent, stream)

    return await respond(
        request,
        stream,
        headers={STREAM_HEADER: stream.id},
        heartbeat=HEARTBEAT,
        every_seconds=HEARTBEAT_SECONDS,
        on_end=ended,
    )


def agent_address(subscribe: AgentSubscribe, remote: str | None) -> IPv4Address:
    """Return the underlay address of an agent: what it says, else where it comes from."""
    given = subscribe.address if subscribe.address is not None else remote or ""
    try:
        return IPv4Address(given.removeprefix("::ffff:"))
    except AddressValueError as error:
        raise InvalidError(f"address: {given!r} is not an IPv4 address") from error


def check_tasks(subscribe: AgentSubscribe) -> None:
    """Raise InvalidError for a task that is not of the agent which lists it."""
    own = subscribe.agent_info.id
    for task in subscribe.tasks:
        if task.agent_id != own:
            raise InvalidError(
                f"tasks: {task.task_id.value!r} is of agent {task.agent_id.value!r},"
                f" not of {own.value if own is not None else None!r}"
            )
