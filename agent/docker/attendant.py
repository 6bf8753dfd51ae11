"""Start one container of a Docker engine and outlive the agent to tell how it ended.

Run as a program of its own, ``python -I -S attendant.py RUN_DIRECTORY SOCKET
CONTAINER STDOUT STDERR``, with nothing but the standard library. It writes what
the container says into the two files, and, each whole or not at all, into the
run directory:

* ``supervisor``: who it is, before anything else;
* ``started``: the container's first process, once it runs;
* ``following``: who it is, once it hears a container that ran before it;
* ``exit``: the exit code, or why the container could not be started.

A container that runs already is only followed. One JSON line on standard output
says ``started`` or ``exit`` as well. When the engine goes away it is asked again
until it is back, since it alone knows what became of the container.
"""

import json
import os
import socket
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

NOBODY = 1 << 22  # above every pid that the kernel gives
FRAME_BYTES = 8
ASK_AGAIN_SECONDS = 0.5
NOT_FOUND = 404
NO_CONTENT = 204
NOT_MODIFIED = 304


class GoneError(OSError):
    """The engine knows no such container."""


def main(arguments: "list[str]") -> int:
    """Attend one container from its start to its end."""
    run, engine, container, out, err = arguments
    if os.fork():
        return 0
    os.setsid()
    os.chdir("/")
    write(run, "supervisor", identity(os.getpid()))
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    files = [os.open(path, append, 0o644) for path in (out, err)]
    if not os.path.exists(os.path.join(run, "started")):
        try:
            stream = attach(engine, container)
            facts = start(engine, container)
        except OSError as error:
            end = {"error": f"docker: {error.strerror or error}", "finished": time.time()}
            write(run, "exit", end)
            report({"exit": end})
            return 1
        pid = int(facts["State"]["Pid"])
        started = {**identity(pid), "started": time.time()}
        write(run, "started", started)
        report({"started": started})
        copy(stream, files, is_raw=bool(facts["Config"]["Tty"]))
    write(run, "exit", follow(run, engine, container, files))
    return 0


def follow(run: str, engine: str, container: str, files: "list[int]") -> "dict[str, Any]":
    """Copy what a running container says until it has ended; return how."""
    while True:
        try:
            stream = attach(engine, container)
            write(run, "following", identity(os.getpid()))
            report({})
            facts = inspect(engine, container)
        except GoneError:
            report({})
            return {"status": 9, "finished": time.time()}
        except OSError:
            pass
        else:
            if not facts["State"]["Running"]:
                stream.close()
                return ended(facts["State"])
            copy(stream, files, is_raw=bool(facts["Config"]["Tty"]))
            continue
        time.sleep(ASK_AGAIN_SECONDS)  # waits: for an engine that restarts; it can't tell us


def ended(state: "dict[str, Any]") -> "dict[str, Any]":
    """Return what an engine's word on the end of a container means."""
    end = {
        "status": int(state["ExitCode"]) << 8,
        "oom_kills": int(bool(state.get("OOMKilled"))),
        "finished": time.time(),
    }
    return end


def attach(engine: str, container: str) -> socket.socket:
    """Return the stream of what a container says from now on; raise OSError."""
    target = f"/containers/{container}/attach?stream=1&stdout=1&stderr=1"
    connected = connect(engine)
    connected.sendall(
        f"POST {target} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n"
        "Upgrade: tcp\r\nContent-Length: 0\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        more = connected.recv(1)  # not one byte of the stream itself
        if not more:
            raise OSError("attach: the engine hung up")
        head += more
    status = int(head.split(None, 2)[1])
    if status == NOT_FOUND:
        raise GoneError("the container is gone")
    if status not in (101, 200):
        raise OSError("attach: " + head.split(b"\r\n", 1)[0].decode())
    return connected


def start(engine: str, container: str) -> "dict[str, Any]":
    """Start a container and return what the engine knows of it; raise OSError in its words."""
    status, body = ask(engine, "POST", f"/containers/{container}/start")
    if status not in (NO_CONTENT, NOT_MODIFIED):
        raise OSError(str(body.get("message", status)))
    return inspect(engine, container)


def inspect(engine: str, container: str) -> "dict[str, Any]":
    """Return what the engine knows of a container; raise OSError."""
    status, body = ask(engine, "GET", f"/containers/{container}/json")
    if status == NOT_FOUND:
        raise GoneError("the container is gone")
    if status != 200:
        raise OSError(str(body.get("message", status)))
    return body


def copy(stream: socket.socket, files: "list[int]", *, is_raw: bool) -> None:
    """Copy what a container says until it says no more."""
    with stream, suppress(OSError), stream.makefile("rb") as source:
        while True:
            if is_raw:
                piece = source.read1(65536)
                number = 1
            else:
                head = source.read(FRAME_BYTES)
                if len(head) < FRAME_BYTES:
                    return
                number = head[0]
                piece = source.read(int.from_bytes(head[4:], "big"))
            if not piece:
                return
            with suppress(OSError):  # a full disk must not stop the container
                os.write(files[1 if number == 2 else 0], piece)


def connect(engine: str) -> socket.socket:
    """Connect to the engine's socket; raise OSError."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.connect(engine)
    return connected


def ask(engine: str, method: str, target: str) -> "tuple[int, dict[str, Any]]":
    """Return the status and the JSON object that the engine answers; raise OSError."""
    with connect(engine) as connected:
        request = f"{method} {target} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
        connected.sendall(request.encode())
        source: BinaryIO
        with connected.makefile("rb") as source:
            raw = source.read()
    head, _, body = raw.partition(b"\r\n\r\n")
    try:
        status = int(head.split(None, 2)[1])
        value = json.loads(body) if body.strip() else {}
    except (ValueError, IndexError) as error:
        raise OSError(f"{target}: the engine hung up") from error
    return status, value if isinstance(value, dict) else {}


def identity(pid: int) -> "dict[str, int]":
    """Return a process as pid and start time; one that has ended as nobody."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            text = file.read()
    except OSError:
        return {"pid": NOBODY, "start_time": 0}
    return {"pid": pid, "start_time": int(text[text.rindex(")") + 2 :].split()[19])}


def write(run: str, name: str, value: "dict[str, Any]") -> None:
    """Write a file of the run directory, whole or not at all."""
    temporary = os.path.join(run, "." + name)
    with open(temporary, "w") as file:
        json.dump(value, file)
    os.rename(temporary, os.path.join(run, name))


def report(value: "dict[str, Any]") -> None:
    """Tell whoever launched us, if he is still there, and let go of the pipe."""
    with suppress(OSError):
        os.write(1, json.dumps(value).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
