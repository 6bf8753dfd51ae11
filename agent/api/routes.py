"""Routes of the agent's HTTP API (reference mesos §3.3, §3.4)."""

from collections.abc import Callable, Mapping
from inspect import isawaitable
from typing import Any

from aiohttp import web

from phalanx.agent.api.container import DESK, HEARTBEAT_SECONDS, Desk, attach_input, call_container
from phalanx.agent.api.executor import EXECUTORS, post_executor
from phalanx.agent.api.metrics import all_metrics
from phalanx.agent.api.reads import NO_PROVIDERS, Reads
from phalanx.agent.api.view import View
from phalanx.core.error import InvalidError
from phalanx.core.verbosity import Verbosity
from phalanx.mesos.api.answer import answer_with, dressed, errors_in_words, json_answer
from phalanx.mesos.api.authentication import DOORS, known_only
from phalanx.mesos.api.call import agree, read_body
from phalanx.mesos.api.file import FILES
from phalanx.mesos.api.file import pages as file_pages
from phalanx.mesos.api.route import Page, Pages, attach
from phalanx.mesos.api.system import VERBOSITY
from phalanx.mesos.api.system import pages as system_pages
from phalanx.mesos.build import build_info
from phalanx.mesos.credential import Doors
from phalanx.mesos.duration import parse_duration
from phalanx.mesos.file import VirtualFiles
from phalanx.mesos.v1.agent import Call, Response
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.media import RECORDIO, decode_as

MAX_BODY_BYTES = 64 * 1024 * 1024
VIEW: web.AppKey[View] = web.AppKey("view", View)
READS: web.AppKey[Reads] = web.AppKey("reads", Reads)


async def _drawn(draw: Callable[[], Any]) -> Any:  # noqa: ANN401 - any JSON
    """Return what *draw* draws, now or in a while."""
    found = draw()
    return await found if isawaitable(found) else found


async def post_v1(request: web.Request) -> web.StreamResponse:
    """Answer one call of the v1 operator API."""
    terms = agree(request)
    if terms.is_streaming_request:
        return await attach_input(request, terms)
    call = decode_as(terms.content, Call, await read_body(request))
    kind = call.type
    if kind == "UNKNOWN":
        raise web.HTTPNotImplemented
    if kind == "ATTACH_CONTAINER_INPUT":
        if call.attach_container_input is None:
            raise InvalidError(
                "Failed to validate agent::Call: Expecting 'attach_container_input' to be present"
            )
        text = f"Expecting 'Content-Type' to be {RECORDIO} for {kind} call"
        raise web.HTTPUnsupportedMediaType(text=text)
    called = await call_container(request, call, terms)
    if called is not None:
        return called
    reads = request.app[READS]
    is_known, body = await reads.answer(call)
    if is_known:
        if terms.is_streaming_answer:
            text = f"Streaming response is not supported for {kind} call"
            raise web.HTTPNotAcceptable(text=text)
        if body is None:
            return web.Response()
        return answer_with(Response, {"type": kind, str(kind).lower(): body}, terms.accept)
    if kind in NO_PROVIDERS:
        return web.Response(status=501, text=f"{kind}: this agent has no resource providers")
    text = "Failed to validate agent::Call: Expecting 'type' to be present"
    return web.Response(status=400, text=text)


async def get_health(request: web.Request) -> web.Response:
    """Say that we live."""
    return web.Response()


async def get_containers(request: web.Request) -> web.Response:
    """Show the containers that the query asks for."""
    known = ("container_id", "framework_id", "executor_id")
    wanted = {key: request.query[key] for key in known if key in request.query}
    if "executor_id" in wanted and "framework_id" not in wanted:
        raise InvalidError("Missing 'framework_id'")
    return json_answer(await request.app[VIEW].containers(wanted))


async def get_debug(_request: web.Request) -> web.Response:
    """Tell of operations of the containerizers that hang; ours are all bounded in time."""
    return json_answer({"pending": []})


async def get_metrics(request: web.Request) -> web.Response:
    """Show every metric."""
    timeout = request.query.get("timeout")
    if timeout is not None:
        try:
            parse_duration(timeout)
        except InvalidError as error:
            raise InvalidError(f"Invalid timeout '{timeout}': {error}.\n") from error
    return json_answer(all_metrics(request.app[VIEW]))


def build_app(
    view: View,
    doors: Doors | None = None,
    verbosity: Verbosity | None = None,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> web.Application:
    """Build the application; *view* is asked anew for each request.

    *doors* tells who may come in; without them everybody may.
    """
    app = web.Application(
        middlewares=[dressed, errors_in_words, known_only], client_max_size=MAX_BODY_BYTES
    )
    if doors is not None:
        app[DOORS] = doors
    app[VIEW] = view
    app[VERBOSITY] = verbosity or Verbosity()
    app[FILES] = VirtualFiles(view.places)
    app[READS] = Reads(view, app[FILES], app[VERBOSITY])
    app[EXECUTORS] = view.roster.executors
    app[DESK] = Desk(view.roster.executors, view.station.layout, heartbeat_seconds)
    drawn: Mapping[str, Callable[[], Any]] = {
        "/state": view.state,
        "/flags": lambda: {"flags": dict(view.flags)},
        "/monitor/statistics": view.monitor,
    }
    pages = [
        Page("/api/v1", post_v1, realm="readwrite"),
        Page("/api/v1/executor", post_executor, realm="executor"),
        Page("/health", get_health, realm=None),
        Page("/version", _page(lambda: to_json(build_info())), realm=None),
        Page("/containers", get_containers),
        Page("/containerizer/debug", get_debug),
        Page("/metrics/snapshot", get_metrics),
        *file_pages(),
        *system_pages(),
        *(Page(path, _page(draw)) for path, draw in drawn.items()),
    ]
    attach(app, Pages("slave(1)", pages))
    return app


def _page(draw: Callable[[], Any]) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        return json_answer(await _drawn(draw))

    return answer
