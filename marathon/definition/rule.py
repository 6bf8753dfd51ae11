"""The rules that a definition must keep, each with its path and Marathon's words for it."""

import re
from collections import Counter
from collections.abc import Iterator

from phalanx.marathon.definition.check_rule import (
    MOST,
    check_problems,
    health_problems,
    in_range,
    readiness_problems,
)
from phalanx.marathon.definition.container_rule import container_problems
from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.model.app import App, EnvSecret, UnreachableStrategy
from phalanx.marathon.model.network import NetworkMode
from phalanx.marathon.model.path import errors_of, top_of
from phalanx.marathon.schedule.constraint import OPERATORS

_EXECUTOR = r"^(//cmd)|(/?[^/]+(/[^/]+)*)|$"
_EXECUTOR_PATTERN = re.compile(r"//cmd|/?[^/]+(/[^/]+)*|")
_IS_VALUE = re.compile(r"[a-zA-Z0-9_/.-]*")
MOST_INSTANCES = 100_000
SINGLE_INSTANCE_LABEL = "MARATHON_SINGLE_INSTANCE_APP"


def violations(app: App) -> Iterator[Problem]:
    """Yield a problem for every rule that *app* breaks."""
    yield from (Problem("/id", error) for error in errors_of(app.id))
    yield from _command(app)
    yield from _numbers(app)
    yield from _networks(app)
    yield from _ports(app)
    yield from _roles(app)
    yield from _secrets(app)
    yield from _limits(app)
    yield from container_problems(app)
    yield from check_problems(app)
    yield from readiness_problems(app)
    yield from _migration(app)
    for index, constraint in enumerate(app.constraints):
        yield from (Problem(f"/constraints({index})", e) for e in constraint_errors(constraint))
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
    least = {
        "instances": app.instances,
        "cpus": app.cpus,
        "mem": app.mem,
        "disk": app.disk,
        "backoffSeconds": app.backoff_seconds,
        "maxLaunchDelaySeconds": app.max_launch_delay_seconds,
        "taskKillGracePeriodSeconds": app.task_kill_grace_period_seconds or 0,
    }
    if (extra := app.executor_resources) is not None:
        amounts = {"cpus": extra.cpus, "mem": extra.mem, "disk": extra.disk}
        least |= {f"executorResources/{key}": amount for key, amount in amounts.items()}
    for key, value in least.items():
        if not 0 <= value <= MOST:
            yield Problem(f"/{key}", f"got {value:g}, expected 0 to {MOST:g}")
    if app.instances > MOST_INSTANCES:
        yield Problem("/instances", f"got {app.instances}, expected {MOST_INSTANCES} at most")
    if not 1.0 <= app.backoff_factor < 1e6:
        yield Problem("/backoffFactor", f"got {app.backoff_factor:g}, expected 1.0 or more")
    strategy = app.upgrade_strategy
    shares = {
        "minimumHealthCapacity": strategy.minimum_health_capacity,
        "maximumOverCapacity": strategy.maximum_over_capacity,
    }
    for key, share in shares.items():
        if share > 1:
            yield Problem(f"/upgradeStrategy/{key}", "is greater than 1.0")
        elif not share >= 0:
            yield Problem(f"/upgradeStrategy/{key}", "is less than 0.0")
    if app.labels.get(SINGLE_INSTANCE_LABEL) == "true":
        if app.instances > 1:
            yield Problem("/instances", "is greater than 1")
        if any(shares.values()):
            yield Problem("/upgradeStrategy", "must be 0, 0 for a single instance app")
    unreachable = app.unreachable_strategy
    if isinstance(unreachable, UnreachableStrategy):
        if not 0 <= unreachable.inactive_after_seconds <= unreachable.expunge_after_seconds:
            yield Problem("/unreachableStrategy", "inactiveAfterSeconds <= expungeAfterSeconds")
    elif unreachable != "disabled":
        yield Problem("/unreachableStrategy", "is neither an object nor 'disabled'")


def _networks(app: App) -> Iterator[Problem]:
    modes = Counter(network.mode for network in app.networks)
    if len(modes) > 1 or modes[NetworkMode.HOST] > 1 or modes[NetworkMode.BRIDGE] > 1:
        yield Problem(
            "/networks",
            "Must either be a single host network, a single container/bridge network,"
            " or one or more container networks",
        )
    for index, network in enumerate(app.networks):
        if network.mode is NetworkMode.CONTAINER:
            if not network.name:
                yield Problem(
                    f"/networks({index})",
                    "Network name must be specified when container network is selected.",
                )
        elif network.name is not None:
            yield Problem(f"/networks({index})/name", "only a container network takes a name")
        if network.mode is NetworkMode.HOST and network.labels:
            yield Problem(f"/networks({index})/labels", "the host network takes no labels")
    yield from unique("/networks", [n.name for n in app.networks if n.name])


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


def _roles(app: App) -> Iterator[Problem]:
    if app.role not in ("*", top_of(app.id)):
        yield Problem("/role", f"{app.role!r} is neither '*' nor the group's")
    for role in app.accepted_resource_roles or ():
        if role not in ("*", app.role):
            yield Problem("/acceptedResourceRoles", f"{role!r} is neither '*' nor {app.role!r}")
    is_docker = app.container is not None and app.container.is_docker
    if app.gpus and is_docker:
        yield Problem("/gpus", "GPU resources only work with the Mesos containerizer")


def _secrets(app: App) -> Iterator[Problem]:
    for name, secret in app.secrets.items():
        if not name or not secret.source:
            yield Problem(f"/secrets/{name}", "needs a name and a source")
    for name, value in app.env.items():
        if isinstance(value, EnvSecret) and value.secret not in app.secrets:
            yield Problem(f"/env/{name}", f"references the undeclared secret '{value.secret}'")
    for index, volume in enumerate(() if app.container is None else app.container.volumes):
        if volume.secret is not None and volume.secret not in app.secrets:
            at = f"/container/volumes({index})"
            yield Problem(at, f"references the undeclared secret '{volume.secret}'")


def _limits(app: App) -> Iterator[Problem]:
    limits = app.resource_limits
    if limits is None:
        return
    for name, limit, request in (("cpus", limits.cpus, app.cpus), ("mem", limits.mem, app.mem)):
        at = f"/resourceLimits/{name}"
        if isinstance(limit, str):
            if limit != "unlimited":
                yield Problem(at, "is neither a number nor 'unlimited'")
        elif limit is not None and not request <= limit <= MOST:
            yield Problem(at, f"got {limit:g}, expected {request:g} or more")


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


def constraint_errors(parts: tuple[str, ...]) -> Iterator[str]:
    """Yield what is wrong with a placement constraint."""
    if not 2 <= len(parts) <= 3 or not parts[0]:
        yield "must be a field, an operator and perhaps a value"
        return
    operator, value = parts[1], parts[2] if len(parts) == 3 else None
    if operator not in OPERATORS:
        yield (
            "operator must be one of the following UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER,"
            " UNLIKE or IS"
        )
    elif operator == "UNIQUE" and value is not None:
        yield "Value specified but not used"
    elif operator in ("LIKE", "UNLIKE"):
        try:
            re.compile(value or "")
        except re.error as error:
            yield f"'{value}' is not a valid regular expression: {error}"
        if not value:
            yield f"Value was empty, expected a regular expression for {operator}"
    elif operator == "MAX_PER" and not _is_positive(value):
        yield "Value was empty or not a positive integer for MAX_PER"
    elif operator == "GROUP_BY" and value is not None and not _is_positive(value):
        yield f"Value '{value}' is not a positive integer"
    elif operator == "IS" and (value is None or not _IS_VALUE.fullmatch(value)):
        yield "Value was empty or has other characters than a-z A-Z 0-9 _ / . - for IS"


def _is_positive(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdecimal() and int(text) > 0
