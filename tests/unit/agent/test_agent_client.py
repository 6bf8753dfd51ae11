"""The agent's way to its master: one that takes connections and answers nothing is left soon."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from random import Random

import aiohttp
import pytest
from aiohttp import web

from phalanx.agent import client as agent_client
from phalanx.agent.client import MasterClient
from phalanx.core.api.serve import Listener, serve
from phalanx.core.config import HostPort
from phalanx.core.detector import Listed
from phalanx.mesos.agent_protocol import PATH, AgentCall, AgentEvent, AgentSubscribed
from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import AgentID


@contextmanager
def stopped_master() -> Iterator[HostPort]:
    """Yield where the kernel takes connections for a process that does nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield HostPort("127.0.0.1", listening.getsockname()[1])


@asynccontextmanager
async def busy_master(answer: asyncio.Event) -> AsyncIterator[HostPort]:
    """Yield a master that lives and lets subscriptions wait until *answer* is set."""

    async def subscribe(request: web.Request) -> web.StreamResponse:
        await answer.wait()
        response = web.StreamResponse()
        await response.prepare(request)
        subscribed = AgentSubscribed(agent_id=AgentID(value="S0"), heartbeat_seconds=1.0)
        event = AgentEvent(type="SUBSCRIBED", subscribed=subscribed)
        await response.write(encode_record(encode(event)))
        await asyncio.Event().wait()
        return response

    async def health(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_post(PATH, subscribe)
    app.router.add_get("/health", health)
    async with serve(app, Listener("127.0.0.1", 0)) as (bound,):
        assert isinstance(bound, Listener)
        yield HostPort("127.0.0.1", bound.port)


async def subscribed_to(*masters: HostPort) -> str | None:
    """Return which of *masters* an agent is subscribed to first."""
    found = asyncio.Event()

    async def take(_: AgentEvent) -> None:
        found.set()

    async with aiohttp.ClientSession() as session:
        client = MasterClient(
            session,
            Listed(masters),
            subscribe=lambda: AgentCall(type="SUBSCRIBE"),
            take=take,
            lost=lambda: None,
            rng=Random(1),
        )
        running = asyncio.ensure_future(client.run())
        try:
            async with asyncio.timeout(60):
                await found.wait()
            return client.master
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_client, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(agent_client, "SILENCE_SECONDS", 0.5)


async def test_a_stopped_master_is_left_for_the_next() -> None:
    answer = asyncio.Event()
    answer.set()
    with stopped_master() as stopped:
        async with busy_master(answer) as other:
            assert await subscribed_to(stopped, other) == f"{other.url}{PATH}"


async def test_a_master_that_is_only_busy_is_waited_for() -> None:
    answer = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with busy_master(answer) as busy:
        loop.call_later(1.0, answer.set)  # twice as long as a stopped master would be given

        assert await subscribed_to(busy) == f"{busy.url}{PATH}"
