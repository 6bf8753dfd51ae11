"""Routes of the agent's HTTP API (reference mesos §3.3, §3.4)."""

from collections.abc import Callable, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import Any

from aiohttp import web

from phalanx.agent.api.container import DESK, Desk, attach_input, call_container
from phalanx.agent.api.executor import EXECUTORS, post_executor
from phalanx.agent.api.files import ROOT, browse, download, read
from phalanx.agent.api.view import View, build_version
from phalanx.mesos.api.answer import answer_with, dressed, errors_in_words
from phalanx.mesos.api.authentication import DOORS, known_only
from phalanx.mesos.api.call import agree, read_body
from phalanx.mesos.api.route import Page, Pages, attach
from phalanx.mesos.credential import Doors
from phalanx.mesos.v1.agent import Call, Response
from phalanx.mesos.v1.codec import to_json
from phalanx.mesos.v1.media import decode_as

MAX_BODY_BYTES = 64 * 1024 * 1024
VIEW: web.AppKey[View] = web.AppKey("view", View)

# Calls that Mesos knows and this agent does not carry out.
UNSUPPORTED = frozenset(
    {
        *("GET_METRICS", "GET_LOGGING_LEVEL", "SET_LOGGING_LEVEL", "LIST_FILES", "READ_FILE"),
        *("GET_STATE", "GET_FRAMEWORKS", "GET_EXECUTORS", "GET_OPERATIONS", "PRUNE_IMAGES"),
        *("GET_RESOURCE_PROVIDERS", "ADD_RESOURCE_PROVIDER_CONFIG"),
        *("UPDATE_RESOURCE_PROVIDER_CONFIG", "REMOVE_RESOURCE_PROVIDER_CONFIG"),
        "MARK_RESOURCE_PROVIDER_GONE",
    }
)


def _answers(view: View) -> Mapping[str, Callable[[], Any]]:
    return {
        "GET_HEALTH": lambda: {"healthy": True},
        "GET_VERSION": lambda: {"version_info": build_version()},
        "GET_FLAGS": lambda: {
            "flags": [{"name": name, "value": value} for name, value in view.flags.items()]
        },
        "GET_AGENT": lambda: {"agent_info": to_json(view.agent_info())},
        "GET_TASKS": view.tasks,
    }


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
    called = await call_container(request, call, terms)
    if called is not None:
        return called
    answer = _answers(request.app[VIEW]).get(str(kind))
    if answer is not None:
        if terms.is_streaming_answer:
            text = f"Streaming response is not supported for {kind} call"
            raise web.HTTPNotAcceptable(text=text)
        body = {"type": kind, str(kind).lower(): await _drawn(answer)}
        return answer_with(Response, body, terms.accept)
    if kind in UNSUPPORTED:
        return web.Response(status=501, text=f"{kind} is not supported by this agent")
    text = "Failed to validate agent::Call: Expecting 'type' to be present"
    return web.Response(status=400, text=text)


async def get_health(request: web.Request) -> web.Response:
    """Say that we live."""
    return web.Response()


def build_app(view: View, files_root: Path, doors: Doors | None = None) -> web.Application:
    """Build the application; *view* is asked anew for each request.

    *doors* tells who may come in; without them everybody may.
    """
    app = web.Application(
        middlewares=[dressed, errors_in_words, known_only], client_max_size=MAX_BODY_BYTES
    )
    if doors is not None:
        app[DOORS] = doors
    app[VIEW] = view
    app[ROOT] = files_root
    app[EXECUTORS] = view.roster.executors
    app[DESK] = Desk(view.roster.executors, view.station.layout)
    drawn: Mapping[str, Callable[[], Any]] = {
        "/state": view.state,
        "/version": build_version,
        "/flags": lambda: {"flags": dict(view.flags)},
        "/containers": view.containers,
        "/monitor/statistics": view.monitor,
        "/metrics/snapshot": view.metrics,
    }
    pages = [
        Page("/api/v1", post_v1, realm="readwrite"),
        Page("/api/v1/executor", post_executor, realm="executor"),
        Page("/health", get_health, realm=None),
        Page("/files/browse", browse),
        Page("/files/read", read),
        Page("/files/download", download),
        *(Page(path, _page(draw)) for path, draw in drawn.items()),
    ]
    attach(app, Pages("slave(1)", pages))
    return app


def _page(draw: Callable[[], Any]) -> Callable[[web.Request], Any]:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response(await _drawn(draw))

    return answer
