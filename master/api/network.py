"""``/v1/networks``: the network registry over HTTP."""

from ipaddress import IPv4Address
from typing import Any

from aiohttp import web

from phalanx.core.error import NotFoundError
from phalanx.master.api.body import read_body
from phalanx.master.api.door import leader_of
from phalanx.master.cluster.cluster import Cluster
from phalanx.master.cluster.task import is_over
from phalanx.master.leader import Leader
from phalanx.master.network.definition import NetworkChange, NetworkSpec
from phalanx.master.network.registry import NetworkRegistry
from phalanx.master.view.project import wanted_networks
from phalanx.net.model.objects import IPNetwork, Network


async def list_networks(request: web.Request) -> web.Response:
    """Answer every network with its leases, by VNI: the same from every leader."""
    registry = leader_of(request).networks
    networks = sorted(registry.networks.values(), key=lambda network: network.vni)
    shown = [network_json(network, registry) for network in networks]
    return web.json_response({"networks": shown})


async def create_network(request: web.Request) -> web.Response:
    """Make a network."""
    leader = leader_of(request)
    spec = await read_body(request, NetworkSpec)
    network = await leader.networks.create(spec, nodes=_agents(leader), underlay=leader.underlay)
    return web.json_response(network_json(network, leader.networks), status=201)


async def get_network(request: web.Request) -> web.Response:
    """Answer one network."""
    registry = leader_of(request).networks
    name = request.match_info["name"]
    if name not in registry.networks:
        raise NotFoundError(f"no network {name!r}")
    return web.json_response(network_json(registry.networks[name], registry))


async def change_network(request: web.Request) -> web.Response:
    """Change what is given of a network."""
    leader = leader_of(request)
    name = request.match_info["name"]
    network = await leader.networks.change(
        name,
        await read_body(request, NetworkChange),
        lambda: network_users(leader.cluster, name),
        nodes=_agents(leader),
        underlay=leader.underlay,
    )
    return web.json_response(network_json(network, leader.networks))


async def delete_network(request: web.Request) -> web.Response:
    """Delete a network that nobody uses."""
    leader = leader_of(request)
    name = request.match_info["name"]
    await leader.networks.delete(name, lambda: network_users(leader.cluster, name))
    return web.Response(status=204)


def network_users(cluster: Cluster, name: str) -> list[str]:
    """Return the tasks on a network that are not over, and the executors, in words.

    The containers of a task group are on the networks of their executor.
    """
    tasks = [
        f"task {task.task_id.value} of {framework.info.name}"
        for framework in cluster.frameworks.values()
        for task in (*framework.tasks.values(), *framework.unreachable.values())
        if not is_over(task) and name in wanted_networks(task)
    ]
    executors = [
        f"executor {executor} on {agent.info.hostname}"
        for agent in cluster.agents.values()
        for (_, executor), info in agent.executors.items()
        if info.container is not None
        and name in (asked.name for asked in info.container.network_infos)
    ]
    return [*tasks, *executors]


def network_json(network: Network, registry: NetworkRegistry) -> dict[str, Any]:
    """Return a network as the API shows it."""
    return {
        "name": network.name,
        "subnet": _text(network.subnet),
        "prefix": None if network.subnet is None else network.prefix,
        "subnet6": _text(network.subnet6),
        "prefix6": None if network.subnet6 is None else network.prefix6,
        "vni": network.vni,
        "mtu": network.mtu,
        "isolated": network.isolated,
        "leases": [
            {
                "node": str(lease.node),
                "subnet": _text(lease.subnet),
                "subnet6": _text(lease.subnet6),
            }
            for lease in registry.leases_of(network.name)
        ],
    }


def routes() -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/v1/networks", list_networks),
        web.post("/v1/networks", create_network),
        web.get("/v1/networks/{name}", get_network),
        web.patch("/v1/networks/{name}", change_network),
        web.delete("/v1/networks/{name}", delete_network),
    ]


def _agents(leader: Leader) -> frozenset[IPv4Address]:
    return frozenset(agent.address for agent in leader.cluster.agents.values())


def _text(subnet: IPNetwork | None) -> str | None:
    return None if subnet is None else str(subnet)
