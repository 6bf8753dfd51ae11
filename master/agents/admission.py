"""Which agents may not register (reference mesos §4.2); pure."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Address

from phalanx.core.error import InvalidError
from phalanx.master.cluster.agent import Agent
from phalanx.master.maintenance.schedule import DOWN, is_machine
from phalanx.mesos.v1.mesos import AgentInfo, MachineInfo
from phalanx.net.model.objects import Liveness

MIN_VERSION = (1, 0, 0)


def check_version(version: str) -> None:
    """Raise InvalidError for an agent that is too old to speak with, or says nothing sensible."""
    parts = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version)
    if parts is None:
        raise InvalidError(f"version: {version!r} is no version")
    if tuple(int(part or 0) for part in parts.groups()) < MIN_VERSION:
        wanted = ".".join(map(str, MIN_VERSION))
        raise InvalidError(f"version: {version!r} is older than {wanted}")


def refusal(
    id: str | None,
    info: AgentInfo,
    address: IPv4Address,
    *,
    gone: Iterable[str],
    machines: Iterable[MachineInfo],
    known: Agent | None,
) -> str | None:
    """Return why the agent must end itself, None when it may register.

    *known* is the agent of its id. One that is registered keeps its address and
    name: whoever comes from elsewhere while it is heard is a copy of it.
    """
    if id is not None and id in gone:
        return "Agent has been marked gone"
    for machine in machines:
        if machine.mode == DOWN and is_machine(machine.id, info.hostname, address):
            return "Machine is `DOWN`"
    if known is None or known.liveness is Liveness.UNREACHABLE:
        return None
    has_moved = known.address != address
    is_renamed = known.info.hostname != info.hostname
    if (known.liveness is Liveness.ALIVE and has_moved) or (is_renamed and not has_moved):
        return "Agent attempted to re-register with different IP / hostname"
    return None
