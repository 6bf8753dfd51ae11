"""An agent that takes no events costs a bounded buffer, then its stream; nobody waits for it."""

import asyncio
import base64
import json
import socket
from pathlib import Path

from tests.unit.master.http_lab import (
    DEADLINE,
    Client,
    FakeAgent,
    FakeFramework,
    Json,
    Master,
    id_of,
)

from phalanx.core.store.memory import MemoryStore
from phalanx.mesos.stream import MAX_BYTES

CHUNK = base64.b64encode(b"x" * 600_000).decode()


async def deaf_agent(client: Client, address: str) -> socket.socket:
    """Subscribe as an agent that never reads an answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    host, port = client.url.removeprefix("http://").split(":")
    await loop.sock_connect(connection, (host, int(port)))
    info = {"hostname": "deaf", "port": 5052, "resources": []}
    subscribe = {"agent_info": info, "version": "1", "address": address}
    body = json.dumps({"type": "SUBSCRIBE", "subscribe": subscribe})
    head = (
        "POST /v1/agent HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await loop.sock_sendall(connection, f"{head}{body}".encode())
    return connection


async def test_an_agent_that_reads_nothing_is_dropped_and_nobody_waits_for_it(
    tmp_path: Path,
) -> None:
    async with Master(tmp_path, MemoryStore()) as client, asyncio.timeout(6 * DEADLINE):
        agent = FakeAgent(client, address="198.18.0.2")
        await agent.subscribe()
        framework = FakeFramework(client)
        await framework.subscribe()
        assert client.seat.leader is not None
        agents = client.seat.leader.cluster.agents
        with await deaf_agent(client, "198.18.0.3"):
            while len(agents) < 2:  # noqa: ASYNC110 - a condition of the code under test
                await asyncio.sleep(0.01)
            deaf = next(each for each in agents.values() if each.id != agent.id)
            stream = deaf.stream
            assert stream is not None

            def message(to: str | None, data: str) -> Json:
                ids = {"agent_id": {"value": to}, "executor_id": {"value": "e"}}
                return {**ids, "data": data}

            sent = 0
            while not stream.is_closed:
                await framework.call("MESSAGE", **message(deaf.id, CHUNK))
                sent += len(CHUNK)
                await framework.call("MESSAGE", **message(agent.id, "aGk="))
                assert (await agent.next("MESSAGE"))["data"] == "aGk="
                assert sent < 3 * MAX_BYTES

            assert sent > MAX_BYTES // 2  # a slow one has time
            assert stream.take() == b""  # and leaves nothing behind
            while deaf.is_connected:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.01)
        assert id_of(framework) in client.seat.leader.cluster.frameworks
