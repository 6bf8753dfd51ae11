"""One run of the allocator: which framework is offered which agent's resources; pure.

Agents are taken in the order given; for each, roles in order of their share,
and in a role frameworks in order of theirs. The first that no filter holds
back gets everything free on the agent (reference mesos §5.4).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from phalanx.master.allocator.sorter import added, dominant_share
from phalanx.mesos.resources import Resources


@dataclass(frozen=True, slots=True)
class Filter:
    """Resources of one agent that one framework refused in one role, until a time."""

    refused: Resources
    until: float

    def blocks(self, free: Resources, now: float) -> bool:
        """Tell whether *free* must not be offered: it is no more than what was refused."""
        return now < self.until and free in self.refused


@dataclass(frozen=True, slots=True)
class Spare:
    """What is free on an agent."""

    agent_id: str
    free: Resources
    has_gpus: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """A framework in one role: it wants offers; *filters* by agent."""

    framework_id: str
    role: str
    held: Mapping[str, int] = field(default_factory=dict)
    filters: Mapping[str, tuple[Filter, ...]] = field(default_factory=dict)
    takes_gpus: bool = False


@dataclass(frozen=True, slots=True)
class Grant:
    """Resources of one agent for one framework in one role."""

    framework_id: str
    role: str
    agent_id: str
    resources: Resources


def allocate(
    spares: Iterable[Spare],
    clients: Sequence[Client],
    *,
    total: Mapping[str, int],
    role_held: Mapping[str, Mapping[str, int]],
    weights: Mapping[str, float],
    minimums: Sequence[Resources],
    now: float,
) -> tuple[Grant, ...]:
    """Return the grants of one run, at most one for each agent.

    *total* is all scalars of the cluster, *role_held* what each role holds of
    them, suppressed and disconnected frameworks included.
    """
    roles: dict[str, Mapping[str, int]] = {
        client.role: role_held.get(client.role, {}) for client in clients
    }
    held = {(client.role, client.framework_id): client.held for client in clients}
    of_role: defaultdict[str, list[Client]] = defaultdict(list)
    for client in clients:
        of_role[client.role].append(client)
    grants = []
    for spare in spares:
        if not _is_worth_offering(spare.free, minimums):
            continue
        chosen = _choice(spare, roles, of_role, held, total, weights, now)
        if chosen is None:
            continue
        key = (chosen.role, chosen.framework_id)
        roles[chosen.role] = added(roles[chosen.role], spare.free.scalars)
        held[key] = added(held[key], spare.free.scalars)
        grants.append(Grant(chosen.framework_id, chosen.role, spare.agent_id, spare.free))
    return tuple(grants)


def _choice(
    spare: Spare,
    roles: Mapping[str, Mapping[str, int]],
    of_role: Mapping[str, Sequence[Client]],
    held: Mapping[tuple[str, str], Mapping[str, int]],
    total: Mapping[str, int],
    weights: Mapping[str, float],
    now: float,
) -> Client | None:
    def by_role(role: str) -> tuple[float, str]:
        return dominant_share(roles[role], total, weight=weights.get(role, 1.0)), role

    def by_framework(client: Client) -> tuple[float, str]:
        mine = held[client.role, client.framework_id]
        return dominant_share(mine, total, weight=1.0), client.framework_id

    for role in sorted(roles, key=by_role):
        for client in sorted(of_role[role], key=by_framework):
            if spare.has_gpus and not client.takes_gpus:
                continue
            filters = client.filters.get(spare.agent_id, ())
            if not any(item.blocks(spare.free, now) for item in filters):
                return client
    return None


def _is_worth_offering(free: Resources, minimums: Sequence[Resources]) -> bool:
    return bool(free) and (not minimums or any(minimum in free for minimum in minimums))
