"""The container calls of the agent's operator API (reference mesos §3.3)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from aiohttp import HttpVersion11, web

from phalanx.agent.bundle.request import id_message, id_text
from phalanx.agent.container.containerizer import Exit
from phalanx.agent.executor.executors import Executors
from phalanx.agent.executor.hosts import Host, other_hosts, root_hosts
from phalanx.agent.executor.nested import Nested, Wish
from phalanx.agent.layout import Layout
from phalanx.agent.session.attachment import Attachment, attach
from phalanx.agent.session.process_io import heartbeat, input_frame, output, target
from phalanx.core.error import ConflictError, ContainerError, InvalidError, NotFoundError
from phalanx.mesos.api.answer import answer
from phalanx.mesos.api.call import Terms
from phalanx.mesos.api.streaming import read_records
from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1.agent import (
    Call,
    GetContainers,
    GetContainersAnswer,
    GetContainersContainer,
    KillContainer,
    KillNestedContainer,
    ProcessIO,
    RemoveContainer,
    RemoveNestedContainer,
    Response,
    WaitContainer,
    WaitContainerAnswer,
    WaitNestedContainer,
    WaitNestedContainerAnswer,
)
from phalanx.mesos.v1.codec import Message
from phalanx.mesos.v1.media import RECORDIO, decode_as, encode_as
from phalanx.mesos.v1.mesos import (
    ContainerID,
    ExecutorID,
    FrameworkID,
    TaskResourceLimitation,
    TaskState,
)

HEARTBEAT_SECONDS = 30.0
DRAIN_SECONDS = 2.0  # for what an ended container may still have written
SIGKILL = 9
NO_SWITCHBOARD = "I/O switchboard server was disabled for this container"  # clients match it


@dataclass(frozen=True, slots=True)
class Desk:
    """What the container calls need of the agent."""

    executors: Executors
    layout: Layout
    heartbeat_seconds: float = HEARTBEAT_SECONDS

    @property
    def nested(self) -> Nested:
        """Return the containers that are started by a call."""
        return self.executors.nested


M = TypeVar("M", bound=Message)

DESK: web.AppKey[Desk] = web.AppKey("desk", Desk)

STREAMS = frozenset({"LAUNCH_NESTED_CONTAINER_SESSION", "ATTACH_CONTAINER_OUTPUT"})


async def call_container(
    request: web.Request, call: Call, terms: Terms
) -> web.StreamResponse | None:
    """Answer a call about a container; None when it is none."""
    if call.type in STREAMS:
        return await _streamed(request, call, terms)
    desk = request.app[DESK]
    if call.type == "GET_CONTAINERS":
        made: web.Response | None = answer(await _listed(desk.executors, call), terms.accept)
    else:
        made = await _answered(desk.nested, call, terms)
    if made is not None and terms.is_streaming_answer:
        text = f"Streaming response is not supported for {call.type} call"
        raise web.HTTPNotAcceptable(text=text)
    return made


async def _answered(nested: Nested, call: Call, terms: Terms) -> web.Response | None:
    wish = _wish(call)
    if wish is not None:
        return await _launch(nested, wish)
    kind, is_nested = str(call.type).replace("_NESTED", ""), "NESTED" in str(call.type)
    if kind == "WAIT_CONTAINER":
        wait: WaitContainer | WaitNestedContainer | None = call.wait_container
        if is_nested:
            wait = call.wait_nested_container
        if wait is None:
            raise _missing(call)
        exit = await nested.wait(wait.container_id)
        return answer(_waited(str(call.type), exit), terms.accept)
    if kind == "KILL_CONTAINER":
        kill: KillContainer | KillNestedContainer | None = call.kill_container
        if is_nested:
            kill = call.kill_nested_container
        if kill is None:
            raise _missing(call)
        nested.kill(kill.container_id, SIGKILL if kill.signal is None else kill.signal)
        return web.Response()
    if kind == "REMOVE_CONTAINER":
        remove: RemoveContainer | RemoveNestedContainer | None = call.remove_container
        if is_nested:
            remove = call.remove_nested_container
        if remove is None:
            raise _missing(call)
        try:
            await nested.remove(remove.container_id)
        except ConflictError as error:
            return web.Response(status=500, text=str(error))
        return web.Response()
    return None


async def _listed(executors: Executors, call: Call) -> Response:
    """Return the containers that run, with the nested and standalone ones if asked."""
    asked = call.get_containers or GetContainers()
    hosts = [
        *root_hosts(executors),
        *other_hosts(
            executors,
            nested=bool(asked.show_nested),
            standalone=bool(asked.show_standalone),
        ),
    ]
    rows = tuple([await _row(executors, host) for host in hosts])
    return Response(type="GET_CONTAINERS", get_containers=GetContainersAnswer(containers=rows))


async def _row(executors: Executors, host: Host) -> GetContainersContainer:
    owner, executor = host.framework_id, host.executor_id
    return GetContainersContainer(
        framework_id=FrameworkID(value=owner) if owner is not None else None,
        executor_id=ExecutorID(value=executor) if executor is not None else None,
        executor_name=host.name if executor is not None else None,
        container_id=id_message(host.container_id),
        container_status=host.status,
        resource_statistics=await executors.station.containerizer.statistics(host.container_id),
    )


def _wish(call: Call) -> Wish | None:
    """Return what a call wants launched, if it does."""
    if call.type == "LAUNCH_CONTAINER":
        part = _present(call, call.launch_container)
        return Wish(
            part.container_id, part.command, part.container, part.resources, dict(part.limits)
        )
    if call.type == "LAUNCH_NESTED_CONTAINER":
        old = _present(call, call.launch_nested_container)
        if old.container_id.parent is None:
            raise InvalidError("Expecting 'container_id.parent' to be present")
        return Wish(old.container_id, old.command, old.container)
    return None


async def _launch(nested: Nested, wish: Wish) -> web.Response:
    try:
        is_new = await nested.launch(wish)
    except ContainerError as error:
        return web.Response(status=400, text=f"Failed to launch container: {error}")
    return web.Response(status=200 if is_new else 202)


def _waited(kind: str, exit: Exit) -> Response:
    """Return how a container ended, as whoever waited is told."""
    limit = exit.limitation
    told = WaitContainerAnswer(
        exit_status=exit.status,
        state=TaskState.TASK_FAILED if limit or exit.error is not None else None,
        reason=limit.reason if limit else None,
        limitation=TaskResourceLimitation(resources=limit.resources) if limit else None,
        message=limit.message if limit else exit.error,
    )
    if kind == "WAIT_CONTAINER":
        return Response(type=kind, wait_container=told)
    old = WaitNestedContainerAnswer(
        **{name: getattr(told, name) for name in told.__struct_fields__}
    )
    return Response(type=kind, wait_nested_container=old)


async def _streamed(request: web.Request, call: Call, terms: Terms) -> web.StreamResponse:
    """Stream what a container writes; the container of a session ends with its connection."""
    desk = request.app[DESK]
    if call.type == "ATTACH_CONTAINER_OUTPUT":
        part = _present(call, call.attach_container_output)
        attachment = await _attach(desk, part.container_id, listens=True)
        return await _stream(request, terms, attachment, desk, part.container_id)
    session = _present(call, call.launch_nested_container_session)
    wish = Wish(session.container_id, session.command, session.container, is_session=True)
    try:
        is_new = await desk.nested.launch(wish)
    except ContainerError as error:
        return web.Response(status=400, text=f"Failed to launch container: {error}")
    except asyncio.CancelledError:
        with suppress(NotFoundError):
            desk.nested.kill(session.container_id, SIGKILL)
        raise
    if not is_new:
        return web.Response(status=202)
    try:
        try:
            attachment = await _attach(desk, session.container_id, listens=True)
        finally:
            desk.nested.attend(session.container_id)
        return await _stream(request, terms, attachment, desk, session.container_id)
    finally:
        with suppress(NotFoundError):
            desk.nested.kill(session.container_id, SIGKILL)


async def _stream(
    request: web.Request,
    terms: Terms,
    attachment: Attachment,
    desk: Desk,
    container_id: ContainerID,
) -> web.StreamResponse:
    stream = terms.stream("")
    response = web.StreamResponse(headers=stream.headers)
    if request.version >= HttpVersion11:
        response.enable_chunked_encoding()
    lock = asyncio.Lock()

    async def write(io: ProcessIO) -> None:
        async with lock:
            await response.write(encode_record(encode_as(terms.accept, io)))

    async def beat() -> None:
        while True:
            await asyncio.sleep(desk.heartbeat_seconds)
            await write(heartbeat(desk.heartbeat_seconds))

    beating = None
    try:
        await response.prepare(request)
        beating = asyncio.ensure_future(beat())
        async for kind, data in _until_ended(attachment, desk.nested, container_id):
            await write(output(kind, data))
        beating.cancel()
        await response.write_eof()
    except ConnectionError:
        pass  # whoever listened is gone
    finally:
        if beating is not None:
            beating.cancel()
        await attachment.close()
    return response


async def _until_ended(
    attachment: Attachment, nested: Nested, container_id: ContainerID
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield what a container writes, and for a while what it left behind writes."""
    outputs = attachment.outputs()
    ending = asyncio.ensure_future(_end_of(nested, container_id))
    try:
        while True:
            coming = asyncio.ensure_future(anext(outputs, None))
            try:
                if not ending.done():
                    await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
                async with asyncio.timeout(DRAIN_SECONDS if ending.done() else None):
                    found = await asyncio.shield(coming)
            except TimeoutError:
                return
            finally:
                if not coming.done():
                    coming.cancel()
            if found is None:
                return
            yield found
    finally:
        ending.cancel()


async def _end_of(nested: Nested, container_id: ContainerID) -> None:
    with suppress(NotFoundError):
        await nested.wait(container_id)


async def attach_input(request: web.Request, terms: Terms) -> web.Response:
    """Pass a stream of input on to a container (ATTACH_CONTAINER_INPUT)."""
    desk = request.app[DESK]
    attachment: Attachment | None = None
    try:
        async for record in read_records(request):
            call = decode_as(terms.content, Call, record)
            if attachment is None:
                if call.type not in (None, "ATTACH_CONTAINER_INPUT"):
                    words = f"Streaming 'Content-Type' {RECORDIO} is not supported for"
                    raise web.HTTPUnsupportedMediaType(text=f"{words} {call.type} call")
                attachment = await _attach(desk, target(call))
                continue
            frame = input_frame(call)
            if frame is not None:
                await attachment.send(frame)
        if attachment is None:
            raise InvalidError("Expecting a record that names the container")
    finally:
        if attachment is not None:
            await attachment.close()
    return web.Response()


def _present(call: Call, part: M | None) -> M:
    """Return the part of a call that its type needs; raise InvalidError without it."""
    if part is None:
        raise _missing(call)
    return part


def _missing(call: Call) -> InvalidError:
    name = str(call.type).lower()
    return InvalidError(f"Failed to validate agent::Call: Expecting '{name}' to be present")


async def _attach(desk: Desk, container_id: ContainerID, *, listens: bool = False) -> Attachment:
    """Connect to a container; raise NotFoundError if its task or executor is not there.

    Where those are but the container has ended or has no switchboard, it is a
    ContainerError: clients take its 500 for an end that was too quick for them.
    """
    run = _run(desk, container_id)
    try:
        return await attach(run, listens=listens)
    except NotFoundError as error:
        name = id_text(container_id)
        root = name.partition(".")[0]
        if not desk.layout.run(root).is_dir() and not (desk.layout.docker / root).is_dir():
            raise NotFoundError(f"Container {name} cannot be found") from error
        if run.is_dir():
            raise ContainerError(NO_SWITCHBOARD) from error
        raise ContainerError(f"Container {name} has ended") from error


def _run(desk: Desk, container_id: ContainerID) -> Path:
    try:
        return desk.layout.run(id_text(container_id))
    except ContainerError as error:
        raise InvalidError(str(error)) from error
