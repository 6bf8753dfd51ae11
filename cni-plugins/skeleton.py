"""What every plugin of the family has in common: one call of it, from environment to exit status.

A plugin is a class with the commands as methods; the skeleton checks the
environment and the configuration, calls one of them and prints what it
returns or refuses. Nothing is imported that isn't built in.
"""

import posix
import sys

from phalanx.cni.phalanx_net import (
    BAD_CONFIG,
    BAD_ENVIRONMENT,
    NEWEST,
    VERSIONS,
    Refusal,
    check_config,
    check_environment,
    environment,
    read_config,
    refuse,
    version_of,
    write,
)
from phalanx.cni.results import downward, upward

UNSUPPORTED_FIELD, UNKNOWN_CONTAINER, BAD_NETNS, NOT_AVAILABLE = 2, 3, 8, 50
KERNEL, EXISTS, DIFFERS, INTERNAL = 100, 101, 102, 999

Json = dict[str, object]


class Call:
    """One call of a plugin, checked: the environment's part and the configuration's."""

    def __init__(self, command: str, version: str, environ: dict[str, str], config: Json) -> None:
        self.command = command
        self.version = version
        self.config = config
        self.container = environ.get("CNI_CONTAINERID", "")
        self.ifname = environ.get("CNI_IFNAME", "")
        self.netns = environ.get("CNI_NETNS", "")
        self.path = environ.get("CNI_PATH", "")
        self.network = str(config["name"])
        self.arguments: dict[str, str] = {}
        for pair in environ.get("CNI_ARGS", "").split(";") if environ.get("CNI_ARGS") else ():
            key, _, value = pair.partition("=")
            self.arguments[key] = value
        self.runtime = self.inner(config, "runtimeConfig")
        self.args = self.inner(self.inner(config, "args"), "cni", "args.cni")
        previous = config.get("prevResult")
        if previous is not None and not isinstance(previous, dict):
            raise Refusal(BAD_CONFIG, "prevResult: is not an object")
        self.previous: Json | None = None if previous is None else upward(previous)

    @property
    def owner(self) -> str:
        """Return who the attachment is of, as one word."""
        return f"{self.container}:{self.ifname}"

    def inner(self, value: Json, key: str, path: str = "") -> Json:
        """Return an optional object of the configuration."""
        found = value.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise Refusal(BAD_CONFIG, f"{path or key}: {found!r} is not an object")
        return found

    def needed_previous(self) -> Json:
        """Return the result of the plugins before; raise Refusal if there is none."""
        if self.previous is None:
            raise Refusal(BAD_CONFIG, "prevResult: is required, the plugin must be chained")
        return self.previous

    def valid(self) -> set[str]:
        """Return the owners that a GC is to leave alone."""
        listed = self.config.get(
            "cni.dev/valid-attachments", self.config.get("cni.dev/attachments")
        )
        found: set[str] = set()
        for item in listed if isinstance(listed, list) else ():
            if not isinstance(item, dict) or not item.get("containerID"):
                raise Refusal(BAD_CONFIG, f"cni.dev/valid-attachments: {item!r} is no attachment")
            found.add(f"{item['containerID']}:{item.get('ifname', '')}")
        return found

    def open_netns(self) -> int:
        """Open the container's namespace; raise Refusal if there is none."""
        try:
            return posix.open(self.netns, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as error:
            raise Refusal(BAD_NETNS, f"CNI_NETNS {self.netns!r}: {error.strerror}") from error

    def text(self, key: str, default: str, value: Json | None = None) -> str:
        """Return a string of the configuration, or of *value*, which is a part of it."""
        found = (self.config if value is None else value).get(key, default)
        if found is None:
            return default
        if not isinstance(found, str):
            raise Refusal(BAD_CONFIG, f"{key}: {found!r} is not a string")
        return found

    def refuse(self, *keys: str, why: str) -> None:
        """Raise Refusal, with key and value as CNI 1.1.0 wants both, for fields not supported."""
        for key in keys:
            if value := self.config.get(key):
                raise Refusal(UNSUPPORTED_FIELD, f"{key}: {value!r} is not supported: {why}")

    def flag(self, key: str, *, default: bool = False) -> bool:
        """Return a switch of the configuration; the words true and false count, too."""
        found = self.config.get(key, default)
        if isinstance(found, str) and found.lower() in ("true", "false"):
            return found.lower() == "true"
        if found is None or isinstance(found, bool):
            return bool(found)
        raise Refusal(BAD_CONFIG, f"{key}: {found!r} is neither true nor false")

    def number(self, key: str, most: int, value: Json | None = None) -> int:
        """Return a number from 0 to *most* of the configuration, 0 when it is not there."""
        found = (self.config if value is None else value).get(key, 0)
        if found is None:
            return 0
        if type(found) is not int or not 0 <= found <= most:
            raise Refusal(BAD_CONFIG, f"{key}: {found!r} is not a number from 0 to {most}")
        return found


def warn_of_walls() -> None:
    """Tell on standard error which chains of the host's keep containers from being reached.

    It is no refusal: the rules in them may let just these through.
    """
    from phalanx.net.hostport.forward import droppers

    if found := droppers():
        sys.stderr.write(
            f"nftables chains of this host drop what is forwarded: {', '.join(found)}: "
            "let the bridges of containers through them, accept in another table is not enough\n"
        )
        sys.stderr.flush()


class Plugin:
    """A plugin that does nothing, and says so as the specification has it."""

    about = ""

    def add(self, call: Call) -> Json:
        """Return the result in the newest form."""
        return call.needed_previous()

    def delete(self, call: Call) -> None:
        """Take away what ADD made; nothing has to be there."""

    def check(self, call: Call) -> None:
        """Raise Refusal unless all is as ADD left it."""

    def collect(self, call: Call) -> None:
        """Take away what belongs to nobody who is valid."""

    def status(self, call: Call) -> None:
        """Raise Refusal unless an ADD could be served."""


def run(plugin: Plugin) -> int:
    """Carry out the command of the environment with *plugin*; return the exit status."""
    environ = environment()
    if not environ.get("CNI_COMMAND") and not any(name.startswith("CNI_") for name in environ):
        sys.stderr.write(f"{plugin.about}\nCNI: {', '.join(VERSIONS)}\n")
        sys.stderr.flush()
        return 0
    version = NEWEST
    try:
        command = check_environment(environ)
        if command == "VERSION":
            write({"cniVersion": NEWEST, "supportedVersions": list(VERSIONS)})
            return 0
        config = read_config()
        version = version_of(config)
        check_config(config, command, version)
        call = Call(command, version, environ, config)
        if command == "ADD":
            write(downward(plugin.add(call), version))
        else:
            commands = {
                "DEL": plugin.delete,
                "CHECK": plugin.check,
                "GC": plugin.collect,
                "STATUS": plugin.status,
            }
            commands[command](call)
        return 0
    except Refusal as refusal:
        return refuse(version, refusal)
    except OSError as error:
        return refuse(version, Refusal(KERNEL, error.strerror or str(error)))
    except ValueError as error:
        return refuse(version, Refusal(BAD_CONFIG, str(error)))
    except Exception as error:  # noqa: BLE001 - a runtime must have an answer
        return refuse(version, Refusal(INTERNAL, f"internal error: {error!r}"))


__all__ = [
    "BAD_CONFIG", "BAD_ENVIRONMENT", "BAD_NETNS", "DIFFERS", "EXISTS", "INTERNAL", "KERNEL",
    "NOT_AVAILABLE", "UNKNOWN_CONTAINER", "Call", "Json", "Plugin", "Refusal", "run",
    "warn_of_walls",
]  # fmt: skip
