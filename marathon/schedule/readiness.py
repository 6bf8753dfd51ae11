"""Whether a task of a deployment is ready to do its work (reference marathon §1.7)."""

from dataclasses import dataclass

from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import ReadinessCheck
from phalanx.marathon.model.network import PortDefinition, PortMapping

FAILED_STATUS = 504  # stands for a request that got no answer


@dataclass(frozen=True, slots=True)
class Reply:
    """What a readiness check was last answered."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """The latest result of a task's readiness check."""

    name: str
    ready: bool
    reply: Reply | None = None


def after_reply(check: ReadinessCheck, reply: Reply) -> Readiness:
    """Return the result of *reply*, which is kept if the check says so."""
    is_ready = reply.status in check.http_status_codes_for_ready
    return Readiness(check.name, is_ready, reply if check.preserve_last_response else None)


def port_index(app: App, check: ReadinessCheck) -> int | None:
    """Return the index of the port that *check* is for; None if the app has no such port."""
    ports: tuple[PortDefinition | PortMapping, ...] = (
        app.port_definitions or () if app.is_on_host_network else app.mappings
    )
    found = (index for index, port in enumerate(ports) if port.name == check.port_name)
    return next(found, None)
