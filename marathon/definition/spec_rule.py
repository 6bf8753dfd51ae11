"""The rules that apps and pods keep alike, each with the path where either says it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from phalanx.marathon.definition.problem import Problem, unique
from phalanx.marathon.model.app import (
    EnvSecret,
    ExecutorResources,
    ResourceLimits,
    SecretSource,
    UnreachableStrategy,
)
from phalanx.marathon.model.check import ExecCommand
from phalanx.marathon.model.network import Network, NetworkMode
from phalanx.marathon.model.path import errors_of, top_of
from phalanx.marathon.model.spec import Spec
from phalanx.marathon.schedule.constraint import OPERATORS

MOST = 1e9
MOST_INSTANCES = 100_000
_IS_VALUE = re.compile(r"[a-zA-Z0-9_/.-]*")


@dataclass(frozen=True, slots=True)
class Places:
    """Where a definition says what apps and pods say alike."""

    instances: str = "/instances"
    constraints: str = "/constraints"
    roles: str = "/acceptedResourceRoles"
    backoff: str = "/backoffSeconds"
    backoff_factor: str = "/backoffFactor"
    longest_delay: str = "/maxLaunchDelaySeconds"
    upgrade: str = "/upgradeStrategy"
    unreachable: str = "/unreachableStrategy"


OF_APP = Places()
OF_POD = Places(
    instances="/scaling/instances",
    constraints="/scheduling/placement/constraints",
    roles="/scheduling/placement/acceptedResourceRoles",
    backoff="/scheduling/backoff/backoff",
    backoff_factor="/scheduling/backoff/backoffFactor",
    longest_delay="/scheduling/backoff/maxLaunchDelay",
    upgrade="/scheduling/upgrade",
    unreachable="/scheduling/unreachableStrategy",
)


def spec_problems(spec: Spec, at: Places) -> Iterator[Problem]:
    """Yield what is wrong with an app or a pod by the rules of both."""
    yield from (Problem("/id", error) for error in errors_of(spec.id))
    if not 0 <= spec.instances <= MOST_INSTANCES:
        yield Problem(at.instances, f"got {spec.instances}, expected 0 to {MOST_INSTANCES}")
    yield from bounded(at.backoff, spec.backoff_seconds)
    yield from bounded(at.longest_delay, spec.max_launch_delay_seconds)
    if not 1.0 <= spec.backoff_factor < 1e6:
        yield Problem(at.backoff_factor, f"got {spec.backoff_factor:g}, expected 1.0 or more")
    yield from _upgrade(spec, at.upgrade)
    yield from _unreachable(spec.unreachable_strategy, at.unreachable)
    for index, constraint in enumerate(spec.constraints):
        where = f"{at.constraints}({index})"
        yield from (Problem(where, error) for error in constraint_errors(constraint))
    yield from _roles(spec, at.roles)
    yield from _networks(spec.networks)
    for name, secret in spec.secrets.items():
        if not name or not secret.source:
            yield Problem(f"/secrets/{name}", "needs a name and a source")
    if spec.executor_resources is not None:
        yield from _executor(spec.executor_resources)
    if spec.is_resident:
        yield from _resident(spec, at)


def _upgrade(spec: Spec, at: str) -> Iterator[Problem]:
    strategy = spec.upgrade_strategy
    shares = {
        "minimumHealthCapacity": strategy.minimum_health_capacity,
        "maximumOverCapacity": strategy.maximum_over_capacity,
    }
    for key, share in shares.items():
        if share > 1:
            yield Problem(f"{at}/{key}", "is greater than 1.0")
        elif not share >= 0:
            yield Problem(f"{at}/{key}", "is less than 0.0")


def _unreachable(strategy: UnreachableStrategy | str, at: str) -> Iterator[Problem]:
    if isinstance(strategy, str):
        if strategy != "disabled":
            yield Problem(at, "is neither an object nor 'disabled'")
    elif not 0 <= strategy.inactive_after_seconds <= strategy.expunge_after_seconds <= MOST:
        yield Problem(at, "inactiveAfterSeconds must be between 0 and expungeAfterSeconds")


def _roles(spec: Spec, at: str) -> Iterator[Problem]:
    if spec.role not in ("*", top_of(spec.id)):
        yield Problem("/role", f"{spec.role!r} is neither '*' nor the group's")
    for role in spec.accepted_resource_roles or ():
        if role not in ("*", spec.role):
            yield Problem(at, f"{role!r} is neither '*' nor {spec.role!r}")


def _networks(networks: tuple[Network, ...]) -> Iterator[Problem]:
    modes = {network.mode for network in networks}
    if len(networks) > 1 and modes != {NetworkMode.CONTAINER}:
        yield Problem(
            "/networks",
            "Must either be a single host network, a single container/bridge network,"
            " or one or more container networks",
        )
    for index, network in enumerate(networks):
        at = f"/networks({index})"
        if network.mode is NetworkMode.CONTAINER:
            if not network.name:
                words = "Network name must be specified when container network is selected."
                yield Problem(at, words)
        elif network.name is not None:
            yield Problem(f"{at}/name", "only a container network takes a name")
        if network.mode is NetworkMode.HOST and network.labels:
            yield Problem(f"{at}/labels", "the host network takes no labels")
    yield from unique("/networks", (network.name for network in networks if network.name))


def _executor(asked: ExecutorResources) -> Iterator[Problem]:
    for key, value in (("cpus", asked.cpus), ("mem", asked.mem), ("disk", asked.disk)):
        yield from bounded(f"/executorResources/{key}", value)


def _resident(spec: Spec, at: Places) -> Iterator[Problem]:
    if spec.role == "*":
        yield Problem("/role", "must not be '*' with persistent volumes, which are reserved")
    if spec.upgrade_strategy.maximum_over_capacity != 0:
        yield Problem(f"{at.upgrade}/maximumOverCapacity", "must be 0 for persistent volumes")
    if len({*(spec.accepted_resource_roles or ())}) > 1:
        words = "must not mix reserved and unreserved resources with persistent volumes"
        yield Problem(at.roles, words)


def limit_problems(
    limits: ResourceLimits | None, cpus: float, mem: float, at: str
) -> Iterator[Problem]:
    """Yield what is wrong with the limits of a task that asks for *cpus* and *mem*."""
    if limits is None:
        return
    for name, limit, request in (("cpus", limits.cpus, cpus), ("mem", limits.mem, mem)):
        if isinstance(limit, str):
            if limit != "unlimited":
                yield Problem(f"{at}/{name}", "is neither a number nor 'unlimited'")
        elif limit is not None and not request <= limit <= MOST:
            yield Problem(f"{at}/{name}", f"got {limit:g}, expected {request:g} or more")


def environment_problems(
    environment: Mapping[str, str | EnvSecret], secrets: Mapping[str, SecretSource], at: str
) -> Iterator[Problem]:
    """Yield what is wrong with variables: all secrets must be declared."""
    for name, value in environment.items():
        if isinstance(value, EnvSecret):
            yield from secret_problems(value.secret, secrets, f"{at}/{name}")


def secret_problems(
    name: str | None, secrets: Mapping[str, SecretSource], at: str
) -> Iterator[Problem]:
    """Yield a problem for a secret that is named and not declared."""
    if name is not None and name not in secrets:
        yield Problem(at, f"references the undeclared secret '{name}'")


def command_problems(command: ExecCommand, at: str) -> Iterator[Problem]:
    """Yield a problem unless a command has one of its two forms."""
    if (not command.shell) == (not command.argv):
        yield Problem(at, "must have either a shell or an argv")


def bounded(path: str, value: float) -> Iterator[Problem]:
    """Yield a problem for an amount or a time that is no sensible one."""
    if not 0 <= value <= MOST:
        yield Problem(path, f"got {value:g}, expected 0 to {MOST:g}")


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
