"""The unix socket on which plugins ask the plane to attach and detach containers."""

import asyncio
import os
import socket
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import structlog

from phalanx.core.error import ConfigError, PhalanxError
from phalanx.net.attachment.attachments import Attachments
from phalanx.net.attachment.bridge import LeasedNetwork, leased_networks
from phalanx.net.attachment.commands import carry_out
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.request import Command, Request
from phalanx.net.ipam.owner import Owner
from phalanx.net.model.view import View
from phalanx.plane.cni.wire import LONGEST_LINE, decode_request, encode_error, encode_result

log = structlog.get_logger()

BACKLOG = 1024


class CniServer:
    """Answers plugins while it is entered, one command after the other in *thread*.

    A DEL is carried out in *leaving*, if given, where several may be under way at once.
    One owner's commands never are: a DEL waits for the ADD of a runtime that died.
    *view* returns the newest View, or None before the first; *in_sync* tells
    whether it is known to be the newest, so that a network that is not in it
    can be refused for good. *walled* returns the View that the isolation table
    holds: a network waits until it is in there. *changed* is called after each
    ADD, DEL and GC.
    """

    def __init__(
        self,
        path: Path,
        *,
        node: IPv4Address,
        view: Callable[[], View | None],
        walled: Callable[[], View | None],
        in_sync: Callable[[], bool],
        attachments: Attachments,
        thread: Executor,
        leaving: Executor | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._path = path
        self._node = node
        self._view = view
        self._walled = walled
        self._in_sync = in_sync
        self._attachments = attachments
        self._thread = thread
        self._leaving = leaving or thread
        self._turns: WeakValueDictionary[Owner, asyncio.Lock] = WeakValueDictionary()
        self._changed = changed
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._idle: set[asyncio.Task[Any]] = set()  # wait for a request
        self._busy: set[asyncio.Task[Any]] = set()  # carry one out

    async def __aenter__(self) -> Self:
        """Listen; raise ConfigError when the path can't be used."""
        try:
            listener = _listen(self._path)
        except OSError as error:
            raise ConfigError(f"cni socket: {str(self._path)!r}: {error.strerror}") from error
        self._inode = self._path.stat().st_ino
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=LONGEST_LINE, backlog=BACKLOG
        )
        log.info("listening", socket=str(self._path), protocol="cni")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and let what was begun come to its end; who only listens is sent away."""
        if self._server is not None:
            self._server.close()
            with suppress(FileNotFoundError):
                # A plane that took our place has a socket of its own there by now.
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
        for task in self._idle:
            task.cancel()
        if pending := self._busy | self._idle:
            await asyncio.wait(pending)

    async def answer(self, line: bytes) -> bytes:
        """Carry out the command in one line and return the line that answers it."""
        began = time.monotonic()
        request: Request | None = None
        try:
            request = decode_request(line)
            result = await self._carry_out(request)
        except PhalanxError as error:
            log.warning("cni_refused", **_fields(request), error=str(error))
            return encode_error(error)
        except Exception as error:
            # A bug in one command must not leave its runtime without an answer.
            log.exception("cni_failed", **_fields(request))
            return encode_error(CniError(Code.INTERNAL, f"internal error: {error!r}"))
        if request.command in (Command.ADD, Command.DEL, Command.GC):
            milliseconds = round((time.monotonic() - began) * 1000, 1)
            log.info("cni_served", **_fields(request), milliseconds=milliseconds)
            self._changed()
        return encode_result(result)

    async def _carry_out(self, request: Request) -> dict[str, Any]:
        thread = self._leaving if request.command is Command.DEL else self._thread
        async with self._turns.setdefault(request.owner, asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(
                thread,
                lambda: carry_out(self._attachments, request, lambda: self._network(request)),
            )

    def _network(self, request: Request) -> LeasedNetwork:
        """Return the network of a request as this node has it; raise CniError if it has none."""
        view = self._view()
        networks = {} if view is None else leased_networks(view, node=self._node)
        is_status = request.command is Command.STATUS
        if (network := networks.get(request.network)) is not None:
            if not self._is_walled(request.network):
                raise CniError(
                    Code.NOT_AVAILABLE if is_status else Code.TRY_LATER,
                    f"network {request.network!r}: its walls do not stand yet",
                )
            return network
        if view is None or not self._in_sync():
            raise CniError(
                Code.NOT_AVAILABLE if is_status else Code.TRY_LATER,
                f"network {request.network!r}: the plane is not in sync with the cluster yet",
            )
        known = request.network in view.networks
        raise CniError(
            Code.NOT_AVAILABLE if is_status else Code.BAD_CONFIG,
            f"network {request.network!r}: no subnet is leased to this node, {self._node}"
            if known
            else f"network {request.network!r}: there is none of this name",
        )

    def _is_walled(self, network: str) -> bool:
        """Tell whether the isolation table holds the network as the newest View has it."""
        view, walled = self._view(), self._walled()
        if view is None or walled is None:
            return False
        return walled.networks.get(network) == view.networks.get(network)

    async def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        try:
            with suppress(ConnectionError):
                line = await reader.readline()
                self._idle.discard(task)
                self._busy.add(task)
                if line:
                    writer.write(await self.answer(line))
                    await writer.drain()
        except ValueError:
            log.warning("cni_refused", error=f"request of more than {LONGEST_LINE} bytes")
        except asyncio.CancelledError:
            log.info("cni_client_dismissed")
        finally:
            self._idle.discard(task)
            self._busy.discard(task)
            writer.close()


def _fields(request: Request | None) -> dict[str, str]:
    if request is None:
        return {}
    return {
        "command": request.command.value,
        "network": request.network,
        "container": str(request.owner),
    }


def _listen(path: Path) -> socket.socket:
    """Bind a socket that only root may use, in place of one that a dead plane left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        draft.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        draft.replace(path)
    except BaseException:
        listener.close()
        raise
    return listener
