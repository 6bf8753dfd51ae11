"""One Docker engine: its own package for what it answers, its command for what operators word.

``docker create`` takes the parameters of a DockerInfo as operators know them, and
``docker pull`` their credentials; all else is asked of the engine directly.
"""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import structlog
from requests.exceptions import RequestException

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from phalanx.agent.docker.pause import PROGRAM, pause_image
from phalanx.agent.docker.request import OWNER_LABEL
from phalanx.agent.exec import run
from phalanx.agent.process import Process, ended, start_time
from phalanx.core.error import ContainerError

log = structlog.get_logger()

T = TypeVar("T")

CREATE_SECONDS = 60.0
PULL_SECONDS = 3600.0
ANSWER_SECONDS = 60.0
PAUSE_REPOSITORY = "phalanx/pause"
PAUSE_TAG = "1"
PAUSE_IMAGE = f"{PAUSE_REPOSITORY}:{PAUSE_TAG}"
OK = 0
THREADS = 32
LOOK_SECONDS = 0.02


class Engine:
    """A Docker engine on a socket of this machine; every failure is a ContainerError."""

    def __init__(self, socket: Path, command: str = "docker") -> None:
        self.socket = socket
        self._command = command
        # Its own threads: a command that hangs in a container must hold up nobody else's work.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")
        url = f"unix://{socket}"
        if not socket.is_socket():
            raise ContainerError(f"docker: {url}: there is no engine")
        try:
            self._api = docker.APIClient(base_url=url, version="auto", timeout=int(ANSWER_SECONDS))
        except (DockerException, RequestException) as error:
            raise ContainerError(f"docker: {url}: {error}") from error

    def close(self) -> None:
        """Let go of the connections to the engine."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._api.close()

    async def create(self, words: Sequence[str]) -> None:
        """Create a container as ``docker create`` with *words* would."""
        await self._run("create", *words, timeout_seconds=CREATE_SECONDS)

    async def pull(self, image: str, config: Path | None = None) -> None:
        """Pull an image with the credentials in the directory *config*."""
        options = ["--config", str(config)] if config is not None else []
        await self._run("pull", image, options=options, timeout_seconds=PULL_SECONDS)

    async def _run(self, *words: str, timeout_seconds: float, options: Sequence[str] = ()) -> None:
        command = [self._command, *options, "-H", f"unix://{self.socket}", *words]
        try:
            done = await run(command, timeout_seconds=timeout_seconds)
        except TimeoutError as error:
            raise ContainerError(f"docker {words[0]}: hangs") from error
        if done.status != OK:
            said = done.err.decode(errors="replace").strip().splitlines()
            raise ContainerError(f"docker {words[0]}: {said[0] if said else done.status}")

    async def has_image(self, name: str) -> bool:
        """Tell whether an image is there."""
        try:
            await self._ask(self._api.inspect_image, name)
        except ContainerError as error:
            if isinstance(error.__cause__, ImageNotFound):
                return False
            raise
        return True

    async def ensure_pause(self) -> str:
        """Return the image of the process that holds networks, made if it is not there."""
        if not await self.has_image(PAUSE_IMAGE):
            image = pause_image(platform.machine())
            changes = [f'ENTRYPOINT ["/{PROGRAM}"]']
            await self._ask(
                lambda: self._api.import_image_from_data(
                    image, repository=PAUSE_REPOSITORY, tag=PAUSE_TAG, changes=changes
                )
            )
        return PAUSE_IMAGE

    async def start(self, name: str) -> None:
        """Start a container."""
        await self._ask(self._api.start, name)

    async def inspect(self, name: str) -> dict[str, Any] | None:
        """Return what the engine knows of a container; None if it knows none."""
        try:
            facts = await self._ask(self._api.inspect_container, name)
        except ContainerError as error:
            if isinstance(error.__cause__, NotFound):
                return None
            raise
        return dict(facts)

    async def remove(self, name: str) -> None:
        """Kill and remove a container with its volumes; one that is not there is fine."""
        try:
            await self._ask(lambda: self._api.remove_container(name, v=True, force=True))
        except ContainerError as error:
            cause = error.__cause__
            is_going = isinstance(cause, APIError) and cause.status_code == 409
            if not isinstance(cause, NotFound) and not is_going:
                raise

    async def owned(self, owner: str) -> tuple[str, ...]:
        """Return the names of all containers that carry an owner's label."""
        found = await self._ask(
            lambda: self._api.containers(all=True, filters={"label": f"{OWNER_LABEL}={owner}"})
        )
        return tuple(sorted(str(item["Names"][0]).lstrip("/") for item in found if item["Names"]))

    async def execute(self, name: str, words: Sequence[str]) -> "Execution":
        """Begin a command inside a container."""
        made = await self._ask(
            lambda: self._api.exec_create(name, list(words), stdout=True, stderr=True)
        )
        return Execution(self._api, self._ask, str(made["Id"]))

    async def statistics(self, name: str) -> Mapping[str, Any]:
        """Return what a container uses, as the engine counts it."""
        found = await self._ask(lambda: self._api.stats(name, stream=False, one_shot=True))
        return dict(found)

    async def update(self, name: str, amounts: Mapping[str, Any]) -> None:
        """Hold a running container to other amounts, named as the engine's package does."""
        await self._ask(lambda: self._api.update_container(name, **amounts))

    async def _ask(self, call: Callable[..., T], *arguments: object) -> T:
        """Call the package in a thread; it waits for its answer."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(_answered, call, *arguments))


Ask = Callable[..., Awaitable[Any]]


class Execution:
    """A command that runs inside a container."""

    def __init__(self, api: docker.APIClient, ask: Ask, id: str) -> None:
        self._api = api
        self._ask = ask
        self._id = id

    async def run(self) -> int:
        """Run it to its end and return its exit code; whatever it says is thrown away."""
        await self._ask(lambda: self._api.exec_start(self._id, detach=True))
        while True:
            facts = await self._ask(self._api.exec_inspect, self._id)
            if not facts["Running"] and facts["ExitCode"] is not None:
                return int(facts["ExitCode"])
            pid = int(facts["Pid"] or 0)
            started = start_time(pid) if pid else None
            if started is not None:
                await ended(Process(pid, started))
            await asyncio.sleep(LOOK_SECONDS)  # waits: for the engine to notice that it ended

    async def pid(self) -> int:
        """Return its process as this machine sees it; 0 when there is none."""
        facts = await self._ask(self._api.exec_inspect, self._id)
        return int(facts["Pid"] or 0) if facts["Running"] else 0


def _answered(call: Callable[..., T], *arguments: object) -> T:
    try:
        return call(*arguments)
    except APIError as error:
        raise ContainerError(f"docker: {error.explanation or error}") from error
    except (DockerException, RequestException) as error:
        raise ContainerError(f"docker: {error}") from error
