"""What becomes of a session whose process dies, hangs, or ends in good order."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.config import ZooKeeperAddress
from phalanx.core.zookeeper.election import CANDIDATE
from phalanx.core.zookeeper.exec import Witness
from phalanx.core.zookeeper.session import PROBE, ZooKeeper, waker
from phalanx.core.zookeeper.witness import Session, from_line, to_line
from phalanx.labs.wait import wait_until

SESSION_SECONDS = 50.0  # of the daemon: whatever is gone sooner did not wait for it
SOON_SECONDS = 20.0
DAEMON = """
import asyncio, sys
from contextlib import AsyncExitStack
from phalanx.core.config import ZooKeeperAddress
from phalanx.core.coordination import through_zookeeper
from phalanx.core.daemon import run_daemon

async def main():
    async with AsyncExitStack() as stack:
        address = ZooKeeperAddress(sys.argv[1], sys.argv[2])
        found = await through_zookeeper(address, "state", stack, session_seconds=float(sys.argv[3]))
        async for leader in found.election.watch(b"daemon"):
            print(leader, flush=True)

sys.exit(run_daemon(main))
"""


class Relay:
    """Stands between a client and a server while it is open; *alter* is given each answer."""

    def __init__(self, server: str, alter: Callable[[bytes], bytes] = bytes) -> None:
        self._host, _, port = server.rpartition(":")
        self._port = int(port)
        self._alter = alter
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def open(self) -> str:
        """Listen, at the same port again; return where."""
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return f"127.0.0.1:{self.port}"

    async def close(self) -> None:
        """Listen no more and end every connection."""
        assert self._listener is not None
        self._listener.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, back]
        with suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.TaskGroup() as group:
                group.create_task(pass_on(reader, back, bytes))
                group.create_task(pass_on(there, writer, self._alter))
        writer.close()
        back.close()


async def pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, alter: Callable[[bytes], bytes]
) -> None:
    """Pass on one message after another, each with its length before it."""
    while True:
        length = await reader.readexactly(4)
        body = alter(await reader.readexactly(int.from_bytes(length, "big")))
        writer.write(len(body).to_bytes(4, "big") + body)
        await writer.drain()


@pytest.fixture
async def session(zookeeper: str) -> AsyncIterator[ZooKeeper]:
    async with ZooKeeper(ZooKeeperAddress(zookeeper, f"/{uuid4()}")) as session:
        assert await session.connected(SOON_SECONDS)
        yield session


@contextmanager
def leading(zookeeper: str, path: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", DAEMON, zookeeper, path, str(SESSION_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as daemon:
        try:
            assert daemon.stdout is not None
            while daemon.stdout.readline() != b"b'daemon'\n":
                assert daemon.poll() is None
            yield daemon
        finally:
            daemon.kill()


def children_of(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def candidates(session: ZooKeeper) -> int:
    return len(await session.ask(lambda: session.client.get_children_async(session.path)))


async def none_is_left(session: ZooKeeper) -> bool:
    changed = asyncio.Event()
    wake = waker(asyncio.get_running_loop(), changed)
    look = partial(session.client.get_children_async, session.path, watch=wake)
    async with asyncio.timeout(SOON_SECONDS):
        while await session.ask(look):
            await changed.wait()
            changed.clear()
    return True


async def test_the_candidacy_of_a_killed_process_ends_at_once(
    zookeeper: str, session: ZooKeeper
) -> None:
    with leading(zookeeper, session.path) as daemon:
        (witness,) = children_of(daemon.pid)
        assert await candidates(session) == 1

        daemon.kill()

        assert await none_is_left(session)
        assert await asyncio.to_thread(wait_until, lambda: is_gone(witness), seconds=SOON_SECONDS)


async def test_a_process_that_hangs_keeps_its_session(zookeeper: str, session: ZooKeeper) -> None:
    with leading(zookeeper, session.path) as daemon:
        (witness,) = children_of(daemon.pid)
        os.kill(daemon.pid, signal.SIGSTOP)
        assert wait_until(lambda: ignores(witness, signal.SIGHUP), seconds=SOON_SECONDS)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.kill(witness, number)  # as whoever ends a service does to all of it

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await none_is_left(session)
        assert not is_gone(witness)

        os.kill(daemon.pid, signal.SIGKILL)
        assert await none_is_left(session)


async def test_a_process_that_ends_takes_its_witness_along(
    zookeeper: str, session: ZooKeeper
) -> None:
    with leading(zookeeper, session.path) as daemon:
        (witness,) = children_of(daemon.pid)

        daemon.terminate()
        assert await asyncio.to_thread(daemon.wait, SOON_SECONDS) == 0

        assert is_gone(witness)
        assert await candidates(session) == 0


async def test_a_witness_that_dies_is_missed_by_nobody_alive(zookeeper: str) -> None:
    other = ZooKeeper(ZooKeeperAddress(zookeeper, f"/{uuid4()}"))
    async with Witness(other) as witness, other:
        assert witness.pid is not None
        os.kill(witness.pid, signal.SIGKILL)

        assert await other.connected(SOON_SECONDS)
        await other.ensure(other.path)

    assert witness.pid is None


async def test_an_end_while_no_server_answers_is_the_witness_to_tell(
    zookeeper: str, session: ZooKeeper
) -> None:
    relay = Relay(zookeeper)
    address = ZooKeeperAddress(await relay.open(), session.path)
    other = ZooKeeper(address, session_seconds=SESSION_SECONDS)
    async with Witness(other):
        async with other:
            assert await other.connected(SOON_SECONDS)
            await other.ensure(other.path)
            node = f"{other.path}/{CANDIDATE}"
            await other.ask(lambda: other.client.create_async(node, ephemeral=True))
            assert await candidates(session) == 1
            await relay.close()
            lost = partial(wait_until, lambda: not other.is_connected, seconds=SOON_SECONDS)
            assert await asyncio.to_thread(lost)
        await relay.open()

    assert await none_is_left(session)
    await relay.close()


@pytest.mark.parametrize("error", [-127, -1, -4000], ids=["throttled", "system", "unknown"])
async def test_a_server_with_no_time_for_our_first_question_is_asked_all_the_same(
    zookeeper: str, error: int
) -> None:
    refused: list[bytes] = []

    def refuse_the_first(answer: bytes) -> bytes:
        if not refused and answer.startswith(PROBE.to_bytes(4, "big")):
            refused.append(answer)
            return answer[:12] + error.to_bytes(4, "big", signed=True)
        return answer

    relay = Relay(zookeeper, refuse_the_first)
    async with ZooKeeper(ZooKeeperAddress(await relay.open(), f"/{uuid4()}")) as other:
        assert await other.connected(SOON_SECONDS)
        await other.ensure(other.path)
        assert other.reads_many
    await relay.close()

    assert refused


async def test_whoever_has_no_witness_does_without(zookeeper: str) -> None:
    other = ZooKeeper(ZooKeeperAddress(zookeeper, f"/{uuid4()}"))
    async with Witness(other, program="/nonexistent") as witness, other:
        assert await other.connected(SOON_SECONDS)
        assert witness.pid is None


@pytest.mark.parametrize(
    "told",
    [
        None,
        Session(2**62, b"\x00\xff" * 8, 6000, [("127.0.0.1", 2181)]),
        Session(-(2**62), bytes(16), 6000, [("zk.example", 1), ("fd01:d::1", 2181)]),
    ],
)
def test_a_session_is_read_as_it_was_told(told: Session | None) -> None:
    assert from_line(to_line(told)) == told


def ignores(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigIgn:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
