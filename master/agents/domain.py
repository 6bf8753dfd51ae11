"""Fault domains of masters and agents (reference mesos §4.2); pure."""

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.codec import decode
from phalanx.mesos.v1.mesos import AgentInfo, DomainInfo


def parse_domain(text: str) -> DomainInfo:
    """Return the fault domain that *text*, a DomainInfo as JSON, spells; raise InvalidError."""
    domain = decode(DomainInfo, text.encode())
    fault = domain.fault_domain
    if fault is None or not fault.region.name or not fault.zone.name:
        raise InvalidError("names no region and zone of a fault domain")
    return domain


def domain_problem(info: AgentInfo, master: DomainInfo | None, *, is_required: bool) -> str | None:
    """Return why an agent of *info* may not register, None if it may.

    A master without a domain can't tell whether an agent that has one is remote.
    """
    if info.domain is not None and master is None:
        return "Agent is configured with a fault domain, but the master is not"
    if info.domain is None and is_required:
        return "Agent is not configured with a fault domain, which this master requires"
    return None
