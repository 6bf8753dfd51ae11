"""What is probed and what one probe found (reference mesos §2.5); pure."""

from dataclasses import dataclass

from phalanx.core.error import InvalidError
from phalanx.mesos.v1.mesos import (
    CheckInfo,
    CheckStatusInfo,
    CheckStatusInfoCommand,
    CheckStatusInfoHttp,
    CheckStatusInfoTcp,
    CommandInfo,
    HealthCheck,
    HealthCheckType,
)

HEALTHY = range(200, 400)
LOOPBACK = {"IPv4": "127.0.0.1", "IPv6": "::1"}


@dataclass(frozen=True, slots=True)
class CommandProbe:
    """Run a command inside the container."""

    command: CommandInfo


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Ask for a page inside the container's network."""

    host: str
    port: int
    path: str = "/"
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Connect to a port inside the container's network."""

    host: str
    port: int


Asked = CommandProbe | HttpProbe | TcpProbe


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe found: an exit code, a status code, a connection made; None when it found none.

    *words* say why a probe is no good news.
    """

    found: int | bool | None
    words: str = ""


def kind_of(check: HealthCheck | CheckInfo) -> HealthCheckType:
    """Return how a task is checked, also when only the matching field says so."""
    if check.type not in (None, "UNKNOWN"):
        return HealthCheckType(str(check.type))
    if check.http is not None:
        return HealthCheckType.HTTP
    if check.tcp is not None:
        return HealthCheckType.TCP
    return HealthCheckType.COMMAND if check.command is not None else HealthCheckType.UNKNOWN


def asked_by_health(check: HealthCheck) -> Asked:
    """Return what a health check probes; raise InvalidError when that is missing."""
    kind = kind_of(check)
    if kind == HealthCheckType.COMMAND and check.command is not None:
        return CommandProbe(check.command)
    if kind == HealthCheckType.HTTP and check.http is not None:
        http = check.http
        host = LOOPBACK[http.protocol]
        return HttpProbe(host, http.port, _absolute(http.path), (http.scheme or "http").lower())
    if kind == HealthCheckType.TCP and check.tcp is not None:
        return TcpProbe(LOOPBACK[check.tcp.protocol], check.tcp.port)
    raise InvalidError(f"health_check.{kind.lower()}: is missing")


def asked_by_check(check: CheckInfo) -> Asked:
    """Return what a check probes; raise InvalidError when that is missing."""
    kind = kind_of(check)
    host = LOOPBACK["IPv4"]
    if kind == HealthCheckType.COMMAND and check.command is not None:
        return CommandProbe(check.command.command)
    if kind == HealthCheckType.HTTP and check.http is not None:
        return HttpProbe(host, check.http.port, _absolute(check.http.path))
    if kind == HealthCheckType.TCP and check.tcp is not None:
        return TcpProbe(host, check.tcp.port)
    raise InvalidError(f"check.{kind.lower()}: is missing")


def trouble(asked: Asked, outcome: Outcome) -> str:
    """Return why an outcome is not healthy; nothing when it is."""
    found = outcome.found
    if found is None:
        return outcome.words or "no answer"
    if isinstance(asked, CommandProbe):
        return f"command exited with status {found}" if found else ""
    if isinstance(asked, HttpProbe):
        return "" if found in HEALTHY else f"status {found}"
    return "" if found else outcome.words or "could not connect"


def check_status(check: CheckInfo, outcome: Outcome | None = None) -> CheckStatusInfo:
    """Return a check's result as statuses carry it; its inner message is empty without one."""
    kind = kind_of(check)
    found = outcome.found if outcome is not None else None
    status = CheckStatusInfo(type=kind.value)
    replaced: dict[HealthCheckType, CheckStatusInfo] = {
        HealthCheckType.COMMAND: CheckStatusInfo(
            type="COMMAND", command=CheckStatusInfoCommand(exit_code=found)
        ),
        HealthCheckType.HTTP: CheckStatusInfo(
            type="HTTP", http=CheckStatusInfoHttp(status_code=found)
        ),
        HealthCheckType.TCP: CheckStatusInfo(
            type="TCP", tcp=CheckStatusInfoTcp(succeeded=None if found is None else bool(found))
        ),
    }
    return replaced.get(kind, status)


def _absolute(path: str | None) -> str:
    text = path or "/"
    return text if text.startswith("/") else f"/{text}"
