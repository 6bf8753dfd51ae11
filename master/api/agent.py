"""``POST /v1/agent``: our own protocol with agents (``phalanx.mesos.agent_protocol``)."""

from ipaddress import AddressValueError, IPv4Address

from aiohttp import web

from phalanx.core.error import InvalidError, ProtocolError, UnavailableError
from phalanx.master.api.door import SEAT, leader_of
from phalanx.master.leader import Leader
from phalanx.mesos.agent_protocol import (
    HEARTBEAT_SECONDS,
    STREAM_HEADER,
    AgentCall,
    AgentEvent,
    AgentSubscribe,
)
from phalanx.mesos.api.call import read_call
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.recordio import RecordDecoder
from phalanx.mesos.v1.codec import decode, encode

HEARTBEAT = encode(AgentEvent(type="HEARTBEAT"))


async def post_agent(request: web.Request) -> web.StreamResponse:
    """Answer one agent call."""
    leader = leader_of(request)
    call = await read_call(request, AgentCall, only_json=True)
    if call.type == "SUBSCRIBE" and call.subscribe is not None:
        return await _subscribe(request, leader, call.subscribe)
    stream_id = request.headers.get(STREAM_HEADER, "")
    try:
        if call.type == "UNREGISTER":
            await leader.registration.unregister(leader.observer.hear(stream_id))
        else:
            _take(leader, stream_id, call)
    except UnavailableError as error:
        return web.json_response({"error": str(error)}, status=403)
    return web.Response(status=202)


async def post_agent_calls(request: web.Request) -> web.StreamResponse:
    """Take calls as they come in one long request: records of RecordIO, each a JSON call.

    Answered when the agent ends it, or at once when its stream is not held
    (403) or a call makes no sense (400).
    """
    leader = leader_of(request)
    seat = request.app[SEAT]
    stream_id = request.headers.get(STREAM_HEADER, "")
    decoder = RecordDecoder()
    try:
        async for chunk in request.content.iter_any():
            if seat.leader is not leader:
                raise web.HTTPServiceUnavailable(text="No longer leading")
            for record in decoder.feed(chunk):
                _take(leader, stream_id, decode(AgentCall, record))
    except UnavailableError as error:
        return web.json_response({"error": str(error)}, status=403)
    except ProtocolError as error:
        raise InvalidError(str(error)) from error
    return web.Response(status=202)


def _take(leader: Leader, stream_id: str, call: AgentCall) -> None:
    """Take one call; raise UnavailableError when its stream is none of ours, or InvalidError."""
    agent = leader.observer.hear(stream_id)
    if call.type == "UPDATE" and call.update is not None:
        leader.updates.take(agent, call.update)
    elif call.type == "OPERATION_UPDATE" and call.operation_update is not None:
        leader.conversions.take(agent, call.operation_update)
    elif call.type == "EXECUTOR_EXITED" and call.executor_exited is not None:
        leader.updates.take_exit(agent, call.executor_exited)
    elif call.type == "MESSAGE" and call.message is not None:
        leader.updates.take_message(agent, call.message)
    elif call.type != "HEARTBEAT":
        raise InvalidError(f"type: {call.type!r} is no call of an agent, or lacks its message")


async def _subscribe(
    request: web.Request, leader: Leader, subscribe: AgentSubscribe
) -> web.StreamResponse:
    address = agent_address(subscribe, request.remote)
    check_tasks(subscribe)
    agent, stream = await leader.registration.subscribe(subscribe, address)
    seat = request.app[SEAT]

    def ended() -> None:
        if agent is not None and seat.leader is leader:
            leader.observer.disconnected(agent, stream)

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
