"""From an App to the JSON that clients read; what it gives can be sent back as it is.

What is not set is left out: clients that build objects from keys know neither nulls in lists nor
the keys that few apps have. A number without a fraction is written without one, for clients
whose seconds are integers.
"""

from typing import Any

import msgspec

from phalanx.marathon.model.app import App
from phalanx.marathon.model.check import HealthCheck

# Keys that appear only with something in them, wherever they are.
_ONLY_WHEN_SET = ("secrets", "networkNames")


def render_app(app: App) -> dict[str, Any]:
    """Return the definition as JSON, without anything that is computed."""
    raw: dict[str, Any] = _without_unset(msgspec.to_builtins(app))
    raw["networks"] = [
        {key: value for key, value in network.items() if value or key == "mode"}
        for network in raw["networks"]
    ]
    if "check" in raw:
        raw["check"] = _without_empty(raw["check"])
    for volume in raw.get("container", {}).get("volumes", ()):
        if "persistent" in volume:
            volume["persistent"] = _without_empty(volume["persistent"])
    return raw


def render_check(check: HealthCheck) -> dict[str, Any]:
    """Return one health check as JSON."""
    raw: dict[str, Any] = _without_unset(msgspec.to_builtins(check))
    return raw


def _without_unset(raw: Any) -> Any:  # noqa: ANN401 - walks any JSON
    if isinstance(raw, dict):
        return {
            key: _without_unset(value)
            for key, value in raw.items()
            if value is not None and not (key in _ONLY_WHEN_SET and value in ({}, (), []))
        }
    if isinstance(raw, (list, tuple)):
        return [_without_unset(value) for value in raw]
    return as_integer(raw)


def as_integer(value: Any) -> Any:  # noqa: ANN401 - any scalar of JSON
    """Return a number that has no fraction as an integer, anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _without_empty(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in raw.items()
        if value not in ([], {})
    }
