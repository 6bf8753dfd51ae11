"""The rules of everything that looks at tasks: health checks, readiness checks, the check."""

from collections.abc import Iterator

from phalanx.marathon.definition.problem import Problem
from phalanx.marathon.definition.spec_rule import MOST, command_problems
from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck, HealthProtocol, HttpCheck, TcpCheck


def health_problems(app: App) -> Iterator[Problem]:
    """Yield what is wrong with an app's health checks."""
    for index, check in enumerate(app.health_checks):
        at = f"/healthChecks({index})"
        yield from _health_check(app, check, at)
    if sum(check.protocol.value.startswith("MESOS_") for check in app.health_checks) > 1:
        yield Problem("/healthChecks", "AppDefinition can contain at most one Mesos health check")


def check_problems(app: App) -> Iterator[Problem]:
    """Yield what is wrong with the check that is only told of."""
    check = app.check
    if check is None:
        return
    if app.container is not None and app.container.is_docker:
        yield Problem("/check", "is only supported by the Mesos containerizer")
    if sum(part is not None for part in (check.http, check.tcp, check.exec)) != 1:
        yield Problem("/check", "must have exactly one of http, tcp and exec")
    for name, part in (("http", check.http), ("tcp", check.tcp)):
        if part is not None:
            yield from _checked_port(app, part, f"/check/{name}")
    if check.http is not None and check.http.scheme.lower() not in ("http", "https"):
        yield Problem("/check/http/scheme", "is neither HTTP nor HTTPS")
    if check.exec is not None:
        yield from command_problems(check.exec.command, "/check/exec/command")
    times = {
        "intervalSeconds": check.interval_seconds,
        "timeoutSeconds": check.timeout_seconds,
        "delaySeconds": check.delay_seconds,
    }
    for key, value in times.items():
        if not 0 <= value < 1e9:
            yield Problem(f"/check/{key}", f"got {value:g}, expected 0 or more")


def readiness_problems(app: App) -> Iterator[Problem]:
    """Yield what is wrong with an app's readiness checks."""
    if len(app.readiness_checks) > 1:
        yield Problem("/readinessChecks", "must have at most one element")
    ports = app.port_definitions or () if app.is_on_host_network else app.mappings
    names = {port.name for port in ports}
    for index, check in enumerate(app.readiness_checks):
        at = f"/readinessChecks({index})"
        if check.protocol not in ("HTTP", "HTTPS"):
            yield Problem(f"{at}/protocol", "is neither HTTP nor HTTPS")
        if not check.path.startswith("/"):
            yield Problem(f"{at}/path", "must begin with /")
        if not check.name:
            yield Problem(f"{at}/name", "must not be empty")
        if check.port_name not in names:
            words = "must be the name of a port definition or mapping"
            yield Problem(f"{at}/portName", f"'{check.port_name}' {words}")
        if not 0 < check.timeout_seconds < check.interval_seconds < MOST:
            yield Problem(f"{at}/timeoutSeconds", "must be positive and less than intervalSeconds")
        if not check.http_status_codes_for_ready:
            yield Problem(f"{at}/httpStatusCodesForReady", "must not be empty")


def _checked_port(app: App, check: HttpCheck | TcpCheck, at: str) -> Iterator[Problem]:
    if check.port is not None:
        yield from in_range(f"{at}/port", check.port)
        if check.port_index is not None:
            yield Problem(at, "port and portIndex must not both be set")
        return
    ports = app.port_definitions if app.is_on_host_network else app.mappings
    if not 0 <= (check.port_index or 0) < len(ports or ()):
        yield Problem(f"{at}/portIndex", "must address one of the app's ports")


def _health_check(app: App, check: HealthCheck, at: str) -> Iterator[Problem]:
    if check.protocol is HealthProtocol.COMMAND:
        if check.command is None or not check.command.value:
            yield Problem(f"{at}/command", "must be set for protocol COMMAND")
    elif check.command is not None:
        yield Problem(f"{at}/command", f"must not be set for protocol {check.protocol}")
    elif check.port is not None:
        yield from in_range(f"{at}/port", check.port)
        if check.port_index is not None:
            yield Problem(at, "port and portIndex must not both be set")
    else:
        ports = app.port_definitions if app.is_on_host_network else app.mappings
        if not 0 <= (check.port_index or 0) < len(ports or ()):
            yield Problem(
                f"{at}/portIndex",
                "Health check port indices must address an element of the ports array or"
                " container port mappings.",
            )
    if check.path is not None and not check.path.startswith("/"):
        yield Problem(f"{at}/path", "must begin with /")
    if check.ip_protocol not in ("IPv4", "IPv6"):
        yield Problem(f"{at}/ipProtocol", f"{check.ip_protocol!r} is neither IPv4 nor IPv6")
    elif check.ip_protocol == "IPv6":
        is_docker = app.container is not None and app.container.is_docker
        if not is_docker or not check.protocol.value.startswith("MESOS_"):
            words = "IPv6 can only be used with a Docker container and MESOS_HTTP(S) or MESOS_TCP"
            yield Problem(f"{at}/ipProtocol", words)
    least = {
        "gracePeriodSeconds": check.grace_period_seconds,
        "maxConsecutiveFailures": check.max_consecutive_failures,
        "delaySeconds": check.delay_seconds,
    }
    for key, value in least.items():
        if not 0 <= value < 1e9:
            yield Problem(f"{at}/{key}", f"got {value:g}, expected 0 or more")
    for key, value in (("interval", check.interval_seconds), ("timeout", check.timeout_seconds)):
        if not 0 < value < 1e9:
            yield Problem(f"{at}/{key}Seconds", f"got {value:g}, expected more than 0")


def in_range(path: str, port: int) -> Iterator[Problem]:
    """Yield a problem unless *port* is a port, or 0."""
    if not 0 <= port < 65536:
        yield Problem(path, f"{port} is not a port")
