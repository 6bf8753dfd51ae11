"""``POST /api/v1/scheduler``: subscriptions and calls of frameworks (reference mesos §1.1)."""

import msgspec
from aiohttp import web

from phalanx.master.api.door import SEAT, leader_of
from phalanx.master.cluster.framework import Framework
from phalanx.master.leader import Leader
from phalanx.master.scheduler.call import check_call
from phalanx.master.scheduler.frameworks import HEARTBEAT, HEARTBEAT_SECONDS
from phalanx.master.scheduler.principal import check_principal, with_principal
from phalanx.mesos.api.authentication import principal_of
from phalanx.mesos.api.call import accepted, read_call
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.v1.media import Media
from phalanx.mesos.v1.scheduler import Call, Subscribe

STREAM_HEADER = "Mesos-Stream-Id"


async def post_scheduler(request: web.Request) -> web.StreamResponse:
    """Answer one scheduler call."""
    leader = leader_of(request)
    call = await read_call(request, Call)
    check_call(call)
    if call.type == "SUBSCRIBE" and call.subscribe is not None:
        info = with_principal(call.subscribe.framework_info, principal_of(request))
        subscribe = msgspec.structs.replace(call.subscribe, framework_info=info)
        return await _subscribe(request, leader, subscribe, accepted(request))
    framework = _framework_of(request, leader, call)
    if call.type == "UNKNOWN":
        raise web.HTTPNotImplemented(text="Received 'UNKNOWN' call")
    if call.type == "RECONCILE_OPERATIONS":
        accepted(request)  # raises for what Mesos does not answer in
    leader.counts.called(framework.id, call.type or "")
    leader.calls.carry_out(framework, call)
    return web.Response(status=200 if call.type == "UPDATE_FRAMEWORK" else 202)


async def _subscribe(
    request: web.Request, leader: Leader, subscribe: Subscribe, media: Media
) -> web.StreamResponse:
    if STREAM_HEADER in request.headers:
        raise web.HTTPBadRequest(
            text=f"Subscribe calls should not include the '{STREAM_HEADER}' header"
        )
    framework, stream = leader.frameworks.subscribe(subscribe, media)
    if framework is not None:
        is_new = subscribe.framework_info.id is None
        leader.counts.subscribed(framework.id, is_new=is_new)
    seat = request.app[SEAT]

    def ended() -> None:
        if framework is not None and seat.leader is leader:
            leader.frameworks.disconnected(framework, stream)

    return await respond(
        request,
        stream,
        headers={STREAM_HEADER: stream.id},
        heartbeat=HEARTBEAT,
        every_seconds=HEARTBEAT_SECONDS,
        on_end=ended,
    )


def _framework_of(request: web.Request, leader: Leader, call: Call) -> Framework:
    """Return the framework that calls; raise what the lookup chain answers instead."""
    id = call.framework_id.value if call.framework_id is not None else ""
    framework = leader.cluster.frameworks.get(id)
    if framework is None:
        raise web.HTTPBadRequest(text="Framework cannot be found")
    check_principal(framework.info, principal_of(request))
    if framework.stream is None:
        raise web.HTTPForbidden(text="Framework is not subscribed")
    given = request.headers.get(STREAM_HEADER)
    if given is None:
        raise web.HTTPBadRequest(
            text=f"All non-subscribe calls should include the '{STREAM_HEADER}' header"
        )
    if given != framework.stream.id:
        raise web.HTTPBadRequest(
            text=f"The stream ID '{given}' included in this request didn't match the stream ID"
            f" currently associated with framework ID {id}"
        )
    return framework
