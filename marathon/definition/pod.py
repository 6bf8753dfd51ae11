"""From JSON to a complete, valid Pod (reference marathon §1.10)."""

import typing
from functools import cache
from typing import Any

import msgspec

from phalanx.marathon.definition.parse import (
    RESIDENT_UPGRADE,
    as_object,
    problem_at,
    with_disk_type,
    without_nulls,
)
from phalanx.marathon.definition.pod_rule import pod_violations
from phalanx.marathon.definition.problem import DefinitionError, Problem
from phalanx.marathon.model.network import Network, NetworkMode
from phalanx.marathon.model.path import absolute
from phalanx.marathon.model.pod import Pod

_READ_ONLY = ("version", "versionInfo")


def parse_pod(raw: object, *, default_network: str | None = None) -> Pod:
    """Return the pod that *raw*, parsed JSON, defines, with every default filled in.

    *default_network* names container networks without a name. Unknown keys are
    ignored. Raises DefinitionError.
    """
    given: dict[str, Any] = {
        key: value for key, value in without_nulls(as_object(raw)).items() if key not in _READ_ONLY
    }
    _shape(given)
    _resident(given)
    pod = _canonical(_convert(given), default_network)
    if problems := list(pod_violations(pod)):
        raise DefinitionError(problems)
    return pod


@cache
def _fields() -> dict[str, tuple[str, Any]]:
    hints = typing.get_type_hints(Pod)
    return {f.encode_name: (f.name, hints[f.name]) for f in msgspec.structs.fields(Pod)}


def _convert(raw: dict[str, Any]) -> Pod:
    values: dict[str, Any] = {}
    problems = []
    for key, (name, hint) in _fields().items():
        if key not in raw:
            if key in ("id", "containers"):
                problems.append(Problem(f"/{key}", "error.path.missing"))
            continue
        try:
            values[name] = msgspec.convert(raw[key], hint)
        except msgspec.ValidationError as error:
            problems.append(problem_at(key, str(error)))
    if problems:
        raise DefinitionError(problems, "Invalid JSON")
    return Pod(**values)


def _shape(raw: dict[str, Any]) -> None:
    """Turn what may be written in two ways into the one that the types say."""
    scheduling = raw.get("scheduling")
    placement = scheduling.get("placement") if isinstance(scheduling, dict) else None
    constraints = placement.get("constraints") if isinstance(placement, dict) else None
    if not isinstance(constraints, list):
        return
    for constraint in constraints:
        value = constraint.get("value") if isinstance(constraint, dict) else None
        if isinstance(value, int) and not isinstance(value, bool):
            constraint["value"] = str(value)


def _resident(raw: dict[str, Any]) -> None:
    """Give a pod with volumes that stay its own defaults: its agents are not to be left."""
    volumes = raw.get("volumes")
    if not isinstance(volumes, list) or not any(
        isinstance(volume, dict) and "persistent" in volume for volume in volumes
    ):
        return
    raw["volumes"] = [with_disk_type(volume) for volume in volumes]
    scheduling = raw.get("scheduling", {})
    if isinstance(scheduling, dict):
        upgrade = scheduling.get("upgrade", {})
        if isinstance(upgrade, dict):
            upgrade = {**RESIDENT_UPGRADE, **upgrade}
        raw["scheduling"] = {"unreachableStrategy": "disabled", **scheduling, "upgrade": upgrade}


def _canonical(pod: Pod, default_network: str | None) -> Pod:
    """Fill in what depends on the kind of network."""
    replace = msgspec.structs.replace
    networks = tuple(
        replace(network, name=default_network)
        if network.mode is NetworkMode.CONTAINER and network.name is None
        else network
        for network in pod.networks
    )
    return replace(
        pod,
        id=absolute(pod.id),
        networks=networks or (Network(mode=NetworkMode.HOST),),
    )
