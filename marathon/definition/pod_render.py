"""From a Pod to the JSON that clients read; what it gives can be sent back as it is."""

from typing import Any

import msgspec

from phalanx.marathon.definition.render import as_integer
from phalanx.marathon.model.pod import Pod

# Keys that stay though there is nothing in them.
_ALWAYS = ("environment", "volumes", "labels", "secrets")


def render_pod(pod: Pod) -> dict[str, Any]:
    """Return the definition as JSON, without what is not set."""
    raw: dict[str, Any] = _without_unset(msgspec.to_builtins(pod))
    raw.pop("versionInfo", None)
    for key in _ALWAYS:
        raw.setdefault(key, [] if key == "volumes" else {})
    return raw


def _without_unset(raw: Any) -> Any:  # noqa: ANN401 - walks any JSON
    if isinstance(raw, dict):
        pairs = ((key, _without_unset(value)) for key, value in raw.items())
        return {key: value for key, value in pairs if value is not None and value not in ({}, [])}
    if isinstance(raw, (list, tuple)):
        return [_without_unset(value) for value in raw]
    return as_integer(raw)
