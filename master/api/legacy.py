"""Legacy endpoints that read the cluster (reference mesos §3.4)."""

from aiohttp import web

from phalanx.master.api.door import SEAT, leader_of
from phalanx.master.api.slices import answer_pieces
from phalanx.master.operator.legacy.framework import frameworks_json
from phalanx.master.operator.legacy.page import (
    roles_json,
    state_json,
    state_summary_json,
    tasks_json,
)
from phalanx.master.operator.legacy.slave import slaves_json
from phalanx.master.operator.overlay import overlay_state
from phalanx.master.operator.role import roles_of_cluster
from phalanx.mesos.api.answer import json_answer
from phalanx.mesos.api.route import Page


def pages() -> list[Page]:
    """Return every page that reads the cluster."""
    return [
        Page("/state", get_state),
        Page("/state-summary", get_state_summary),
        Page("/slaves", get_slaves),
        Page("/frameworks", get_frameworks),
        Page("/tasks", get_tasks),
        Page("/roles", get_roles),
        Page("/overlay-master/state", get_overlay_state),
    ]


async def get_state(request: web.Request) -> web.StreamResponse:
    """Answer everything."""
    seat, leader = request.app[SEAT], leader_of(request)
    pieces = state_json(
        await leader.reads.snapshot(leader.cluster),
        leader.info,
        leader.reads.tasks.read(),
        leader.reads.slaves.read(),
        start_time=seat.started,
        elected_time=leader.elected,
        flags=seat.config.flags(),
    )
    return await answer_pieces(request, pieces, leader.reads)


async def get_state_summary(request: web.Request) -> web.StreamResponse:
    """Answer counts."""
    leader = leader_of(request)
    name = leader.config.cluster or None
    taken = await leader.reads.snapshot(leader.cluster)
    pieces = state_summary_json(taken, leader.info.hostname or "", name)
    return await answer_pieces(request, pieces, leader.reads)


async def get_slaves(request: web.Request) -> web.StreamResponse:
    """Answer the agents, or the one that is asked for."""
    leader = leader_of(request)
    pieces = slaves_json(await leader.reads.snapshot(leader.cluster), request.query.get("slave_id"))
    return await answer_pieces(request, pieces, leader.reads)


async def get_frameworks(request: web.Request) -> web.StreamResponse:
    """Answer the frameworks, or the one that is asked for."""
    leader = leader_of(request)
    pieces = frameworks_json(
        await leader.reads.snapshot(leader.cluster),
        leader.reads.tasks.read(),
        request.query.get("framework_id"),
    )
    return await answer_pieces(request, pieces, leader.reads)


async def get_tasks(request: web.Request) -> web.StreamResponse:
    """Answer one page of the tasks."""
    leader = leader_of(request)
    pieces = tasks_json(await leader.reads.snapshot(leader.cluster), request.query)
    return await answer_pieces(request, pieces, leader.reads)


async def get_roles(request: web.Request) -> web.Response:
    """Answer every role that is known."""
    return json_answer(roles_json(roles_of_cluster(leader_of(request).cluster)))


async def get_overlay_state(request: web.Request) -> web.Response:
    """Answer the virtual networks in DC/OS' form (reference dcos-net §3.6)."""
    leader = leader_of(request)
    registry = leader.networks
    agents = (agent.address for agent in leader.cluster.agents.values())
    return json_answer(overlay_state(registry.networks, registry.subnets.values(), agents))
