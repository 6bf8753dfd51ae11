"""The master's one HTTP application."""

from aiohttp import web

from phalanx.master.api import change, legacy, network, policy, system
from phalanx.master.api.agent import post_agent, post_agent_calls
from phalanx.master.api.door import SEAT, leader_only
from phalanx.master.api.operator import post_operator
from phalanx.master.api.scheduler import post_scheduler
from phalanx.master.seat import Seat
from phalanx.mesos.agent_protocol import CALLS_PATH
from phalanx.mesos.agent_protocol import PATH as AGENT_PATH
from phalanx.mesos.api import file as file_api
from phalanx.mesos.api import system as system_api
from phalanx.mesos.api.answer import dressed, errors_in_words
from phalanx.mesos.api.authentication import DOORS, known_only
from phalanx.mesos.api.route import Page, Pages, attach
from phalanx.mesos.api.streaming import MAY_SEND
from phalanx.mesos.credential import Doors
from phalanx.net.api.feed import feed_route
from phalanx.net.feed.source import FeedSource

MAX_BODY_BYTES = 64 * 1024 * 1024


def build_app(seat: Seat) -> web.Application:
    """Build the application of a master whose leadership *seat* tells of."""
    app = web.Application(
        middlewares=[dressed, errors_in_words, known_only, leader_only],
        client_max_size=MAX_BODY_BYTES,
    )
    app[SEAT] = seat
    app[file_api.FILES], app[system_api.VERBOSITY] = seat.files, seat.verbosity
    app[DOORS] = Doors.read(
        seat.config.realms,
        seat.config.http_credentials or seat.config.credentials,
        seat.config.closed,
    )
    app[MAY_SEND] = lambda: seat.is_certain()

    def source() -> FeedSource:
        if seat.leader is None:
            raise web.HTTPServiceUnavailable(text="No leader elected")
        return seat.leader.publisher.source

    api = [
        Page("/api/v1", post_operator, realm="readwrite"),
        Page("/api/v1/scheduler", post_scheduler, realm="scheduler"),
    ]
    shared = [*file_api.pages(is_open=True), *system_api.pages(is_open=True)]
    ours = [*legacy.pages(), *change.pages(), *system.pages()]
    attach(app, Pages("master", [*api, *ours, *shared]))
    app.router.add_post(AGENT_PATH, post_agent)
    app.router.add_post(CALLS_PATH, post_agent_calls)
    app.add_routes(network.routes())
    app.add_routes(policy.routes())
    app.add_routes([feed_route(source, may_send=app[MAY_SEND])])
    return app
