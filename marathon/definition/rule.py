"""The rules that a definition must keep, each with its path and Marathon's words for it."""

import re
from collections.abc import Iterator

from phalanx.marathon.definition.check_rule import (
    check_problems,
    health_problems,
    in_range,
    readiness_problems,
)
from phalanx.marathon.definition.container_rule import container_problems
from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.definition.spec_rule import (
    OF_APP,
    bounded,
    environment_problems,
    limit_problems,
    spec_problems,
)
from phalanx.marathon.model.app import App

_EXECUTOR = r"^(//cmd)|(/?[^/]+(/[^/]+)*)|$"
_EXECUTOR_PATTERN = re.compile(r"//cmd|/?[^/]+(/[^/]+)*|")
SINGLE_INSTANCE_LABEL = "MARATHON_SINGLE_INSTANCE_APP"


def violations(app: App) -> Iterator[Problem]:
    """Yield a problem for every rule that *app* breaks."""
    yield from _command(app)
    yield from _numbers(app)
    yield from spec_problems(app, OF_APP)
    yield from _ports(app)
    yield from environment_problems(app.env, app.secrets, "/env")
    yield from limit_problems(app.resource_limits, app.cpus, app.mem, "/resourceLimits")
    yield from container_problems(app)
    yield from check_problems(app)
    yield from readiness_problems(app)
    yield from _migration(app)
    yield from health_problems(app)


def _command(app: App) -> Iterator[Problem]:
    if app.cmd is not None and app.args:
        yield Problem(
            "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
        )
    if app.cmd is None and not app.args and (app.container is None or not app.container.docker):
        yield Problem(
            "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
        )
    if app.cmd == "":
        yield Problem("/cmd", "must not be empty")
    if not _EXECUTOR_PATTERN.fullmatch(app.executor):
        yield Problem("/executor", f"must fully match regular expression '{_EXECUTOR}'")


def _numbers(app: App) -> Iterator[Problem]:
    amounts = {"cpus": app.cpus, "mem": app.mem, "disk": app.disk, "gpus": app.gpus}
    amounts["taskKillGracePeriodSeconds"] = app.task_kill_grace_period_seconds or 0
    for key, value in amounts.items():
        yield from bounded(f"/{key}", value)
    if app.gpus and app.container is not None and app.container.is_docker:
        yield Problem("/gpus", "GPU resources only work with the Mesos containerizer")
    if app.labels.get(SINGLE_INSTANCE_LABEL) == "true":
        strategy = app.upgrade_strategy
        if app.instances > 1:
            yield Problem("/instances", "is greater than 1")
        if strategy.minimum_health_capacity or strategy.maximum_over_capacity:
            yield Problem("/upgradeStrategy", "must be 0, 0 for a single instance app")


def _ports(app: App) -> Iterator[Problem]:
    if app.is_on_host_network:
        if app.container is not None and app.container.port_mappings:
            yield Problem(
                "/container/portMappings", "portMappings are not allowed with host-networking"
            )
    elif app.port_definitions:
        yield Problem("/portDefinitions", "portDefinitions are only allowed with host-networking")
    for index, definition in enumerate(app.port_definitions or ()):
        yield from in_range(f"/portDefinitions({index})/port", definition.port)
    yield from unique("/portDefinitions", [d.name for d in app.port_definitions or () if d.name])
    fixed = [d.port for d in app.port_definitions or () if d.port]
    yield from unique("/portDefinitions", fixed)
    names = {network.name for network in app.networks}
    for index, mapping in enumerate(app.mappings):
        at = f"/container/portMappings({index})"
        yield from in_range(f"{at}/containerPort", mapping.container_port)
        yield from in_range(f"{at}/hostPort", mapping.host_port or 0)
        yield from in_range(f"{at}/servicePort", mapping.service_port)
        for name in mapping.network_names:
            if name not in names:
                yield Problem(f"{at}/networkNames", f"{name!r} is no network of the app")
        has_choice = len(app.networks) > 1 and mapping.host_port is not None
        if has_choice and len(mapping.network_names) != 1:
            yield Problem(f"{at}/networkNames", "must name one network when hostPort is set")
    at = "/container/portMappings"
    yield from unique(at, [m.name for m in app.mappings if m.name])
    yield from unique(at, [m.host_port for m in app.mappings if m.host_port])
    yield from unique(
        at,
        [(m.container_port, p) for m in app.mappings if m.container_port for p in m.protocol.each],
    )


def _migration(app: App) -> Iterator[Problem]:
    """Yield what labels of a service's own API lack (reference marathon §1.9)."""
    version = app.labels.get("DCOS_MIGRATION_API_VERSION")
    if version is None:
        return
    if version != "v1":
        yield Problem("/labels", "DCOS_MIGRATION_API_VERSION must be v1")
    for name in ("DCOS_PACKAGE_FRAMEWORK_NAME", "DCOS_MIGRATION_API_PATH"):
        if not app.labels.get(name):
            yield Problem("/labels", f"DCOS_MIGRATION_API_VERSION needs {name}")
