"""From an App to the JSON that clients read; what it gives can be sent back as it is."""

from typing import Any

import msgspec

from phalanx.marathon.model.app import App

# Clients that build objects from keys know none of these: they appear only when set.
_ONLY_WHEN_SET = (
    *("user", "acceptedResourceRoles", "taskKillGracePeriodSeconds", "container", "cmd"),
    *("resourceLimits", "tty", "check"),
)
_HEALTH_KEYS_WHEN_SET = ("path", "port", "portIndex", "command")


def render_app(app: App) -> dict[str, Any]:
    """Return the definition as JSON, without anything that is computed."""
    raw: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(app))
    for key in _ONLY_WHEN_SET:
        if raw[key] is None:
            del raw[key]
    for key in ("check", "resourceLimits"):
        if key in raw:
            raw[key] = _without_nulls(raw[key])
    if not raw["secrets"]:
        del raw["secrets"]
    for check in raw["healthChecks"]:
        for key in _HEALTH_KEYS_WHEN_SET:
            if check[key] is None:
                del check[key]
    for fetch in raw["fetch"]:
        if fetch["destPath"] is None:
            del fetch["destPath"]
    raw["networks"] = [_network(network) for network in raw["networks"]]
    if raw["portDefinitions"] is None:
        del raw["portDefinitions"]
    for port in raw.get("portDefinitions", ()):
        _drop_empty(port, "name")
    if "container" in raw:
        _drop_empty(raw["container"], "docker", "portMappings", "linuxInfo")
        if "linuxInfo" in raw["container"]:
            raw["container"]["linuxInfo"] = _without_nulls(raw["container"]["linuxInfo"])
        for volume in raw["container"]["volumes"]:
            _drop_empty(volume, "hostPath", "secret")
        for mapping in raw["container"].get("portMappings", ()):
            _drop_empty(mapping, "name", "hostPort", "networkNames")
    if raw["versionInfo"] is None:
        del raw["versionInfo"]
    return raw


def _network(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value or key == "mode"}


def _without_nulls(raw: Any) -> Any:  # noqa: ANN401 - walks any JSON
    if not isinstance(raw, dict):
        return raw
    return {key: _without_nulls(value) for key, value in raw.items() if value not in (None, [])}


def _drop_empty(raw: dict[str, Any], *keys: str) -> None:
    for key in keys:
        if raw[key] is None or (key == "networkNames" and not raw[key]):
            del raw[key]
