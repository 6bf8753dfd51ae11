"""What a client in a language of fixed types makes of answers: its integers take no fraction.

Fields and types are those that Go clients of Marathon declare. As there, unknown keys are passed
over, absent ones and nulls are zero; a string for a number, or 5.0 for an integer, is an error.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Value(msgspec.Struct, rename="camel", kw_only=True):
    """Base of what such a client decodes into."""


class Command(Value, kw_only=True):
    value: str = ""


class HealthCheck(Value, kw_only=True):
    command: Command | None = None
    port_index: int | None = None
    port: int | None = None
    path: str | None = None
    max_consecutive_failures: int | None = None
    protocol: str = ""
    grace_period_seconds: int = 0
    interval_seconds: int = 0
    timeout_seconds: int = 0
    ignore_http_1xx: bool | None = msgspec.field(default=None, name="ignoreHttp1xx")


class ReadinessCheck(Value, kw_only=True):
    name: str | None = None
    protocol: str = ""
    path: str = ""
    port_name: str = ""
    interval_seconds: int = 0
    timeout_seconds: int = 0
    http_status_codes_for_ready: list[int] | None = None
    preserve_last_response: bool | None = None


class PortMapping(Value, kw_only=True):
    container_port: int | None = None
    host_port: int = 0
    labels: dict[str, str] | None = None
    name: str = ""
    service_port: int = 0
    protocol: str = ""
    network_names: list[str] | None = None


class Persistent(Value, kw_only=True):
    type: str = ""
    size: int = 0
    max_size: int = 0
    constraints: list[list[str]] | None = None


class Volume(Value, kw_only=True):
    container_path: str = ""
    host_path: str = ""
    mode: str = ""
    persistent: Persistent | None = None
    secret: str = ""


class Parameter(Value, kw_only=True):
    key: str = ""
    value: str = ""


class Docker(Value, kw_only=True):
    image: str = ""
    force_pull_image: bool | None = None
    privileged: bool | None = None
    parameters: list[Parameter] | None = None
    network: str = ""


class Container(Value, kw_only=True):
    type: str = ""
    docker: Docker | None = None
    port_mappings: list[PortMapping] | None = None
    volumes: list[Volume] | None = None


class PortDefinition(Value, kw_only=True):
    port: int | None = None
    protocol: str = ""
    name: str = ""
    labels: dict[str, str] | None = None


class Network(Value, kw_only=True):
    mode: str = ""
    name: str = ""
    labels: dict[str, str] | None = None


class Fetch(Value, kw_only=True):
    uri: str = ""
    executable: bool = False
    extract: bool = False
    cache: bool = False


class Address(Value, kw_only=True):
    ip_address: str = ""
    protocol: str = ""


class HealthResult(Value, kw_only=True):
    alive: bool = False
    consecutive_failures: int = 0
    first_success: str = ""
    last_success: str = ""
    last_failure: str | None = None
    last_failure_cause: str | None = None
    instance_id: str = ""


class Task(Value, kw_only=True):
    id: str = ""
    app_id: str = ""
    host: str = ""
    health_check_results: list[HealthResult] | None = None
    ports: list[int] | None = None
    service_ports: list[int] | None = None
    slave_id: str = ""
    staged_at: str = ""
    started_at: str = ""
    state: str = ""
    ip_addresses: list[Address] | None = None
    version: str = ""


class Failure(Value, kw_only=True):
    app_id: str = ""
    host: str = ""
    message: str = ""
    slave_id: str = ""
    state: str = ""
    task_id: str = ""
    timestamp: str = ""
    version: str = ""


class Stats(Value, kw_only=True):
    counts: dict[str, int] = {}
    life_time: dict[str, float] = {}


class TaskStats(Value, kw_only=True):
    stats: Stats


class VersionInfo(Value, kw_only=True):
    last_scaling_at: str = ""
    last_config_change_at: str = ""


class Response(Value, kw_only=True):
    status: int = 0
    content_type: str = ""
    body: str = ""


class ReadinessResult(Value, kw_only=True):
    name: str = ""
    task_id: str = ""
    ready: bool = False
    last_response: Response | None = None


class App(Value, kw_only=True):
    id: str = ""
    cmd: str | None = None
    args: list[str] | None = None
    constraints: list[list[str]] | None = None
    container: Container | None = None
    cpus: float = 0
    gpus: float | None = None
    disk: float | None = None
    mem: float | None = None
    networks: list[Network] | None = None
    env: dict[str, str | dict[str, str]] | None = None
    secrets: dict[str, dict[str, str]] | None = None
    executor: str | None = None
    health_checks: list[HealthCheck] | None = None
    readiness_checks: list[ReadinessCheck] | None = None
    instances: int | None = None
    tasks: list[Task] | None = None
    ports: list[int] | None = None
    port_definitions: list[PortDefinition] | None = None
    require_ports: bool | None = None
    backoff_seconds: float | None = None
    backoff_factor: float | None = None
    max_launch_delay_seconds: float | None = None
    task_kill_grace_period_seconds: float | None = None
    deployments: list[dict[str, str]] | None = None
    readiness_check_results: list[ReadinessResult] | None = None
    dependencies: list[str] | None = None
    tasks_running: int = 0
    tasks_staged: int = 0
    tasks_healthy: int = 0
    tasks_unhealthy: int = 0
    task_stats: dict[str, TaskStats] | None = None
    user: str = ""
    upgrade_strategy: dict[str, float] | None = None
    unreachable_strategy: dict[str, float] | str | None = None
    kill_selection: str = ""
    version: str = ""
    version_info: VersionInfo | None = None
    labels: dict[str, str] | None = None
    accepted_resource_roles: list[str] | None = None
    last_task_failure: Failure | None = None
    fetch: list[Fetch] | None = None
    role: str | None = None


class Group(Value, kw_only=True):
    id: str = ""
    apps: list[App] | None = None
    dependencies: list[str] | None = None
    groups: list[Group] | None = None
    version: str = ""


class Apps(Value, kw_only=True):
    apps: list[App]


class One(Value, kw_only=True):
    app: App


class Tasks(Value, kw_only=True):
    tasks: list[Task]


class Action(Value, kw_only=True):
    action: str = ""
    app: str = ""
    pod: str = ""
    readiness_check_results: list[ReadinessResult] | None = None


class Step(Value, kw_only=True):
    actions: list[Action]


class Deployment(Value, kw_only=True):
    id: str
    version: str = ""
    current_step: int = 0
    total_steps: int = 0
    affected_apps: list[str] | None = None
    affected_pods: list[str] | None = None
    steps: list[Step] = []
    current_actions: list[Action] | None = None


class Delay(Value, kw_only=True):
    time_left_seconds: int = 0
    overdue: bool = False


class Reject(Value, kw_only=True):
    reason: str = ""
    declined: int = 0
    processed: int = 0


class Summary(Value, kw_only=True):
    processed_offers_count: int = 0
    unused_offers_count: int = 0
    last_unused_offer_at: str | None = None
    last_used_offer_at: str | None = None
    reject_summary_last_offers: list[Reject] | None = None
    reject_summary_launch_attempt: list[Reject] | None = None


class Waiting(Value, kw_only=True):
    app: App
    count: int = 0
    delay: Delay
    since: str = ""
    processed_offers_summary: Summary


class Queue(Value, kw_only=True):
    queue: list[Waiting]


class Plan(Value, kw_only=True):
    id: str = ""
    version: str = ""
    original: Group | None = None
    target: Group | None = None
    steps: list[Step] | None = None


class StatusUpdate(Value, kw_only=True):
    event_type: str
    timestamp: str = ""
    slave_id: str = ""
    task_id: str = ""
    task_status: str = ""
    message: str = ""
    app_id: str = ""
    host: str = ""
    ports: list[int] | None = None
    ip_addresses: list[Address] | None = None
    version: str = ""


class DeploymentStep(Value, kw_only=True):
    event_type: str
    timestamp: str = ""
    current_step: Step | None = None
    plan: Plan


class DeploymentEnd(Value, kw_only=True):
    event_type: str
    id: str
    timestamp: str = ""


class Posted(Value, kw_only=True):
    event_type: str
    client_ip: str = ""
    uri: str = ""
    timestamp: str = ""
    app_definition: App


class Health(Value, kw_only=True):
    event_type: str
    app_id: str = ""
    instance_id: str = ""
    version: str = ""
    alive: bool


EVENTS: dict[str, type[Value]] = {
    "status_update_event": StatusUpdate,
    "deployment_info": DeploymentStep,
    "deployment_step_success": DeploymentStep,
    "deployment_step_failure": DeploymentStep,
    "deployment_success": DeploymentEnd,
    "deployment_failed": DeploymentEnd,
    "api_post_event": Posted,
    "health_status_changed_event": Health,
}


class MarathonSettings(Value, kw_only=True):
    checkpoint: bool = False
    executor: str = ""
    failover_timeout: float = 0
    framework_name: str = ""
    ha: bool = False
    hostname: str = ""
    leader_proxy_connection_timeout_ms: float = msgspec.field(
        default=0, name="leader_proxy_connection_timeout_ms"
    )
    local_port_max: float = msgspec.field(default=0, name="local_port_max")
    local_port_min: float = msgspec.field(default=0, name="local_port_min")
    master: str = ""
    mesos_role: str = msgspec.field(default="", name="mesos_role")
    mesos_user: str = msgspec.field(default="", name="mesos_user")


class Info(Value, kw_only=True):
    elected: bool = False
    framework_id: str = ""
    leader: str = ""
    name: str = ""
    version: str = ""
    marathon_config: MarathonSettings = msgspec.field(name="marathon_config")
    zookeeper_config: dict[str, Any] = msgspec.field(name="zookeeper_config")


def decode(raw: bytes, kind: Any) -> Any:
    """Decode as strictly as Go does; nulls are as if they weren't there."""
    return msgspec.convert(_without_nulls(msgspec.json.decode(raw)), kind, strict=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
