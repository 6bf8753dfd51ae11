"""Health checks, readiness checks, and the check (reference marathon §1.7)."""

import enum

import msgspec


class Command(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The command of a health check."""

    value: str


class HealthProtocol(enum.StrEnum):
    """Who checks, and how."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    TCP = "TCP"
    COMMAND = "COMMAND"
    MESOS_HTTP = "MESOS_HTTP"
    MESOS_HTTPS = "MESOS_HTTPS"
    MESOS_TCP = "MESOS_TCP"

    @property
    def is_run_by_agent(self) -> bool:
        """Tell whether the agent runs the check."""
        return self is HealthProtocol.COMMAND or self.value.startswith("MESOS_")


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One health check; *max_consecutive_failures* 0 never kills."""

    protocol: HealthProtocol = HealthProtocol.HTTP
    path: str | None = None
    port: int | None = None
    port_index: int | None = None
    command: Command | None = None
    grace_period_seconds: float = 300
    interval_seconds: float = 60
    timeout_seconds: float = 20
    max_consecutive_failures: int = 3
    delay_seconds: float = 15
    ignore_http_1xx: bool = msgspec.field(default=False, name="ignoreHttp1xx")
    ip_protocol: str = "IPv4"


class ReadinessCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request that says whether a task of a deployment may count as done.

    *port_name* is the name of a port definition or mapping of the app.
    """

    name: str = "readinessCheck"
    protocol: str = "HTTP"
    path: str = "/"
    port_name: str = "http-api"
    interval_seconds: float = 30
    timeout_seconds: float = 10
    http_status_codes_for_ready: tuple[int, ...] = (200,)
    preserve_last_response: bool = False


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A request whose status is told; the port is one of the app's by index, or a number."""

    path: str | None = None
    port_index: int | None = None
    port: int | None = None
    scheme: str = "HTTP"


class TcpCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A connection that is tried."""

    port_index: int | None = None
    port: int | None = None


class ExecCommand(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A command: a line for a shell, or a list of arguments."""

    shell: str | None = None
    argv: tuple[str, ...] = ()


class ExecCheck(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A command whose exit status is told."""

    command: ExecCommand


class Check(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the agent looks at and tells, and nobody is killed for."""

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    exec: ExecCheck | None = None
    interval_seconds: float = 60
    timeout_seconds: float = 20
    delay_seconds: float = 15
