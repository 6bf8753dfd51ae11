"""Legacy endpoints that change the cluster (reference mesos §3.4)."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.master.api.door import leader_of
from phalanx.master.api.operator import teardown
from phalanx.master.roles.quota import quota_status
from phalanx.master.roles.weight import weight_infos
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page
from phalanx.mesos.v1.codec import Message, from_json, to_json
from phalanx.mesos.v1.maintenance import Schedule
from phalanx.mesos.v1.mesos import (
    Create,
    Destroy,
    MachineID,
    Operation,
    Reserve,
    Resource,
    Unreserve,
    WeightInfo,
)
from phalanx.mesos.v1.quota import QuotaRequest

POST = ("POST",)
ROLE_PARTS = 3  # of /master/quota/ROLE, as messages count them

Operate = Callable[[tuple[Resource, ...]], Operation]


def pages() -> list[Page]:
    """Return every page that changes the cluster."""
    return [
        *(
            Page(path, _operate(member, make), methods=POST, realm="readwrite", is_exact=True)
            for path, member, make in OPERATIONS
        ),
        Page("/teardown", post_teardown, methods=POST, realm="readwrite", is_exact=True),
        Page("/weights", weights, methods=("GET", "PUT"), realm="readwrite", is_exact=True),
        Page("/quota", quota, methods=("GET", "POST", "DELETE"), realm="readwrite"),
        Page("/maintenance/schedule", schedule, methods=("GET", "POST"), realm="readwrite"),
        Page("/maintenance/status", status, methods=("GET",), is_exact=True),
        Page("/machine/down", down, methods=POST, realm="readwrite", is_exact=True),
        Page("/machine/up", up, methods=POST, realm="readwrite", is_exact=True),
    ]


def _reserve(resources: tuple[Resource, ...]) -> Operation:
    return Operation(type="RESERVE", reserve=Reserve(resources=resources))


def _unreserve(resources: tuple[Resource, ...]) -> Operation:
    return Operation(type="UNRESERVE", unreserve=Unreserve(resources=resources))


def _create(volumes: tuple[Resource, ...]) -> Operation:
    return Operation(type="CREATE", create=Create(volumes=volumes))


def _destroy(volumes: tuple[Resource, ...]) -> Operation:
    return Operation(type="DESTROY", destroy=Destroy(volumes=volumes))


OPERATIONS: tuple[tuple[str, str, Operate], ...] = (
    ("/reserve", "resources", _reserve),
    ("/unreserve", "resources", _unreserve),
    ("/create-volumes", "volumes", _create),
    ("/destroy-volumes", "volumes", _destroy),
)


def _operate(member: str, make: Operate) -> Callable[[web.Request], Any]:
    words = "Error parsing" if make is _reserve else "Error in parsing"  # as in Mesos

    async def post(request: web.Request) -> web.Response:
        form = await _form(request)
        agent_id, text = _member(form, "slaveId"), _member(form, member)
        resources = []
        try:
            for item in _array(text):
                resources.append(_message(Resource, item))
        except InvalidError as error:
            raise InvalidError(
                f"{words} '{member}' query parameter in the request body: {error}"
            ) from error
        leader_of(request).operations.apply(agent_id, make(tuple(resources)))
        return web.Response(status=202)

    return post


async def post_teardown(request: web.Request) -> web.Response:
    """End a framework."""
    form = await _form(request)
    teardown(leader_of(request), _member(form, "frameworkId"))
    return web.Response()


async def weights(request: web.Request) -> web.Response:
    """Tell or change the weights of roles."""
    leader = leader_of(request)
    if request.method == "GET":
        return json_answer([to_json(info) for info in weight_infos(leader.cluster.weights)])
    text = await _text(request)
    try:
        items = _array(text)
    except InvalidError as error:
        raise InvalidError(
            f"Failed to parse update weights request JSON '{text}': {error}"
        ) from error
    try:
        infos = [_message(WeightInfo, item) for item in items]
    except InvalidError as error:
        raise InvalidError(
            f"Failed to convert weights JSON array to protobuf '{text}': {error}"
        ) from error
    await leader.roles.set_weights(infos)
    return web.Response()


async def quota(request: web.Request) -> web.Response:
    """Tell, give or take the quota of roles."""
    leader = leader_of(request)
    if request.method == "GET":
        return json_answer(to_json(quota_status(leader.cluster.quotas)))
    if request.method == "DELETE":
        return await _remove_quota(request)
    text = await _text(request)
    try:
        value = _object(text)
    except InvalidError as error:
        raise InvalidError(f"Failed to parse set quota request JSON '{text}': {error}") from error
    try:
        wanted = _message(QuotaRequest, value)
    except InvalidError as error:
        raise InvalidError(
            f"Failed to validate set quota request JSON '{text}': {error}"
        ) from error
    await leader.roles.set_quota(wanted)
    return web.Response()


async def _remove_quota(request: web.Request) -> web.Response:
    parts = [part for part in request.path.split("/") if part]
    if parts[:1] != ["master"]:
        parts.insert(0, "master")
    path = "/" + "/".join(parts)
    if len(parts) < ROLE_PARTS:
        shown = path + ("/" if request.path.endswith("/") else "")
        raise InvalidError(
            f"Failed to parse remove quota request for path '{shown}':"
            f" expected {ROLE_PARTS} tokens, found {len(parts)} tokens"
        )
    try:
        await leader_of(request).roles.remove_quota("/".join(parts[2:]))
    except InvalidError as error:
        raise InvalidError(f"Failed to remove quota for path '{path}': {error}") from error
    return web.Response()


async def schedule(request: web.Request) -> web.Response:
    """Tell or replace the maintenance schedule."""
    leader = leader_of(request)
    if request.method == "GET":
        return json_answer(to_json(leader.cluster.schedule))
    await leader.maintenance.update(_message(Schedule, _object(await _text(request))))
    return web.Response()


async def status(request: web.Request) -> web.Response:
    """Tell which machines are draining and which are down."""
    return json_answer(to_json(leader_of(request).maintenance.status))


async def down(request: web.Request) -> web.Response:
    """Take machines down for maintenance."""
    await leader_of(request).maintenance.start(await _machines(request))
    return web.Response()


async def up(request: web.Request) -> web.Response:
    """Bring machines up after maintenance."""
    await leader_of(request).maintenance.stop(await _machines(request))
    return web.Response()


async def _machines(request: web.Request) -> list[MachineID]:
    return [_message(MachineID, item) for item in _array(await _text(request))]


async def _text(request: web.Request) -> str:
    return (await request.read()).decode(errors="replace")


async def _form(request: web.Request) -> dict[str, str]:
    return dict(parse_qsl(await _text(request), keep_blank_values=True))


def _member(form: dict[str, str], name: str) -> str:
    if name not in form:
        raise InvalidError(f"Missing '{name}' query parameter in the request body")
    return form[name]


def _parsed(text: str) -> object:
    try:
        parsed: object = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidError(f"syntax error: {error}") from error
    return parsed


def _array(text: str) -> list[object]:
    parsed = _parsed(text)
    if not isinstance(parsed, list):
        raise InvalidError("Unexpected JSON type parsed")
    return parsed


def _object(text: str) -> dict[str, object]:
    parsed = _parsed(text)
    if not isinstance(parsed, dict):
        raise InvalidError("Unexpected JSON type parsed")
    return parsed


def _message(kind: type[Message], value: object) -> Any:  # noqa: ANN401 - of that kind
    try:
        return from_json(kind, value)
    except InvalidError as error:
        head = f"Failed to convert JSON into {kind.__name__} protobuf: "
        raise InvalidError(str(error).removeprefix(head)) from error
