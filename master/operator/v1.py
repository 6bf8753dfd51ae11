"""Answers of the v1 operator API, from the cluster to JSON (reference mesos §3.1)."""

from collections.abc import Mapping
from typing import Any

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.framework import Framework
from phalanx.master.cluster.offer import operator_offer
from phalanx.master.cluster.task import time_info
from phalanx.master.identity import AGENT_CAPABILITIES, VERSION, agent_pid
from phalanx.master.operator.tally import (
    agent_used_by_role,
    messages,
    offered_by_role,
    used_by_role,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import Task
from phalanx.net.model.objects import Liveness

Json = dict[str, Any]  # JSON on its way out; messages inside are encoded with it


def version_info() -> Json:
    """Return what GET_VERSION tells."""
    return {"version": VERSION}


def agent_json(agent: Agent, cluster: Cluster) -> Json:
    """Return one agent of GET_AGENTS."""
    offered = offered_by_role(cluster.offers_of(agent))
    return _present(
        {
            "agent_info": agent.info,
            "active": agent.is_offerable,
            "deactivated": False,
            "version": agent.version,
            "pid": agent_pid(agent.address, agent.info.port),
            "registered_time": time_info(agent.registered),
            "reregistered_time": None
            if agent.reregistered is None
            else time_info(agent.reregistered),
            "total_resources": list(agent.total.messages()),
            "allocated_resources": messages(agent_used_by_role(agent, cluster)),
            "offered_resources": messages(offered),
            "capabilities": [{"type": name} for name in AGENT_CAPABILITIES],
        }
    )


def framework_json(framework: Framework, cluster: Cluster) -> Json:
    """Return one framework of GET_FRAMEWORKS."""
    offers = [cluster.offers[id] for id in sorted(framework.offers)]
    return _present(
        {
            "framework_info": framework.info,
            "active": framework.is_connected,
            "connected": framework.is_connected,
            "recovered": framework.is_recovered,
            "registered_time": time_info(framework.registered),
            "reregistered_time": time_info(framework.reregistered or framework.registered),
            "unregistered_time": None
            if framework.unregistered is None
            else time_info(framework.unregistered),
            "offers": [
                operator_offer(offer, framework, cluster.agents[offer.agent_id]) for offer in offers
            ],
            "allocated_resources": messages(used_by_role(framework)),
            "offered_resources": messages(offered_by_role(offers)),
            "offer_constraints": {},
        }
    )


def agents_json(cluster: Cluster) -> Json:
    """Return GET_AGENTS; unreachable agents are not among them."""
    return {
        "agents": [agent_json(agent, cluster) for agent in reachable(cluster)],
        "recovered_agents": [agent.info for agent in cluster.recovered.values()],
    }


def frameworks_json(cluster: Cluster) -> Json:
    """Return GET_FRAMEWORKS."""
    return {
        "frameworks": [framework_json(item, cluster) for item in cluster.frameworks.values()],
        "completed_frameworks": [
            framework_json(item, cluster) for item in cluster.completed.values()
        ],
    }


def tasks_json(cluster: Cluster) -> Json:
    """Return GET_TASKS."""
    tasks: list[Task] = []
    unreachable: list[Task] = []
    completed: list[Task] = []
    for framework in (*cluster.frameworks.values(), *cluster.completed.values()):
        tasks += framework.tasks.values()
        unreachable += framework.unreachable.values()
        completed += framework.completed
    return {"tasks": tasks, "unreachable_tasks": unreachable, "completed_tasks": completed}


def executors_json() -> Json:
    """Return GET_EXECUTORS: there are no executors but those that command tasks imply."""
    return {"executors": []}


def roles_json(cluster: Cluster) -> Json:
    """Return GET_ROLES."""
    return {
        "roles": [
            _present(
                {
                    "name": role,
                    "weight": 1.0,
                    "frameworks": [framework.info.id for framework in frameworks],
                    "resources": [
                        message
                        for framework in frameworks
                        for message in used_by_role(framework).get(role, _NOTHING).messages()
                    ],
                }
            )
            for role, frameworks in frameworks_by_role(cluster).items()
        ]
    }


def state_json(cluster: Cluster) -> Json:
    """Return GET_STATE."""
    return {
        "get_tasks": tasks_json(cluster),
        "get_executors": executors_json(),
        "get_frameworks": frameworks_json(cluster),
        "get_agents": agents_json(cluster),
    }


def reachable(cluster: Cluster) -> list[Agent]:
    """Return the agents that are registered: all but the unreachable."""
    return [
        agent for agent in cluster.agents.values() if agent.liveness is not Liveness.UNREACHABLE
    ]


def frameworks_by_role(cluster: Cluster) -> Mapping[str, list[Framework]]:
    """Return the frameworks of every role that is in use, by its name."""
    roles: dict[str, list[Framework]] = {}
    for framework in cluster.frameworks.values():
        for role in framework.roles:
            roles.setdefault(role, []).append(framework)
    return dict(sorted(roles.items()))


def _present(fields: Json) -> Json:
    """Leave out what is not set: None and empty lists."""
    return {key: value for key, value in fields.items() if value is not None and value != []}


_NOTHING = Resources()
