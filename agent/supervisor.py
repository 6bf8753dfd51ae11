"""Start one container and outlive the agent to tell how it ended.

Run as a program of its own, ``python -I -S supervisor.py RUN_DIRECTORY RUNC
RUNC_ROOT MOST WHAT CONTAINER_ID STDIN STDOUT STDERR``, with nothing but the standard
library. With MOST above zero an output that has as many bytes is put aside as ``stdout.1``,
and what the disk has no room for is thrown away. WHAT is ``run`` for a container of
its own, or ``exec`` for a process inside the container that is named, ``exec:CGROUP``
in a cgroup below its; with ``console`` as STDIN it gets the terminal that is made at
that socket in the run directory. It is the subreaper below which runc leaves the
container's init. It writes, each whole or not at all, into the run directory:

* ``supervisor``: who it is, before anything else;
* ``started``: the init process, once the command runs;
* ``exit``: the wait status, or why the container could not be started.

One JSON line on standard output says ``started`` or ``exit`` as well, to whoever
launched it.
"""

import ctypes
import errno
import json
import os
import select
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # importing it would cost a supervisor a millisecond and memory

PR_SET_CHILD_SUBREAPER = 36
MEMORY_EVENTS_V1 = "memory.oom_control"
MEMORY_EVENTS_V2 = "memory.events"

# The kernel tells that a limit is met before it kills and counts, so we look for a while after.
LOOKS = 40
LOOK_MILLISECONDS = 50

CHUNK = 64 * 1024
RESERVED = 4096  # bytes, for what is written when a container has ended
MOST_WORDS = 3000  # of an error: what is reported is one write to a pipe that others share


def spawn() -> int:
    """Fork a supervisor for each line of standard input, until there are no more.

    A line is a JSON list: a number, then the arguments. What a supervisor reports
    follows the number, on our standard output.
    """
    import signal  # only here: a supervisor that is started alone does without

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        number, *arguments = json.loads(line)
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        status = 1
        with suppress(Exception):
            status = supervise(arguments, b"%d " % number)
        os._exit(status)
    return 0


def main(arguments: list[str]) -> int:
    """Supervise one container, or fork supervisors for as many as are asked for."""
    if not arguments:
        return spawn()
    return 0 if os.fork() else supervise(arguments)


def supervise(arguments: list[str], prefix: bytes = b"") -> int:
    """Supervise one container from its start to its end."""
    run, runc, root, most, what, container_id, *ends = arguments
    os.setsid()
    os.chdir("/")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    outputs: list[Output] = []
    try:
        write(run, "supervisor", identity(os.getpid()))
        reserve(run, "exit")
        if int(most) and ends[0] != "console":
            outputs = [Output(path, int(most)) for path in ends[1:]]
    except OSError as failure:
        report({"exit": {"error": f"{run}: {failure.strerror}"}}, prefix)
        return 1
    error = start(run, [runc, "--root", root], what, container_id, ends, outputs)
    pid = 0
    try:
        if error is None:
            with open(os.path.join(run, "pid")) as file:
                pid = int(file.read())
            started = {**identity(pid), "started": time.time()}
            write(run, "started", started)
    except (OSError, ValueError) as failure:  # what nobody could find again must not run
        error = f"{run}: {getattr(failure, 'strerror', None) or failure}"
        if pid:
            os.kill(pid, 9)
    if error is not None:
        end = {"error": error, "finished": time.time()}
        with suppress(OSError):
            write(run, "exit", end)
        report({"exit": end}, prefix)
        return 1
    report({"started": started}, prefix)
    status, killed = wait(pid, outputs)
    end = {"status": status, "finished": time.time(), **killed}
    with suppress(OSError):  # who finds no such file takes the container for killed
        write(run, "exit", end)
    return 0


class Output:
    """A pipe that the container writes into, and the file that we write it to."""

    def __init__(self, path: str, most: int) -> None:
        self.path = path
        self.most = most
        self.source, self.sink = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.source, False)
        self.file = self.opened()
        owner = os.fstat(self.file)
        os.fchown(self.sink, owner.st_uid, owner.st_gid)  # the command may open it anew
        self.size = owner.st_size

    def opened(self) -> int:
        """Open the file to append to; a link of the command's making is not followed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(self.path, flags, 0o644)

    def pass_on(self) -> bool:
        """Write what has come; tell whether more may come."""
        try:
            content = os.read(self.source, CHUNK)
        except BlockingIOError:
            return True
        if not content:
            return False
        if self.size >= self.most:
            self.put_aside()
        with suppress(OSError):  # a full disk costs the words, not the container
            self.size += os.write(self.file, content)
        return True

    def put_aside(self) -> None:
        """Begin a new file; the one before the last is gone."""
        self.size = 0
        owner = os.fstat(self.file)
        try:
            os.rename(self.path, self.path + ".1")
            fresh = self.opened()
        except OSError:  # something of the command's is there: this file begins anew instead
            os.ftruncate(self.file, 0)
            return
        os.close(self.file)
        self.file = fresh
        with suppress(OSError):
            os.fchown(self.file, owner.st_uid, owner.st_gid)

    def finish(self) -> None:
        """Write what is still in the pipe."""
        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while poll.poll(0) and self.pass_on():
            pass


def start(
    run: str,
    runc: list[str],
    what: str,
    container_id: str,
    ends: list[str],
    outputs: list[Output],
) -> str | None:
    """Let runc create and start the container; return what went wrong, if anything did."""
    log = os.path.join(run, "runc.log")
    what, _, place = what.partition(":")
    command = [*runc, "--log", log, "--log-format", "json", what, "--detach"]
    command += ["--pid-file", os.path.join(run, "pid")]
    if place:
        command += ["--cgroup", place]
    if what == "exec":
        command += ["--process", os.path.join(run, "process.json")]
    else:
        command += ["--bundle", run]
    given, out, err = ends
    if given == "console":
        command += ["--console-socket", "console"]  # relative: a socket's path is short
        given, out, err = (os.devnull,) * 3
        os.chdir(run)
    command.append(container_id)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]]
    actions = [(os.POSIX_SPAWN_OPEN, 0, given, os.O_RDONLY, 0)]
    if outputs:
        actions += [(os.POSIX_SPAWN_DUP2, end.sink, n) for n, end in enumerate(outputs, 1)]
    else:
        actions.append((os.POSIX_SPAWN_OPEN, 1, out, append, 0o644))
        actions.append((os.POSIX_SPAWN_OPEN, 2, err, append, 0o644))
    try:
        child = os.posix_spawnp(runc[0], command, os.environ, file_actions=actions)
    except OSError as error:
        return f"{runc[0]}: {error.strerror}"
    for end in outputs:
        os.close(end.sink)
    status = os.waitpid(child, 0)[1]
    os.chdir("/")
    if status == 0:
        return None
    told = last_error(log)
    if told is None and not os.statvfs(run).f_bavail:
        return f"{run}: {os.strerror(errno.ENOSPC)}"
    return told or f"runc ended with wait status {status}"


def last_error(log: str) -> str | None:
    """Return the last message in runc's log."""
    try:
        with open(log) as file:
            lines = file.read().splitlines()
        return str(json.loads(lines[-1])["msg"])[:MOST_WORDS]
    except (OSError, IndexError, ValueError, KeyError):
        return None


def wait(pid: int, outputs: list[Output]) -> "tuple[int, dict[str, Any]]":
    """Wait for the container's init; kill it when the kernel has killed any of its processes.

    Returns the wait status and what the memory limit did.
    """
    place = memory_cgroup(pid)
    init = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(init, select.POLLIN)
    writing = {end.source: end for end in outputs}
    for source in writing:
        poll.register(source, select.POLLIN)
    event = watch_memory(place)
    if event is not None:
        poll.register(event, select.POLLIN)
    looks = 1  # the limit may have been met before we watched it
    while True:
        ready = [number for number, _ in poll.poll(LOOK_MILLISECONDS if looks else None)]
        for source in writing.keys() & set(ready):
            if not writing[source].pass_on():
                poll.unregister(source)
        if set(ready) <= writing.keys() and ready and not looks:
            continue
        memory = memory_facts(place)
        if init in ready:
            break
        looks = max(looks - 1, 0)
        if event is not None and event in ready:
            os.eventfd_read(event)
            looks = LOOKS
        if memory.get("oom_kills"):
            os.kill(pid, 9)  # it is our unreaped child: the pid can't be anybody else's
            looks = 0
    if memory.get("oom_kills"):
        memory["memory_stat"] = lines_of(os.path.join(place, "memory.stat"))
    for end in outputs:
        end.finish()
    return os.waitpid(pid, 0)[1], memory


def memory_cgroup(pid: int) -> str:
    """Return the directory of the memory cgroup of a process, in whichever hierarchy it is."""
    unified = ""
    with open(f"/proc/{pid}/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                return "/sys/fs/cgroup/memory" + path
            if not controllers:
                unified = path
    return "/sys/fs/cgroup" + unified


def watch_memory(place: str) -> int | None:
    """Return an eventfd that tells of the memory limit (cgroup v1); v2 kills the group itself."""
    try:
        control = os.open(os.path.join(place, MEMORY_EVENTS_V1), os.O_RDONLY)
        event = os.eventfd(0)
        with open(os.path.join(place, "cgroup.event_control"), "w") as file:
            file.write(f"{event} {control}")
    except OSError:
        return None
    return event


def memory_facts(place: str) -> "dict[str, Any]":
    """Return how often the limit killed and the most memory that was used."""
    facts: dict[str, Any] = {}
    for name in (MEMORY_EVENTS_V1, MEMORY_EVENTS_V2):
        for line in lines_of(os.path.join(place, name)):
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                facts["oom_kills"] = int(value)
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        for line in lines_of(os.path.join(place, name)):
            facts["memory_used"] = int(line)
    return facts


def lines_of(path: str) -> list[str]:
    """Return a file's lines, none if it can't be read."""
    try:
        with open(path) as file:
            return file.read().splitlines()
    except OSError:
        return []


def identity(pid: int) -> dict[str, int]:
    """Return a process as pid and start time."""
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    return {"pid": pid, "start_time": int(text[text.rindex(")") + 2 :].split()[19])}


def write(run: str, name: str, value: "dict[str, Any]") -> None:
    """Write a file of the run directory, whole or not at all."""
    content = json.dumps(value).encode()
    temporary = os.path.join(run, "." + name)
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.write(file, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.ftruncate(file, len(content))
    finally:
        os.close(file)
    os.rename(temporary, os.path.join(run, name))


def reserve(run: str, name: str) -> None:
    """Take the room now that a file will need: the disk may be full when it is written."""
    with open(os.path.join(run, "." + name), "wb") as file:
        file.write(b" " * RESERVED)


def report(value: "dict[str, Any]", prefix: bytes) -> None:
    """Tell whoever launched us, if he is still there, and let go of the pipe."""
    with suppress(OSError):
        os.write(1, prefix + json.dumps(value).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
