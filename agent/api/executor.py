"""``POST /api/v1/executor``: what executors tell us, and what we stream to them (§2.1)."""

import asyncio

from aiohttp import web

from phalanx.agent.executor.call import check_call
from phalanx.agent.executor.custom import CustomExecutor
from phalanx.agent.executor.executors import Executors
from phalanx.core.error import InvalidError
from phalanx.mesos.api.call import accepted, read_call
from phalanx.mesos.api.streaming import respond
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.executor import Call, Event, Subscribe
from phalanx.mesos.v1.media import Media

EXECUTORS: web.AppKey[Executors] = web.AppKey("executors", Executors)


async def post_executor(request: web.Request) -> web.StreamResponse:
    """Take one call of an executor."""
    call = await read_call(request, Call)
    check_call(call)
    media = accepted(request) if call.type == "SUBSCRIBE" else Media.JSON
    executors = request.app[EXECUTORS]
    executor = _executor(executors, call)
    if call.type == "SUBSCRIBE":
        stream = Stream("", media=media)
        try:
            await executors.carry_out(executor.subscribe(stream, call.subscribe or Subscribe()))
        except asyncio.CancelledError:
            stream.close()
            executor.lose(stream)
            raise
        return await respond(
            request,
            stream,
            heartbeat=Event(type="HEARTBEAT"),
            every_seconds=executors.timing.heartbeat,
            on_end=lambda: executor.lose(stream),
        )
    if not executor.is_subscribed:
        raise web.HTTPForbidden(text="Executor is not subscribed")
    if call.update is not None and call.type == "UPDATE":
        await executors.carry_out(executor.update(call.update))
    elif call.message is not None and call.type == "MESSAGE":
        framework_id, executor_id = call.framework_id.value, call.executor_id.value
        await executors.hear(framework_id, executor_id, call.message.data)
    return web.Response(status=202)


def _executor(executors: Executors, call: Call) -> CustomExecutor:
    """Return whose call it is; raise InvalidError when it is nobody's."""
    framework_id = call.framework_id.value
    if not executors.has_framework(framework_id):
        raise InvalidError("Framework cannot be found")
    executor = executors.find(framework_id, call.executor_id.value)
    if not isinstance(executor, CustomExecutor):
        raise InvalidError("Executor cannot be found")
    return executor
