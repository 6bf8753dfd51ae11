"""A listener that answers us no more is opened anew."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from tests.unit.dns.client import (
    SECONDS,
    addresses,
    ask_udp,
    framed,
    message,
    read_reply,
)

from phalanx.core.config import HostPort
from phalanx.core.service import SocketStore
from phalanx.dns.server import DnsServer

Serve = Callable[..., Awaitable[DnsServer]]


async def replaced(held: Mapping[HostPort, object], place: HostPort, old: object) -> None:
    async with asyncio.timeout(SECONDS):
        while held.get(place) in (None, old):  # noqa: ASYNC110 - who replaces it tells nobody
            await asyncio.sleep(0.005)


async def test_listener_that_falls_silent_is_opened_anew(serve: Serve) -> None:
    server = await serve(watch_seconds=0.1)
    [place] = server.listening
    [listener] = server._listeners.values()
    asyncio.get_running_loop().remove_reader(listener.sock)

    await replaced(server._listeners, place, listener)
    assert server.restarts

    [reply] = await ask_udp(place, message("ready.spartan"))
    assert addresses(reply) == ["127.0.0.1"]


async def test_socket_closed_under_its_listener_is_opened_anew(
    serve: Serve, tmp_path: Path
) -> None:
    """A service manager lets go of the old one a moment after it is told to."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    manager.bind(str(tmp_path / "manager"))
    store = SocketStore({"NOTIFY_SOCKET": str(tmp_path / "manager")})
    server = await serve(watch_seconds=0.2, store=store)
    [place] = server.listening
    told = []
    kept: dict[str, int] = {}

    def hear() -> None:
        text, fds, _, _ = socket.recv_fds(manager, 4096, 4)
        said, whose = text.decode().split("\n")[:2]
        told.append((said, whose))
        if said == "FDSTORE=1":
            [kept[whose]] = fds
        else:
            os.close(kept.pop(whose))

    asyncio.get_running_loop().add_reader(manager, hear)
    for _ in range(2):
        [listener] = server._listeners.values()
        listener.sock.close()

        await replaced(server._listeners, place, listener)

        [reply] = await ask_udp(place, message("ready.spartan"))
        assert addresses(reply) == ["127.0.0.1"]
    asyncio.get_running_loop().remove_reader(manager)
    with suppress(BlockingIOError):
        while True:
            hear()
    manager.close()
    for fd in kept.values():
        os.close(fd)
    name = f"FDNAME=sock_dgram-127.0.0.1-{place.port}"
    udp = [said for said, whose in told if whose == name]
    times = len(udp) // 2  # a busy machine may find one silent that is only slow
    assert times >= 2
    assert udp == ["FDSTORE=1", *["FDSTOREREMOVE=1", "FDSTORE=1"] * times]
    assert server.restarts == [said for said, _ in told].count("FDSTOREREMOVE=1")


async def test_acceptor_that_is_gone_is_opened_anew(serve: Serve) -> None:
    server = await serve(watch_seconds=0.2)
    [place] = server.listening
    for _ in range(2):
        [acceptor] = server._acceptors.values()
        acceptor.close()
        await acceptor.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(place.host, place.port)

        await replaced(server._acceptors, place, acceptor)

        reader, writer = await asyncio.open_connection(place.host, place.port)
        writer.write(framed(message("ready.spartan")))
        assert addresses(await read_reply(reader)) == ["127.0.0.1"]
        writer.close()
