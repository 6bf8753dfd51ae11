"""phalanx-net: the CNI plugin that attaches a container to a virtual network.

It frames the CNI protocol and asks the plane of its node, over a unix socket,
to do the work. When no plane listens it does the work itself, through
`phalanx.cni.direct`: on the network that the configuration describes by
``subnet`` or ``subnet6``, or on the one that the last plane left word of.

Most of an attachment's time would go by in imports, so there are few of them,
and JSON goes through the C half of the json package where there is one.
"""

import errno
import posix
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = VERSIONS[-1]
DIRECT = ""  # the interpreter that knows phalanx.cni.direct; the installed plugin sets it
WORKER = "phalanx.cni.direct"
LEFT = ".json"  # after a socket's name: what its last plane left for us
ANSWER_SECONDS = 60.0
ABOUT = f"phalanx-net: attaches a container to a virtual network\nCNI: {', '.join(VERSIONS)}\n"

INTERNAL = 999
INCOMPATIBLE_VERSION, BAD_ENVIRONMENT, IO, BAD_ENCODING, BAD_CONFIG, BAD_NETNS, TRY_LATER = (
    1, 4, 5, 6, 7, 8, 11,
)  # fmt: skip

# command -> (variables it needs beside CNI_COMMAND, version of the specification that brought it)
COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "ADD": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "0.1.0"),
    "CHECK": (("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"), "0.4.0"),
    "DEL": (("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"), "0.1.0"),
    "GC": (("CNI_PATH",), "1.1.0"),
    "STATUS": (("CNI_PATH",), "1.1.0"),
    "VERSION": ((), "0.1.0"),
}
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Refusal(Exception):
    """What the plugin says instead of a result."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class NoPlaneError(Exception):
    """Nobody listens on the socket."""


def main() -> int:
    """Carry out the command of the environment; return the exit status."""
    environ = environment()
    if not any(name.startswith("CNI_") for name in environ):
        sys.stderr.write(ABOUT)
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
        request = request_of(command, environ, config)
        return finish(command, version, send(request))
    except Refusal as refusal:
        return refuse(version, refusal)


def environment() -> dict[str, str]:
    """Return the process's variables; bytes that are no UTF-8 come as `os` has them."""
    return {
        key.decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
        for key, value in posix.environ.items()
    }


def check_environment(environ: dict[str, str]) -> str:
    """Return the command; raise Refusal that names everything missing or what is wrong."""
    command = environ.get("CNI_COMMAND", "")
    if command and command not in COMMANDS:
        raise Refusal(BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
    needed = ("CNI_COMMAND", *(COMMANDS[command][0] if command else ()))
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise Refusal(BAD_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    if "CNI_CONTAINERID" in needed and not is_name(environ["CNI_CONTAINERID"]):
        raise Refusal(
            BAD_ENVIRONMENT, f"invalid characters in CNI_CONTAINERID {environ['CNI_CONTAINERID']!r}"
        )
    if "CNI_IFNAME" in needed and not is_ifname(environ["CNI_IFNAME"]):
        raise Refusal(BAD_ENVIRONMENT, f"invalid interface name {environ['CNI_IFNAME']!r}")
    for pair in environ.get("CNI_ARGS", "").split(";") if environ.get("CNI_ARGS") else ():
        if pair.count("=") != 1:
            raise Refusal(BAD_ENVIRONMENT, f"CNI_ARGS: {pair!r} is not KEY=VALUE")
    if command in ("ADD", "DEL") and is_own_netns(environ.get("CNI_NETNS", "")):
        raise Refusal(
            BAD_NETNS, f"CNI_NETNS {environ['CNI_NETNS']!r} is the plugin's own network namespace"
        )
    return command


def is_name(text: str) -> bool:
    """Tell whether *text* can be a container id or the name of a network."""
    return text[:1] in LETTERS and all(letter in LETTERS or letter in "_.-" for letter in text)


def is_ifname(text: str) -> bool:
    """Tell whether *text* can be the name of an interface."""
    return (
        0 < len(text) < 16
        and text not in (".", "..")
        and not any(letter in "/:" or letter.isspace() for letter in text)
    )


def is_own_netns(path: str) -> bool:
    """Tell whether *path* is the network namespace that this process is in."""
    try:
        there, here = posix.stat(path), posix.stat("/proc/self/ns/net")
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def read_config() -> dict[str, object]:
    """Return the network configuration from standard input."""
    try:
        config = parse(sys.stdin.buffer.read())
    except OSError as error:
        raise Refusal(IO, f"standard input: {error}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(BAD_ENCODING, f"network configuration: {error}") from error
    if not isinstance(config, dict):
        raise Refusal(BAD_ENCODING, "network configuration: is not an object")
    return config


def version_of(config: dict[str, object]) -> str:
    """Return the version that the configuration asks for; raise Refusal if it is not spoken."""
    version = config.get("cniVersion", VERSIONS[0])
    if not isinstance(version, str) or version not in VERSIONS:
        raise Refusal(
            INCOMPATIBLE_VERSION,
            "incompatible CNI versions",
            f"config is {version!r}, plugin supports {list(VERSIONS)}",
        )
    return version


def check_config(config: dict[str, object], command: str, version: str) -> None:
    """Raise Refusal if the command can't be carried out with the configuration."""
    since = COMMANDS[command][1]
    if VERSIONS.index(version) < VERSIONS.index(since):
        raise Refusal(INCOMPATIBLE_VERSION, f"config version {version} does not allow {command}")
    name = config.get("name")
    if not isinstance(name, str) or not name:
        raise Refusal(BAD_CONFIG, "missing network name")
    if not is_name(name):
        raise Refusal(BAD_CONFIG, f"invalid characters in network name {name!r}")


def request_of(
    command: str, environ: dict[str, str], config: dict[str, object]
) -> dict[str, object]:
    """Return the request that the plane gets.

    It names the namespace twice: by its path, and by our own open file, which
    also works where the plane sees other mounts than we do.
    """
    netns, handle = environ.get("CNI_NETNS", ""), ""
    if netns:
        try:
            handle = (
                f"/proc/{posix.getpid()}/fd/{posix.open(netns, posix.O_RDONLY | posix.O_CLOEXEC)}"
            )
        except OSError:
            handle = ""  # the plane will say so if it matters
    return {
        "command": command,
        "container_id": environ.get("CNI_CONTAINERID", ""),
        "netns": netns,
        "netns_handle": handle,
        "ifname": environ.get("CNI_IFNAME", ""),
        "args": environ.get("CNI_ARGS", ""),
        "path": environ.get("CNI_PATH", ""),
        "config": config,
    }


def send(request: dict[str, object]) -> object:
    """Return the answer to a request: the plane's, or our own where there is no plane."""
    config = request["config"]
    path = config.get("socket") if isinstance(config, dict) else None
    if path is not None and (not isinstance(path, str) or not path):
        raise Refusal(BAD_CONFIG, f"socket: {path!r} is not a path")
    try:
        if path is None:
            raise NoPlaneError("socket: not in the configuration")
        raw = ask(path, (render(request) + "\n").encode())
    except NoPlaneError as error:
        interpreter, left = DIRECT, ""
        if not isinstance(config, dict) or config.get("subnet", config.get("subnet6")) is None:
            left = str(path or "")
            interpreter = stand_in_of(left)
            if not interpreter:
                raise Refusal(TRY_LATER, f"no plane listens: {error}") from error
        work_directly({**request, "stand_in": left}, interpreter)
        raise Refusal(TRY_LATER, f"no plane listens: {error}; no interpreter set") from error
    try:
        return parse(raw)
    except ValueError as error:
        raise Refusal(TRY_LATER, f"{path}: the plane went away before it answered") from error


def ask(path: str, line: bytes) -> bytes:
    """Send one line to a unix socket and return all that comes back."""
    peer = socket(AF_UNIX, SOCK_STREAM)
    peer.settimeout(ANSWER_SECONDS)
    try:
        peer.connect(path)
    except OSError as error:
        peer.close()
        if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
            raise NoPlaneError(f"{path}: {error.strerror}") from error
        raise Refusal(TRY_LATER, f"{path}: {error}") from error
    try:
        peer.sendall(line)
        chunks = []
        while chunk := peer.recv(65536):
            chunks.append(chunk)
            if chunk.endswith(b"\n"):
                break
        return b"".join(chunks)
    except OSError as error:
        raise Refusal(TRY_LATER, f"{path}: {error}") from error
    finally:
        peer.close()


def stand_in_of(path: str) -> str:
    """Return the interpreter that can do the work of the last plane on a socket, "" if none can."""
    try:
        with open(f"{path}{LEFT}", "rb") as file:
            left = parse(file.read())
    except (OSError, ValueError):
        return ""
    found = left.get("interpreter") if isinstance(left, dict) else None
    return found if isinstance(found, str) and posix.access(found, posix.X_OK) else ""


def work_directly(request: dict[str, object], interpreter: str) -> None:
    """Become the process that does the plane's work once; return if it can't be."""
    if not interpreter:
        return
    feed = posix.memfd_create("request")
    # The handle names an open file that won't be; the path is enough for ourselves.
    posix.write(feed, render({**request, "netns_handle": ""}).encode())
    posix.lseek(feed, 0, 0)
    posix.dup2(feed, 0)
    posix.execv(interpreter, [interpreter, "-Im", WORKER])


def finish(command: object, version: str, answer: object) -> int:
    """Print what the runtime is to read and return the exit status."""
    if isinstance(answer, dict) and isinstance(error := answer.get("error"), dict):
        code = error.get("code")
        return refuse(
            version,
            Refusal(
                code if isinstance(code, int) else TRY_LATER,
                str(error.get("msg", "")),
                str(error.get("details", "")),
            ),
        )
    if not isinstance(answer, dict) or "result" not in answer:
        return refuse(version, Refusal(BAD_ENCODING, f"the plane's answer is none: {answer!r}"))
    if command == "ADD":
        write(answer["result"])
    return 0


def refuse(version: str, refusal: Refusal) -> int:
    """Print the error object and return the exit status."""
    error: dict[str, object] = {
        "cniVersion": version,
        "code": refusal.code,
        "msg": str(refusal),
    }
    if refusal.details:
        error["details"] = refusal.details
    write(error)
    return 1


def write(value: object) -> None:
    """Print a value as JSON."""
    sys.stdout.write(render(value) + "\n")
    sys.stdout.flush()


def _no_json(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def parse_slowly(raw: bytes) -> object:
    """Return the value of a JSON text; raise ValueError, with a word on why, if it is none."""
    import json

    return json.loads(raw.decode(), parse_constant=_no_json)


def render_slowly(value: object) -> str:
    """Return a value as JSON on one line."""
    import json

    return json.dumps(value)


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    class _Strict:
        """What the scanner in C wants to know: JSON and no more."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = staticmethod(_no_json)

        def __init__(self) -> None:
            self.memo: dict[str, str] = {}

    def parse(raw: bytes) -> object:
        """Return the value of a JSON text; raise ValueError if it is none."""
        text = raw.decode().strip(" \t\r\n")
        try:
            value, end = make_scanner(_Strict())(text, 0)  # type: ignore[arg-type]  # any object with these names does
        except (StopIteration, SystemError):
            # The scanner finds no words for an error while the json package is not loaded.
            return parse_slowly(raw)
        return value if end == len(text) else parse_slowly(raw)

    def _default(value: object) -> object:
        raise TypeError(type(value))

    def render(value: object) -> str:
        """Return a value as JSON on one line."""
        encoder = make_encoder(
            {}, _default, encode_basestring_ascii, None, ": ", ", ", False, False, True
        )
        return "".join(encoder(value, 0))

except ImportError:  # an interpreter without it
    parse, render = parse_slowly, render_slowly


if __name__ == "__main__":
    sys.exit(main())
