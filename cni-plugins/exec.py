"""Run another plugin, with our environment and the whole configuration."""

import posix

from phalanx.cni.phalanx_net import BAD_CONFIG, INTERNAL, Refusal, environment, parse, render
from phalanx.net.hostport.exec import talk

Json = dict[str, object]


def find(name: str, path: str) -> str:
    """Return where the plugin is in CNI_PATH; raise Refusal if it is nowhere."""
    if not name or "/" in name:
        raise Refusal(BAD_CONFIG, f"type: {name!r} is not the name of a plugin")
    for folder in path.split(":"):
        candidate = f"{folder}/{name}"
        if folder and posix.access(candidate, posix.X_OK):
            return candidate
    raise Refusal(BAD_CONFIG, f"failed to find plugin {name!r} in path {path.split(':')}")


def delegate(name: str, path: str, command: str, config: Json) -> Json:
    """Run *command* of a plugin and return its result, empty when there is none.

    Raises Refusal with the delegate's own code and words.
    """
    output, status = talk(
        find(name, path), [name], {**environment(), "CNI_COMMAND": command}, render(config).encode()
    )
    try:
        value = parse(output) if output.strip() else {}
    except ValueError:
        value = None
    if status == 0 and isinstance(value, dict):
        return value
    if isinstance(value, dict) and "code" in value:
        code = value["code"]
        raise Refusal(
            code if isinstance(code, int) else INTERNAL,
            f"{name}: {value.get('msg', '')}",
            str(value.get("details", "")),
        )
    raise Refusal(INTERNAL, f"{name}: status {status}, {output[:200]!r}")
