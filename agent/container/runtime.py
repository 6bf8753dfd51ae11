"""Containers: start under a supervisor, watch, signal, remove."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from phalanx.agent import session
from phalanx.agent.bundle.spec import Terms, command_line, resource_limits
from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.container.spawner import Spawner
from phalanx.agent.container.stray import strays
from phalanx.agent.exec import run, supervise
from phalanx.agent.files import read_json
from phalanx.agent.layout import Layout
from phalanx.agent.process import Process, ended, is_alive, kill, parent_of
from phalanx.core.error import ContainerError
from phalanx.core.files import write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.mesos import CommandInfo, Scalar

log = structlog.get_logger()

LAUNCH_SECONDS = 30.0
DELETE_SECONDS = 30.0
PROCESS = "process.json"  # a process that entered another container, as runc is told it
SWITCHBOARD = Path(session.__file__).with_name("switchboard.py")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a supervisor told of the end of its container."""

    status: int | None = None
    error: str | None = None
    oom_kills: int = 0
    memory_used: int = 0
    memory_stat: tuple[str, ...] = ()
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What the run directory of a container says."""

    supervisor: Process | None
    init: Process | None
    exit: Ended | None
    started: float | None = None


@dataclass(frozen=True, slots=True)
class Ends:
    """The ends of a container's input and output: ``pipes`` or ``tty:ROWSxCOLUMNS``."""

    kind: str
    waits: bool  # for somebody who listens, before anything is read

    @property
    def is_terminal(self) -> bool:
        """Tell whether it is a terminal."""
        return self.kind != "pipes"


@dataclass(frozen=True, slots=True)
class Containers:
    """The containers of this agent, driven by runc."""

    layout: Layout
    cgroups: Cgroups
    runc: str = "runc"
    spawner: Spawner | None = None  # without one each supervisor is a program of its own
    most_output: int = 0  # bytes of each output before its file is put aside; 0 is no limit

    async def launch(
        self,
        container_id: str,
        config: Mapping[str, Any],
        sandbox: Path,
        *,
        has_image: bool = False,
        ends: Ends | None = None,
    ) -> Process:
        """Start a container and return its init; raise ContainerError in runc's words.

        Whatever was made before a failure stays for ``remove``.
        """
        place = self.layout.run(container_id)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place / "rootfs").mkdir(exist_ok=True)
        if has_image:
            for path in self.layout.image_layers(container_id):
                path.mkdir(exist_ok=True)
                path.chmod(0o755)  # it is the mode of the container's root too
        write_whole(place / "config.json", json.dumps(config).encode())
        return await self._supervised(container_id, ["run", container_id], sandbox, ends)

    async def enter(
        self,
        container_id: str,
        host: str,
        process: Mapping[str, Any],
        sandbox: Path,
        *,
        ends: Ends | None = None,
    ) -> Process:
        """Start a process inside the container *host*, known under an id of its own."""
        place = self.layout.run(container_id)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(place / PROCESS, json.dumps(process).encode())
        below = self.cgroups.make_below(container_id, host)
        what = f"exec:{below}" if below is not None else "exec"
        return await self._supervised(container_id, [what, host], sandbox, ends)

    async def _supervised(
        self, container_id: str, what: Sequence[str], sandbox: Path, ends: Ends | None
    ) -> Process:
        place = self.layout.run(container_id)
        arguments = [str(place), self.runc, str(self.layout.runc), str(self.most_output), *what]
        files = [str(sandbox / "stdout"), str(sandbox / "stderr")]
        if ends is None:
            arguments += [os.devnull, *files]
        else:
            await self._switch(place, ends, files)
            names = ("stdin", "stdout", "stderr")
            pipes = [str(place / name) for name in names]
            arguments += ["console"] * 3 if ends.is_terminal else pipes
        try:
            start = self.spawner.supervise if self.spawner is not None else supervise
            line = await start(arguments, timeout_seconds=LAUNCH_SECONDS)
        except TimeoutError as error:
            raise ContainerError(f"runc: did not start in {LAUNCH_SECONDS:g} s") from error
        try:
            told = json.loads(line)
        except ValueError as error:
            raise ContainerError("supervisor: ended without a word") from error
        if "started" not in told:
            raise ContainerError(str(told["exit"]["error"]))
        return _process(told["started"])

    async def _switch(self, place: Path, ends: Ends, files: Sequence[str]) -> None:
        """Start the program that holds a container's input and output."""
        flow = "wait" if ends.waits else "flow"
        try:
            line = await supervise(
                [str(place), ends.kind, flow, *files],
                timeout_seconds=LAUNCH_SECONDS,
                program=SWITCHBOARD,
            )
        except TimeoutError as error:
            raise ContainerError(f"switchboard: did not start in {LAUNCH_SECONDS:g} s") from error
        if line.strip() != b"ready":
            raise ContainerError("switchboard: ended without a word")

    def find(self, container_id: str) -> Run:
        """Read what is known of a container."""
        place = self.layout.run(container_id)
        supervisor, init = (read_json(place / name) for name in ("supervisor", "started"))
        return Run(
            supervisor=_process(supervisor) if supervisor else None,
            init=_process(init) if init else None,
            exit=_ended_as(read_json(place / "exit")),
            started=init.get("started") if init else None,
        )

    def known(self) -> tuple[str, ...]:
        """Return every container that has a run directory."""
        if not self.layout.containers.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.layout.containers.iterdir()))

    async def wait(self, container_id: str) -> Ended:
        """Wait for a container's end and return how it was.

        A supervisor that was killed can't tell any more: its container is killed then.
        """
        found = self.find(container_id)
        if found.supervisor is not None:
            await ended(found.supervisor)
        found = self.find(container_id)
        if found.exit is not None:
            return found.exit
        log.warning("supervisor_lost", container=container_id)
        if found.init is not None and kill(found.init):
            await ended(found.init)
        return Ended(status=int(signal.SIGKILL))

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to every process of a container but its init."""
        for pid in self._command_processes(container_id):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _command_processes(self, container_id: str) -> tuple[int, ...]:
        init = self.find(container_id).init
        if init is None:
            return ()
        pids = self.cgroups.processes(container_id)
        if self._is_entered(container_id):  # its first process is the command itself
            return pids or ((init.pid,) if is_alive(init) else ())
        return tuple(pid for pid in pids if pid != init.pid)

    def _is_entered(self, container_id: str) -> bool:
        return (self.layout.run(container_id) / PROCESS).exists()

    def kill(self, container_id: str) -> None:
        """Kill a container; all of it dies with its init."""
        init = self.find(container_id).init
        if init is not None:
            kill(init)
        self.signal(container_id, signal.SIGKILL)  # it need not lead a pid namespace

    async def execute(
        self, container_id: str, command: CommandInfo, *, timeout_seconds: float | None
    ) -> int:
        """Run a command inside a container; return its status; raise TimeoutError, ContainerError.

        One that takes too long, or is no longer wanted, is killed with all that it started.
        """
        base = [self.runc, "--root", str(self.layout.runc), "exec"]
        before = self._strays(container_id)
        try:
            done = await run(
                [*base, container_id, *command_line(command)], timeout_seconds=timeout_seconds
            )
        except BaseException:
            for pid in self._strays(container_id) - before:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        return done.status

    async def update(
        self,
        container_id: str,
        resources: Resources,
        limits: Mapping[str, Scalar],
        terms: Terms,
    ) -> None:
        """Hold a container's cgroup to other amounts; raise ContainerError in runc's words.

        The hard limit of memory is only ever raised: what is used can't be taken back.
        """
        held = resource_limits(resources, limits, terms)
        now = self.cgroups.statistics(container_id).get("mem_limit_bytes", 0)
        memory = held.get("memory", {})
        for key in memory.keys() & {"limit", "swap"}:
            memory[key] = max(memory[key], now)
        command = [self.runc, "--root", str(self.layout.runc), "update", "--resources", "-"]
        try:
            done = await run(
                [*command, container_id],
                given=json.dumps(held).encode(),
                timeout_seconds=DELETE_SECONDS,
            )
        except TimeoutError as error:
            raise ContainerError(f"runc update {container_id}: hangs") from error
        if done.status != 0:
            raise ContainerError(f"runc update: {done.err.decode(errors='replace').strip()}")

    def _strays(self, container_id: str) -> frozenset[int]:
        """Return the processes that are in a container but not of its command."""
        init = self.find(container_id).init
        parents = {pid: parent_of(pid) for pid in self.cgroups.processes(container_id)}
        return strays(parents, init.pid if init is not None else 0)

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container with its run directory; one that is not there is fine."""
        place = self.layout.run(container_id)
        found = self.find(container_id)
        if found.exit is None and found.supervisor is not None and is_alive(found.supervisor):
            _kill_group(found.supervisor.pid)
            await ended(found.supervisor)
            if found.init is not None and kill(found.init):
                await ended(found.init)
        if (self.layout.runc / container_id).exists():
            command = [self.runc, "--root", str(self.layout.runc), "delete", "--force"]
            try:
                await run([*command, container_id], timeout_seconds=DELETE_SECONDS)
            except TimeoutError as error:
                raise ContainerError(f"runc delete {container_id}: hangs") from error
        self._end_switchboard(place, has_started=found.init is not None)
        await asyncio.to_thread(self.cgroups.remove_container, container_id)
        try:
            await asyncio.to_thread(shutil.rmtree, place)
        except FileNotFoundError:
            return
        except OSError as error:  # a disk that is read-only for a while: it is tried again
            raise ContainerError(f"{place}: {error.strerror}") from error

    def _end_switchboard(self, place: Path, *, has_started: bool) -> None:
        """End a switchboard that no container ever used; any other ends when all is read."""
        facts = read_json(place / "switchboard")
        if facts is not None and not has_started:
            kill(_process(facts))


def _process(facts: Mapping[str, Any]) -> Process:
    return Process(int(facts["pid"]), int(facts["start_time"]))


def _ended_as(facts: Mapping[str, Any] | None) -> Ended | None:
    if facts is None:
        return None
    return Ended(
        status=facts.get("status"),
        error=facts.get("error"),
        oom_kills=int(facts.get("oom_kills", 0)),
        memory_used=int(facts.get("memory_used", 0)),
        memory_stat=tuple(facts.get("memory_stat", ())),
        finished=facts.get("finished"),
    )


def _kill_group(pid: int) -> None:
    """Kill a process that leads a group, with the group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
