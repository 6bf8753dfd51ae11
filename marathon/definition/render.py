"""From an App or a Pod to the JSON that clients read; what it gives can be sent back as it is.

What is not set is left out: clients that build objects from keys know neither nulls in lists nor
the keys that few apps have. A number without a fraction is written without one, for clients
whose seconds are integers.
"""

from collections.abc import Container
from typing import Any

import msgspec

from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck
from phalanx.marathon.model.pod import Pod

# Keys that appear only with something in them, wherever they are.
_ONLY_WHEN_SET = ("secrets", "networkNames")
# Keys of a pod that stay though there is nothing in them.
_ALWAYS_IN_PODS = ("environment", "volumes", "labels", "secrets")


def render_app(app: App) -> dict[str, Any]:
    """Return the definition as JSON, without anything that is computed."""
    raw: dict[str, Any] = without_unset(msgspec.to_builtins(app), _ONLY_WHEN_SET)
    raw["networks"] = [
        {key: value for key, value in network.items() if value or key == "mode"}
        for network in raw["networks"]
    ]
    if "check" in raw:
        raw["check"] = without_unset(raw["check"])
    for volume in raw.get("container", {}).get("volumes", ()):
        if "persistent" in volume:
            volume["persistent"] = without_unset(volume["persistent"])
    return raw


def render_pod(pod: Pod) -> dict[str, Any]:
    """Return the definition as JSON, without what is not set and what is empty."""
    raw: dict[str, Any] = without_unset(msgspec.to_builtins(pod))
    raw.pop("versionInfo", None)
    for key in _ALWAYS_IN_PODS:
        raw.setdefault(key, [] if key == "volumes" else {})
    return raw


def render_check(check: HealthCheck) -> dict[str, Any]:
    """Return one health check as JSON."""
    raw: dict[str, Any] = without_unset(msgspec.to_builtins(check), _ONLY_WHEN_SET)
    return raw


def without_unset(raw: Any, optional: Container[str] | None = None) -> Any:  # noqa: ANN401 - walks any JSON
    """Return JSON without nulls, and numbers without a fraction as integers.

    Of what is empty the keys in *optional* are left out, without it all.
    """
    if isinstance(raw, dict):
        told = {}
        for key, value in raw.items():
            if isinstance(value, (dict, list, tuple)):
                inner = without_unset(value, optional)
                if inner or (optional is not None and key not in optional):
                    told[key] = inner
            elif value is not None:
                told[key] = as_integer(value)
        return told
    if isinstance(raw, (list, tuple)):
        return [without_unset(value, optional) for value in raw]
    return as_integer(raw)


def as_integer(value: Any) -> Any:  # noqa: ANN401 - any scalar of JSON
    """Return a number that has no fraction as an integer, anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
