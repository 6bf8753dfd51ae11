"""``/v1/policies``: what may pass between networks, over HTTP."""

from typing import Any

from aiohttp import web

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.master.api.body import read_body
from phalanx.master.api.door import leader_of
from phalanx.master.network.policy import PolicyDocument, PolicySpec, parse_tier, render_ports
from phalanx.net.model.objects import Policy


async def list_policies(request: web.Request) -> web.Response:
    """Answer every policy, in the order of asking."""
    policies = leader_of(request).networks.policies.values()
    ordered = sorted(policies, key=lambda each: (each.tier.rank, each.action != "deny", each.name))
    return web.json_response({"policies": [policy_json(policy) for policy in ordered]})


async def create_policy(request: web.Request) -> web.Response:
    """Add a policy."""
    policy = await leader_of(request).networks.book.add(await read_body(request, PolicySpec))
    return web.json_response(policy_json(policy), status=201)


async def get_policy(request: web.Request) -> web.Response:
    """Answer one policy."""
    name = request.match_info["name"]
    policy = leader_of(request).networks.policies.get(name)
    if policy is None:
        raise NotFoundError(f"no policy {name!r}")
    return web.json_response(policy_json(policy))


async def put_policy(request: web.Request) -> web.Response:
    """Add a policy, or put it in the place of the one of its name."""
    spec = await read_body(request, PolicySpec)
    name = request.match_info["name"]
    if spec.name != name:
        raise InvalidError(f"name: {spec.name!r} is not {name!r}, of the address")
    registry = leader_of(request).networks
    is_new = name not in registry.policies
    policy = await registry.book.put(spec)
    return web.json_response(policy_json(policy), status=201 if is_new else 200)


async def replace_policies(request: web.Request) -> web.Response:
    """Put a document in the place of all policies, or of those of ``?tier=``, at once."""
    document = await read_body(request, PolicyDocument)
    tier = request.query.get("tier")
    changed = await leader_of(request).networks.book.replace(
        document, tier=None if tier is None else parse_tier(tier)
    )
    return web.json_response({key: sorted(names) for key, names in changed.items()})


async def delete_policy(request: web.Request) -> web.Response:
    """Remove a policy."""
    await leader_of(request).networks.book.remove(request.match_info["name"])
    return web.Response(status=204)


def policy_json(policy: Policy) -> dict[str, Any]:
    """Return a policy as the API shows it."""
    return {
        "name": policy.name,
        "tier": policy.tier.value,
        "action": policy.action.value,
        "direction": policy.direction.value,
        "source": policy.source,
        "destination": policy.destination,
        "protocol": policy.protocol.value,
        "ports": render_ports(policy),
        "reason": policy.reason,
    }


def routes() -> list[web.RouteDef]:
    """Return the routes."""
    return [
        web.get("/v1/policies", list_policies),
        web.post("/v1/policies", create_policy),
        web.put("/v1/policies", replace_policies),
        web.get("/v1/policies/{name}", get_policy),
        web.put("/v1/policies/{name}", put_policy),
        web.delete("/v1/policies/{name}", delete_policy),
    ]
