"""Containers that executors and operators start by a call: nested, debug and standalone ones.

What is kept of each lies in ``RUNTIME/called/<id>``: that it is ours, where its
sandbox is and, once it has ended, how. That stays for whoever waits, until the
container is removed by a call or its root container is no more.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import structlog

from phalanx.agent.bundle.request import (
    ContainerRequest,
    Kind,
    Stdio,
    id_message,
    id_text,
    lineage,
)
from phalanx.agent.container.containerizer import Containerizer, Exit, Limitation
from phalanx.core.error import ConflictError, ContainerError, InvalidError, NotFoundError
from phalanx.core.files import write_whole
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import Message, decode, encode
from phalanx.mesos.v1.mesos import CommandInfo, ContainerID, ContainerInfo, Resource, Scalar

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a root container is, and where its sandbox lies."""

    sandbox: Path
    user: str | None = None
    framework_id: str | None = None
    executor_id: str | None = None


class Called(Message, frozen=True, kw_only=True):
    """What is kept of one container."""

    kind: str
    sandbox: str
    has_ended: bool = False
    status: int | None = None
    error: str | None = None
    reason: str | None = None
    message: str | None = None
    resources: tuple[Resource, ...] = ()

    @property
    def exit(self) -> Exit:
        """Return how it ended."""
        limitation = None
        if self.reason is not None:
            limitation = Limitation(self.reason, self.message or "", self.resources)
        return Exit(self.status, self.error, limitation)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants run."""

    container_id: ContainerID
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    resources: tuple[Resource, ...] = ()
    limits: Mapping[str, Scalar] | None = None
    is_session: bool = False


class Nested:
    """The containers of this agent that were asked for by a call.

    *owner* finds who a root container belongs to, None when it is nobody's.
    *remove* removes a container for as long as it takes.
    """

    def __init__(
        self,
        containerizer: Containerizer,
        directory: Path,
        standalone: Path,
        group: asyncio.TaskGroup,
        *,
        owner: Callable[[str], Owner | None],
        remove: Callable[[str], Awaitable[None]],
    ) -> None:
        self._containerizer = containerizer
        self._directory = directory
        self._standalone = standalone
        self._group = group
        self._owner = owner
        self._remove = remove
        self._called: dict[str, Called] = {}
        self._endings: dict[str, asyncio.Task[None]] = {}

    def recover(self) -> None:
        """Take up what an earlier agent was asked for; what did not start is removed."""
        for path in sorted(self._directory.glob("*")):
            try:
                self._called[path.name] = decode(Called, path.read_bytes())
            except (OSError, InvalidError):
                path.unlink(missing_ok=True)
        self._prune()
        for name, called in tuple(self._called.items()):
            if called.has_ended:
                continue
            if self._containerizer.find(name).init is None:
                self._forget(name)
                self._group.create_task(_awaited(self._remove(name)))
            else:
                self._attend(name)
                if called.kind == "debug":  # its connection ended with the agent
                    self._containerizer.kill(name)

    def roots(self) -> frozenset[str]:
        """Return the standalone containers, which belong to nobody else."""
        return frozenset(name for name in self._called if "." not in name)

    def shown(self) -> Mapping[str, Literal["nested", "standalone"]]:
        """Return every container that runs below another one or was started alone."""
        found: dict[str, Literal["nested", "standalone"]] = {}
        for name in self._containerizer.known():
            run = self._containerizer.find(name)
            if run.init is None or run.exit is not None:
                continue
            if "." in name:
                found[name] = "nested"
            elif name in self._called:
                found[name] = "standalone"
        return found

    async def launch(self, wish: Wish) -> bool:
        """Start a container; False when it was started before.

        What a session's says is kept until `attend`, by who hears it.

        Raises InvalidError for one that can't be, ContainerError where its launch failed.
        """
        name = _name(wish.container_id)
        self._prune()
        if name in self._called or self._containerizer.find(name).init is not None:
            return False
        request = self._request(name, wish)
        self._keep(name, Called(kind=request.kind, sandbox=str(request.sandbox)))
        # Whoever asks may hang up at any time: what is begun is carried through.
        starting = self._group.create_task(self._start(name, request))
        try:
            error = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(lambda _: self.attend(wish.container_id))
            raise
        if error is not None:
            raise error
        return True

    async def _start(self, name: str, request: ContainerRequest) -> ContainerError | None:
        """Start a container; return why it could not be."""
        try:
            await self._containerizer.launch(request)
        except ContainerError as error:
            self._forget(name)
            self._group.create_task(_awaited(self._remove(name)))
            return error
        log.info("container_launched", container=name, kind=request.kind)
        if request.stdio != "session":
            self._attend(name)
        return None

    def attend(self, container_id: ContainerID) -> None:
        """Remove the container of a session when it has ended; whoever listens is connected."""
        name = _name(container_id)
        called = self._called.get(name)
        if called is not None and not called.has_ended and name not in self._endings:
            self._attend(name)

    async def wait(self, container_id: ContainerID) -> Exit:
        """Wait for a container's end; raise NotFoundError for one that we don't know."""
        name = _name(container_id)
        self._prune()
        called = self._called.get(name)
        if called is not None and called.has_ended:
            return called.exit
        attending = self._endings.get(name)
        if called is not None and attending is not None:
            await asyncio.shield(attending)
            ended = self._called.get(name)
            if ended is None or not ended.has_ended:
                raise NotFoundError(_unknown(name))
            return ended.exit
        found = self._containerizer.find(name)
        if found.init is None or ("." in name and found.exit is not None):
            raise NotFoundError(_unknown(name))
        return await self._containerizer.wait(name)

    def kill(self, container_id: ContainerID, number: int) -> None:
        """Send a signal to a container; raise NotFoundError for one that does not run."""
        name = _name(container_id)
        called = self._called.get(name)
        if not self._runs(name) and (called is None or called.has_ended):
            raise NotFoundError(f"Container {name} cannot be found (or is already killed)")
        if number == 9:  # SIGKILL ends what is nested in it as well
            self._containerizer.kill(name)
        else:
            self._containerizer.signal(name, number)

    async def remove(self, container_id: ContainerID) -> None:
        """Remove a container that has ended, with its sandbox; one that is gone is fine.

        Raises ConflictError for one that runs.
        """
        name = _name(container_id)
        called = self._called.get(name)
        if called is None:
            if self._runs(name):
                raise ConflictError(f"Container {name} is not of this call's kind, or still runs")
            return
        if not called.has_ended:
            raise ConflictError(f"Container {name} has not terminated yet")
        await asyncio.to_thread(shutil.rmtree, called.sandbox, ignore_errors=True)
        self._forget(name)

    def _request(self, name: str, wish: Wish) -> ContainerRequest:
        """Return the request for a wish; raise InvalidError for one that has no place here."""
        root = name.partition(".")[0]
        if root == name:
            return self._standalone_request(name, wish)
        parent = next(lineage(name))
        owner = self._owner(root)
        if owner is None and root in self._called:
            owner = Owner(Path(self._called[root].sandbox))
        if owner is None or not self._runs(parent):
            raise InvalidError(f"Parent container {parent} does not exist or has terminated")
        own = wish.command.user if wish.command else None
        linux = wish.container.linux_info if wish.container else None
        kind: Kind = "debug" if wish.is_session else "nested"
        stdio: Stdio = "session" if wish.is_session else "files"
        return ContainerRequest(
            container_id=id_message(name),
            kind=kind,
            sandbox=sandbox_of(owner.sandbox, name),
            command=wish.command,
            container=wish.container,
            resources=Resources.of(wish.resources),
            limits=wish.limits or {},
            user=own if wish.is_session else own or owner.user,
            framework_id=owner.framework_id,
            executor_id=owner.executor_id,
            has_own_cgroup=linux is not None and not linux.share_cgroups,
            stdio=stdio,
        )

    def _standalone_request(self, name: str, wish: Wish) -> ContainerRequest:
        if wish.is_session:
            raise InvalidError("Expecting 'container_id.parent' to be present")
        return ContainerRequest(
            container_id=id_message(name),
            kind="standalone",
            sandbox=self._standalone / name,
            command=wish.command,
            container=wish.container,
            resources=Resources.of(wish.resources),
            limits=wish.limits or {},
            user=wish.command.user if wish.command else None,
        )

    def _runs(self, name: str) -> bool:
        found = self._containerizer.find(name)
        return found.init is not None and found.exit is None

    def _attend(self, name: str) -> None:
        self._endings[name] = self._group.create_task(self._until_end(name))

    async def _until_end(self, name: str) -> None:
        """Be with a container until it has ended, and keep how."""
        exit = await self._containerizer.wait(name)
        limit = exit.limitation
        called = msgspec.structs.replace(
            self._called[name],
            has_ended=True,
            status=exit.status,
            error=exit.error,
            reason=limit.reason if limit else None,
            message=limit.message if limit else None,
            resources=limit.resources if limit else (),
        )
        self._keep(name, called)
        self._endings.pop(name, None)
        log.info("container_ended", container=name, status=exit.status)
        self._group.create_task(_awaited(self._remove(name)))

    def _prune(self) -> None:
        """Forget what was nested in containers that are no more."""
        for name, called in tuple(self._called.items()):
            root = name.partition(".")[0]
            is_orphan = root != name and self._owner(root) is None and root not in self._called
            if is_orphan and (called.has_ended or name not in self._endings):
                self._forget(name)

    def _keep(self, name: str, called: Called) -> None:
        self._called[name] = called
        write_whole(self._directory / name, encode(called))

    def _forget(self, name: str) -> None:
        self._called.pop(name, None)
        (self._directory / name).unlink(missing_ok=True)


def sandbox_of(root: Path, name: str) -> Path:
    """Return the sandbox of a nested container below its root's."""
    place = root
    for child in name.split(".")[1:]:
        place = place / "containers" / child
    return place


def _name(container_id: ContainerID) -> str:
    try:
        return id_text(container_id)
    except ContainerError as error:
        raise InvalidError(str(error)) from error


def _unknown(name: str) -> str:
    return f"Container {name} cannot be found"


async def _awaited(awaitable: Awaitable[None]) -> None:
    await awaitable
