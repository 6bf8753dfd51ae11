"""From JSON to a complete, valid App."""

import re
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from phalanx.marathon.definition.legacy import modernised
from phalanx.marathon.definition.problem import DefinitionError, Problem
from phalanx.marathon.definition.rule import violations
from phalanx.marathon.definition.unsupported import unsupported
from phalanx.marathon.model.app import App, Container
from phalanx.marathon.model.check import HealthCheck, HealthProtocol
from phalanx.marathon.model.network import NetworkMode, PortDefinition, PortMapping
from phalanx.marathon.model.path import absolute, parent_of

_PLACE = re.compile(r"^(?P<error>.*?)(?: - at `\$(?P<place>.*)`)?$", re.DOTALL)
_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")
_READ_ONLY = ("version", "versionInfo")
RESIDENT_UPGRADE = {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0}
_DEFAULT_DEFINITION = PortDefinition(name="default")
_DEFAULT_MAPPING = PortMapping(name="default")


def parse_app(raw: object, *, app_id: str | None = None, default_network: str | None = None) -> App:
    """Return the app that *raw*, parsed JSON, defines, with every default filled in.

    *app_id* (from a URL) wins over the id in the body. *default_network* names
    container networks without a name. Unknown keys are ignored. Raises
    DefinitionError.
    """
    return complete_app(modernised(as_object(raw)), app_id, default_network)


def updated_app(
    rendered: Mapping[str, Any], raw: object, *, default_network: str | None = None
) -> App:
    """Return the app *rendered* with the top-level keys of *raw* put over it.

    A key that is absent or null is kept; a value replaces the old one as a
    whole. Ports of the other kind of network go when the network changes.
    """
    given = as_object(raw)
    update = modernised(given)
    base = dict(rendered)
    is_brought = isinstance(given.get("ipAddress"), dict) and not given.get("container")
    brought, old = update.get("container"), base.get("container")
    if is_brought and isinstance(brought, dict) and old:
        # The container that an address brings with it is for apps that have none.
        update["container"] = {**old, **brought, "type": old["type"]}
    networks = update.get("networks")
    if isinstance(networks, list):
        hosted = all(isinstance(n, dict) and n.get("mode") == "host" for n in networks)
        if not hosted:
            base.pop("portDefinitions", None)
            base.pop("requirePorts", None)
        elif isinstance(base.get("container"), dict):
            base["container"] = {
                key: value for key, value in base["container"].items() if key != "portMappings"
            }
    if update.get("cmd") and update.get("args") == []:
        base.pop("args", None)
    return complete_app({**base, **update}, base["id"], default_network)


def complete_app(modern: Mapping[str, Any], app_id: str | None, default_network: str | None) -> App:
    """Return the app of a definition without old spellings; raise DefinitionError."""
    raw: dict[str, Any] = {k: v for k, v in without_nulls(modern).items() if k not in _READ_ONLY}
    if app_id is not None:
        raw["id"] = app_id
    if problems := list(unsupported(raw)):
        raise DefinitionError(problems)
    _shape(raw)
    _resident(raw)
    app = _convert(raw)
    app = _canonical(app, default_network)
    if problems := list(violations(app)):
        raise DefinitionError(problems)
    return app


def as_object(raw: object) -> Mapping[str, Any]:
    """Return *raw* if it is a JSON object; raise DefinitionError."""
    if not isinstance(raw, dict):
        raise DefinitionError([Problem("/", "error.expected.jsobject")], "Invalid JSON")
    return raw


def _shape(raw: dict[str, Any]) -> None:
    """Turn what may be written in two ways into the one that the types say."""
    constraints = raw.get("constraints")
    if isinstance(constraints, list):
        raw["constraints"] = [
            [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in parts]
            if isinstance(parts, list)
            else parts
            for parts in constraints
        ]
    if raw.get("acceptedResourceRoles") == []:
        raise DefinitionError([Problem("/acceptedResourceRoles", "must not be empty")])
    container = raw.get("container")
    if isinstance(container, dict):
        usual = "DOCKER" if container.get("docker") else "MESOS"
        raw["container"] = {**container, "type": container.get("type", usual)}


def _resident(raw: dict[str, Any]) -> None:
    """Give an app with volumes that stay its own defaults: its agents are not to be left."""
    container = raw.get("container")
    volumes = container.get("volumes") if isinstance(container, dict) else None
    if not isinstance(container, dict) or not isinstance(volumes, list):
        return
    keys = {key for volume in volumes if isinstance(volume, dict) for key in volume}
    if not keys & {"persistent", "external"}:
        return
    strategy = raw.get("upgradeStrategy", {})
    if isinstance(strategy, dict):
        raw["upgradeStrategy"] = {**RESIDENT_UPGRADE, **strategy}
    if "persistent" in keys:
        raw.setdefault("unreachableStrategy", "disabled")
        raw["container"] = {**container, "volumes": [with_disk_type(v) for v in volumes]}


def with_disk_type(volume: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a volume with the type of its disk: one that names a profile is a mount."""
    kept = volume.get("persistent") if isinstance(volume, dict) else None
    if not isinstance(kept, dict) or "profileName" not in kept:
        return volume
    return {**volume, "persistent": {"type": "mount", **kept}}


@cache
def _fields() -> Mapping[str, tuple[str, Any]]:
    hints = typing.get_type_hints(App)
    return {
        field.encode_name: (field.name, hints[field.name]) for field in msgspec.structs.fields(App)
    }


def _convert(raw: Mapping[str, Any]) -> App:
    values: dict[str, Any] = {}
    problems = []
    for key, (name, hint) in _fields().items():
        if key not in raw:
            continue
        try:
            values[name] = msgspec.convert(raw[key], hint)
        except msgspec.ValidationError as error:
            problems.append(problem_at(key, str(error)))
    if "id" not in raw:
        problems.append(Problem("/id", "error.path.missing"))
    if problems:
        raise DefinitionError(problems, "Invalid JSON")
    return App(**values)


def problem_at(key: str, text: str) -> Problem:
    """Translate an error of the converter, such as ``Expected `str`, got `int` - at `$[0].x```."""
    match = _PLACE.match(text)
    place = match["place"] if match and match["place"] else ""
    path = _INDEX.sub(r"(\1)", place).replace(".", "/").replace("(///)", "")
    error = match["error"] if match else text
    if "missing required field" in error:
        field = error.rpartition("`")[0].rpartition("`")[2]
        return Problem(f"/{key}{path}/{field}", "error.path.missing")
    for kind, expected in _EXPECTED.items():
        if error.startswith(f"Expected `{kind}"):
            return Problem(f"/{key}{path}", expected)
    return Problem(f"/{key}{path}", error)


_EXPECTED = {
    "str": "error.expected.jsstring",
    "int": "error.expected.jsnumber",
    "float": "error.expected.jsnumber",
    "bool": "error.expected.jsboolean",
    "array": "error.expected.jsarray",
    "object": "error.expected.jsobject",
}


def _canonical(app: App, default_network: str | None) -> App:
    """Fill in what depends on the kind of network (reference marathon §1.5, end)."""
    replace = msgspec.structs.replace
    networks = tuple(
        replace(network, name=default_network)
        if network.mode is NetworkMode.CONTAINER and network.name is None
        else network
        for network in app.networks
    ) or (App(id="").networks)
    app_id = absolute(app.id)
    app = replace(
        app,
        id=app_id,
        networks=networks,
        dependencies=tuple(absolute(path, parent_of(app_id)) for path in app.dependencies),
    )
    return _with_default_checks(with_default_ports(app))


def _with_default_checks(app: App) -> App:
    """Say in each health check what it leaves out: load balancers look for its port's index."""
    has_ports = bool(app.port_definitions if app.is_on_host_network else app.mappings)
    return msgspec.structs.replace(
        app, health_checks=tuple(_default_check(c, has_ports) for c in app.health_checks)
    )


def _default_check(check: HealthCheck, has_ports: bool) -> HealthCheck:
    if check.protocol is HealthProtocol.COMMAND:
        return check
    if check.port is None and check.port_index is None and has_ports:
        check = msgspec.structs.replace(check, port_index=0)
    if check.path is None and check.protocol.value.endswith(("HTTP", "HTTPS")):
        check = msgspec.structs.replace(check, path="/")
    return check


def with_default_ports(app: App) -> App:
    """Give an app that says nothing about ports the one port that it gets by default."""
    replace = msgspec.structs.replace
    if app.is_on_host_network:
        if app.port_definitions is None:
            return replace(app, port_definitions=(_DEFAULT_DEFINITION,))
        return app
    container = app.container or Container()
    if container.port_mappings is None:
        container = replace(container, port_mappings=(_DEFAULT_MAPPING,))
    return replace(app, container=container, require_ports=False)


def without_nulls(value: Any) -> Any:  # noqa: ANN401 - walks any JSON
    """Return JSON without the keys whose value is null."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
