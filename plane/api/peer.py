"""What planes ask one another about packets, and who may ask.

``POST /v1/trace/here`` on ``--peer-port`` of a node's own address says what that
node does with packets, ``GET /v1/trace/watch`` whether it is seen. Only nodes
of the cluster are answered, and no node forwards to the port what is not from
a node: containers that masquerade gives a node's address are kept out so.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import IPv4Address, ip_address
from threading import Semaphore
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import ConfigError, InvalidError, NotFoundError, UnavailableError
from phalanx.net.isolation.witness import arrived, find_namespace, open_watch
from phalanx.net.model.view import View

log = structlog.get_logger()

TIMEOUT = aiohttp.ClientTimeout(total=5.0, connect=1.0)
WATCH_SECONDS = 3.0  # longer than a probe waits for its answer
MOST_WATCHES = 4
LONGEST_WORDS = 200

Packet = Mapping[str, str]  # as one node asks another about it


class Peers:
    """The planes of other nodes, asked and answered; *port* 0 where they neither ask nor answer."""

    def __init__(self, view: Callable[[], View | None], *, node: IPv4Address, port: int) -> None:
        self._view = view
        self._node = node
        self._port = port
        # A watch is a thread, which runs to its end though nobody waits for it any more.
        self._threads = ThreadPoolExecutor(MOST_WATCHES, thread_name_prefix="watch")
        self._free = Semaphore(MOST_WATCHES)

    def routes(self) -> list[web.RouteDef]:
        """Return the route for people on this node: a watch wherever it is to be."""
        return [web.get("/v1/trace/watch", self._get_watch)]

    async def serve(self, stack: AsyncExitStack, routes: Iterable[web.RouteDef]) -> None:
        """Serve other nodes *routes* and watches until *stack* closes, unless the port is 0.

        Where the address can't be opened, traces on other nodes say less; nothing else needs it.
        """
        if not self._port:
            return
        app = web.Application(middlewares=[errors_as_json])
        app.add_routes([*routes, web.get("/v1/trace/watch", self._get_watch_here)])
        try:
            await stack.enter_async_context(serve(app, Listener(str(self._node), self._port)))
        except ConfigError as error:
            log.warning("peers_not_served", error=str(error))

    def check(self, request: web.Request) -> None:
        """Raise NotFoundError unless a node of the cluster asks."""
        view = self._view()
        if view is None or request.remote not in view.nodes:
            raise NotFoundError(f"{request.remote} is no node of this cluster")

    async def trace(self, node: str, asked: Sequence[Packet]) -> Sequence[Mapping[str, Any]] | str:
        """Return what another node does with each of some packets, or why it does not say."""
        try:
            async with (
                self._session() as session,
                session.post(self._url(node, "here"), json={"packets": asked}) as answer,
            ):
                body = await answer.json()
                if answer.status != 200:
                    return str(body.get("error", answer.status))[:LONGEST_WORDS]
                found: Sequence[Mapping[str, Any]] = body["packets"]
                if len(found) != len(asked):
                    raise ValueError(f"{len(found)} answers to {len(asked)} questions")
                return found
        except UnavailableError as error:
            return str(error)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
            return str(error) or type(error).__name__

    async def _get_watch(self, request: web.Request) -> web.StreamResponse:
        node = request.query.get("node", "")
        view = self._view()
        if view is None or node not in view.nodes:
            raise NotFoundError(f"node: {node!r} is no node of this cluster")
        if node == str(self._node):
            return await self._get_watch_of(request)
        query = {key: value for key, value in request.query.items() if key != "node"}
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            async with (
                self._session() as session,
                session.get(self._url(node, "watch"), params=query) as answer,
            ):
                if answer.status != 200:
                    words = str((await answer.json()).get("error", answer.status))
                    raise UnavailableError(f"node {node}: {words[:LONGEST_WORDS]}")
                await response.prepare(request)
                await response.write(b" ")
                await response.write(json.dumps(await answer.json(content_type=None)).encode())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            words = f"node {node}: {str(error) or 'no answer in time'}"
            if not response.prepared:
                raise UnavailableError(words) from error
            await response.write(json.dumps({"error": words}).encode())
        return response

    async def _get_watch_here(self, request: web.Request) -> web.StreamResponse:
        self.check(request)
        return await self._get_watch_of(request)

    async def _get_watch_of(self, request: web.Request) -> web.StreamResponse:
        """Answer whether a packet comes; a first blank says that the watch has begun."""
        query = request.query
        try:
            source, destination = (str(ip_address(query[k])) for k in ("source", "destination"))
            protocol = int(query["protocol"][:3])
        except (KeyError, ValueError) as error:
            raise InvalidError(f"source, destination, protocol: {error}") from error
        if ip_address(source).version != ip_address(destination).version:
            raise InvalidError(f"destination: {destination!r} is of another family than the source")
        if not self._free.acquire(blocking=False):
            raise UnavailableError(f"{MOST_WATCHES} watches are under way already")
        loop = asyncio.get_running_loop()
        began = asyncio.Event()
        begin = partial(loop.call_soon_threadsafe, began.set)
        thread = self._threads.submit(self._watch, source, destination, protocol, begin)
        thread.add_done_callback(lambda _: self._free.release())
        seen = asyncio.wrap_future(thread)
        seen.add_done_callback(lambda _: began.set())
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            await began.wait()
            if seen.done():
                seen.result()  # raises why it did not begin
            await response.prepare(request)
            await response.write(b" ")
            await response.write(json.dumps({"arrived": await seen}).encode())
            return response
        finally:
            seen.cancel()

    def _watch(
        self, source: str, destination: str, protocol: int, begin: Callable[[], object]
    ) -> bool:
        """Tell whether a packet comes; *begin* is called once it would be seen. In a thread."""
        netns = find_namespace(destination)
        if netns is None:
            raise NotFoundError(f"no namespace of node {self._node} has {destination}")
        with open_watch(netns) as watch:
            begin()
            return arrived(watch, source, destination, protocol, seconds=WATCH_SECONDS)

    def _session(self) -> aiohttp.ClientSession:
        if not self._port:
            raise UnavailableError("this node does not ask others: --peer-port is 0")
        # From our own address, which is what others know us by.
        connector = aiohttp.TCPConnector(local_addr=(str(self._node), 0))
        return aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)

    def _url(self, node: str, what: str) -> str:
        return f"http://{node}:{self._port}/v1/trace/{what}"
