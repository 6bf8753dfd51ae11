"""A probe whose watch on another node fails says so, and what its sender heard."""

import asyncio
import socket
from typing import Any

import pytest

from phalanx.cli.probe import probe

HERE, THERE, ELSEWHERE = "127.0.0.1", "192.0.2.2", "192.0.2.8"
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n"


def packet(port: int) -> dict[str, Any]:
    """Return one of UDP to a task on another node, sent to a port of our own."""
    return {
        "source": {"address": HERE, "node": HERE, "network": ""},
        "destination": {"address": ELSEWHERE, "node": THERE, "network": "net"},
        "protocol": socket.IPPROTO_UDP,
        "sent_to": {"address": HERE, "port": port},
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(CHUNKED, "IncompleteRead", id="cut-off"),
        pytest.param(HEAD + b"\r\n ", "Expecting value", id="no-json"),
        pytest.param(HEAD + b"\r\n []", "not what a watch answers: []", id="another-answer"),
        pytest.param(HEAD + b'\r\n {"error": "node n1: gone"}', "node n1: gone", id="told"),
    ],
)
async def test_a_watch_that_fails_is_told_of(answer: bytes, expected: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HERE, 0))
        port = taken.getsockname()[1]
    async with await asyncio.start_server(serve, HERE, 0) as server:
        plane = f"{HERE}:{server.sockets[0].getsockname()[1]}"
        found = await asyncio.to_thread(probe, packet(port), plane=plane, here=HERE)

    words = "the sender saw: a refusal (reset, or no such port); nobody watched: "
    assert found["passed"] is None
    assert found["words"].startswith(words)
    assert expected in found["words"]
