"""The sockets to one upstream, over loopback."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from typing import TYPE_CHECKING

from tests.unit.dns.client import SECONDS

from phalanx.core.config import HostPort
from phalanx.dns.batch import PeerBatch
from phalanx.dns.forward.ports import MAIL_SLOTS, USES, Draws, Pending, Ports

if TYPE_CHECKING:
    from collections.abc import Sequence


class InTurn(Draws):
    """Draws ids in turn, and always the first port."""

    def __init__(self) -> None:
        super().__init__(random.Random())
        self._numbers = itertools.count()

    def next(self) -> int:
        """Return none but one number."""
        return 0

    def id(self) -> bytes:
        """Return the next number."""
        return next(self._numbers).to_bytes(2, "big")


async def test_what_is_asked_anew_when_a_question_could_not_leave_is_heard_too() -> None:
    """The port is used up and the upstream refuses; whoever hears of it asks at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.bind(("127.0.0.1", 0))
        upstream.setblocking(False)
        address = upstream.getsockname()
        heard: set[str] = set()
        all_heard = asyncio.Event()

        def hear(_: Ports[str], pending: Pending[str], messages: Sequence[bytes]) -> None:
            for message in messages:
                heard.add(pending.pop(message)[0])
            if {"anew", "the last"} <= heard:
                all_heard.set()

        def fail(ports: Ports[str], asked: tuple[str, float, float], _: str) -> None:
            if asked[0] == "the first":
                ports.ask(b"", ("anew", 0.0, 0.0), 0.0)

        ports = Ports(
            HostPort(*address),
            InTurn(),
            PeerBatch(MAIL_SLOTS),
            heard=hear,
            failed=fail,
        )
        upstream.close()
        ports.ask(b"", ("into the void", 0.0, 0.0), 0.0)
        ports._send()  # at once: its ICMP answer waits at the socket when the next ones leave
        ports.ask(b"", ("the first", 0.0, 0.0), 0.0)
        for _ in range(USES - 2):
            ports.ask(b"", ("more", 0.0, 0.0), 0.0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as back:
            back.bind(address)
            back.setblocking(False)
            asyncio.get_running_loop().add_reader(back, echo, back)
            ports.ask(b"", ("the last", 0.0, 0.0), 0.0)

            async with asyncio.timeout(SECONDS):
                await all_heard.wait()
            asyncio.get_running_loop().remove_reader(back)
        ports.close()


def echo(server: socket.socket) -> None:
    """Answer what has come."""
    try:
        while True:
            message, sender = server.recvfrom(512)
            server.sendto(message, sender)
    except BlockingIOError:
        pass
