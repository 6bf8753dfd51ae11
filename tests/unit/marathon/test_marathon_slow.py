"""Clients that are many, slow or do not read at all: nobody else notices."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from phalanx.marathon.api import answer, events
from phalanx.marathon.engine import bus

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import Marathon

SECONDS = 60.0
LISTENERS, STALLED = 1000, 100
HEAD = "GET /v2/events HTTP/1.1\r\nHost: m\r\nAccept: text/event-stream\r\n\r\n"
LARGE = "x" * 20_000


def connected(marathon: Marathon, head: str) -> socket.socket:
    """Return a connection of a client with a small window, its request sent."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    where = urlsplit(marathon.url)
    assert where.hostname is not None
    assert where.port is not None
    end.connect((where.hostname, where.port))
    end.sendall(head.encode())
    end.setblocking(False)
    return end


async def is_told(marathon: Marathon, name: str, value: float) -> None:
    """Wait until a gauge of Marathon's metrics has a value."""
    async with asyncio.timeout(SECONDS):
        while True:
            _, found = await marathon.ask("GET", "/metrics")
            if found["gauges"][name]["value"] == value:
                return
            await asyncio.sleep(0.02)  # waits: between two looks at the metrics


async def test_a_thousand_listeners_hear_all_and_those_who_do_not_read_are_cut(
    marathon: Marathon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "MAX_BEHIND", 50)
    monkeypatch.setattr(bus, "PATIENCE_SECONDS", 0.5)
    gauge = "marathon.http.event-streams.active.gauge"
    where = urlsplit(marathon.url)
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(LISTENERS - STALLED):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            stack.callback(writer.close)
            writer.write(HEAD.replace("events", "events?event_type=subscribe_event").encode())
            readers.append(reader)
        stalled = [connected(marathon, HEAD) for _ in range(STALLED)]
        for end in stalled:
            stack.callback(end.close)
        await is_told(marathon, gauge, LISTENERS)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        while marathon.board.bus.told["event_stream_detached"] < STALLED:
            marathon.board.bus.publish("unsubscribe_event", callbackUrl=LARGE)
            status, _ = await marathon.ask("GET", "/v2/info")
            assert status == 200
        marathon.board.bus.publish("subscribe_event", callbackUrl="http://hook")

        async with asyncio.timeout(SECONDS):
            for reader in readers:
                await reader.readuntil(b"event: subscribe_event\r\n")
                assert b"http://hook" in await reader.readline()
        await is_told(marathon, gauge, LISTENERS - STALLED)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert grown < 64 * 2**20


async def test_a_listener_that_takes_nothing_is_cut_though_little_happens(
    marathon: Marathon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STALL_SECONDS", 0.2)
    end = connected(marathon, HEAD)
    await is_told(marathon, "marathon.http.event-streams.active.gauge", 1)

    while not marathon.board.bus.told["event_stream_detached"]:
        marathon.board.bus.publish("unsubscribe_event", callbackUrl=100 * LARGE)
        await is_told(marathon, "marathon.apps.active.gauge", 0)

    end.close()


async def test_a_body_that_never_ends_is_408(
    marathon: Marathon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "BODY_SECONDS", 0.2)
    where = urlsplit(marathon.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(b'POST /v2/apps HTTP/1.1\r\nHost: m\r\nContent-Length: 99\r\n\r\n{"id":')

    async with asyncio.timeout(SECONDS):
        assert b" 408 " in await reader.readline()
        assert b'{"message":"Request Timeout"}' in await reader.readuntil(b"}")
    writer.close()
