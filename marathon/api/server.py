"""Who we are and how we do: ``/ping``, ``/v2/info``, ``/v2/leader``, ``/logging`` and others."""

from collections.abc import Mapping
from typing import cast

from aiohttp import web

from phalanx.core.error import InvalidError
from phalanx.core.verbosity import Verbosity
from phalanx.marathon.api.answer import BadRequestError, as_json, body_of
from phalanx.marathon.api.desk import desk_of
from phalanx.marathon.definition.parse import as_object
from phalanx.marathon.definition.problem import DefinitionError, Problem

VERBOSITY: web.AppKey[Verbosity] = web.AppKey("verbosity", Verbosity)
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF", "ALL", "INHERIT")
FOR_GOOD_SECONDS = 10**8


async def ping(request: web.Request) -> web.Response:
    """Answer ``pong``, as text unless JSON alone is asked for."""
    accept = request.headers.get("Accept", "")
    if "application/json" in accept and "*/*" not in accept and "text/" not in accept:
        return as_json("pong")
    return web.Response(text="pong")


async def get_info(request: web.Request) -> web.Response:
    """Answer name, version, framework id and settings."""
    desk = desk_of(request)
    config = dict(cast("Mapping[str, object]", desk.info["marathon_config"]))
    return as_json(
        {
            **desk.info,
            "marathon_config": {**config, "mesos_leader_ui_url": desk.master()},
            "name": desk.framework_name,
            "elected": True,
            "leader": desk.leader,
            "frameworkId": desk.board.ledger.framework_id,
        }
    )


async def get_leader(request: web.Request) -> web.Response:
    """Answer who leads."""
    return as_json({"leader": desk_of(request).leader})


async def delete_leader(request: web.Request) -> web.Response:
    """Let another lead: this process ends soon, and whoever supervises it starts it anew.

    With ``backup`` the state is written to a file before, with ``restore`` whoever leads next
    begins with that of a file.
    """
    desk, query = desk_of(request), request.query
    try:
        async with desk.board.lock:
            if "restore" in query:
                await desk.archives.ask(query["restore"])
            if "backup" in query:
                await desk.archives.keep(query["backup"])
    except InvalidError as error:
        raise BadRequestError(str(error)) from error
    desk.abdicate()
    return as_json({"message": "Leadership abdicated"})


async def list_plugins(request: web.Request) -> web.Response:
    """Answer that there are no plugins."""
    return as_json({"plugins": []})


async def get_config(request: web.Request) -> web.Response:
    """Answer the settings, as name and value."""
    return as_json(desk_of(request).info["marathon_config"])


async def get_logging(request: web.Request) -> web.Response:
    """Answer how much is logged: one logger serves the whole process."""
    return as_json({"ROOT": "DEBUG" if request.app[VERBOSITY].level else "INHERIT"})


async def set_logging(request: web.Request) -> web.Response:
    """Log debug lines too, for some seconds or for good, or as at the start again."""
    body = as_object(await body_of(request))
    level, seconds = body.get("level"), body.get("durationSeconds", FOR_GOOD_SECONDS)
    if not isinstance(level, str) or level.upper() not in LOG_LEVELS:
        words = f"must be one of {', '.join(LOG_LEVELS)}"
        raise DefinitionError([Problem("/level", words)])
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 < seconds < 1e9:
        raise DefinitionError([Problem("/durationSeconds", "must be greater than 0")])
    more = level.upper() in ("TRACE", "DEBUG", "ALL")
    request.app[VERBOSITY].set(1 if more else 0, seconds)
    return as_json({"logger": body.get("logger", "ROOT"), "level": level.upper()})
