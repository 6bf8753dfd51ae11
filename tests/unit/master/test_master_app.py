"""The daemon as a process, and leadership as elections tell it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import msgspec
import pytest

from phalanx.core.coordination import Coordination
from phalanx.core.error import UnavailableError
from phalanx.core.store.memory import MemoryStore
from phalanx.master.app import contend, holder_of, node_of
from phalanx.master.clock import SystemClock
from phalanx.master.config import MasterConfig
from phalanx.master.identity import master_info
from phalanx.master.seat import Seat
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.mesos import MasterInfo

DEADLINE = 60.0
MAIN = "import sys; from phalanx.master.app import main; sys.exit(main(sys.argv[1:]))"


class ScriptedElection:
    """An election whose results the test writes."""

    def __init__(self) -> None:
        self.results: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.payload = b""
        self.is_sure = True

    def is_certain(self) -> bool:
        return self.is_sure

    async def watch(self, me: bytes) -> AsyncIterator[bytes | None]:
        self.payload = me
        while True:
            yield await self.results.get()


def alone(election: ScriptedElection) -> Coordination:
    store = MemoryStore()
    return Coordination(election, store, lambda: store)


def seat_of(tmp_path: Path) -> tuple[Seat, MasterInfo, MasterInfo]:
    config = MasterConfig(work_dir=tmp_path)
    seat = Seat(config, SystemClock())
    seat.me = master_info("me", config.ip, 5050, "m1")
    return seat, seat.me, master_info("other", config.ip, 5051, "m2")


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - a condition of the code under test, not an event
            await asyncio.sleep(0.01)


async def test_master_leads_once_it_is_elected_and_ends_when_it_is_not(tmp_path: Path) -> None:
    seat, me, other = seat_of(tmp_path)
    election = ScriptedElection()
    running = asyncio.ensure_future(contend(seat, alone(election)))
    await until(lambda: election.payload == node_of(me))

    await election.results.put(None)
    await election.results.put(encode(other))
    await until(lambda: seat.holder == other)
    assert seat.leader is None

    await election.results.put(encode(me))
    await until(lambda: seat.leader is not None)

    await election.results.put(encode(other))
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(UnavailableError, match="leadership is lost")


async def test_a_leader_in_doubt_leads_no_longer_and_ends(tmp_path: Path) -> None:
    seat, me, _ = seat_of(tmp_path)
    election = ScriptedElection()
    running = asyncio.ensure_future(contend(seat, alone(election)))
    await election.results.put(encode(me))
    await until(lambda: seat.leader is not None)

    election.is_sure = False

    assert seat.leader is None  # at once: nothing had a chance to run
    with pytest.raises(ExceptionGroup) as caught:
        await running
    assert caught.group_contains(UnavailableError, match="leadership is in doubt")


def test_a_candidates_node_is_that_of_mesos_byte_for_byte() -> None:
    address = IPv4Address("10.0.0.1")
    me = msgspec.structs.replace(master_info("I", address, 5050, "m1"), version="1.12.0")

    assert node_of(me) == (
        b'{"address":{"hostname":"m1","ip":"10.0.0.1","port":5050},"capabilities":['
        b'{"type":"AGENT_UPDATE"},{"type":"AGENT_DRAINING"},{"type":"QUOTA_V2"}],"hostname":"m1",'
        b'"id":"I","ip":16777226,"pid":"master@10.0.0.1:5050","port":5050,"version":"1.12.0"}'
    )
    assert holder_of(node_of(me), me) == me


def test_an_earlier_life_of_ourselves_is_no_leader(tmp_path: Path) -> None:
    _, me, other = seat_of(tmp_path)
    earlier = msgspec.structs.replace(me, id="before")

    assert holder_of(encode(other), me) == other
    assert holder_of(encode(me), me) == me
    assert holder_of(encode(earlier), me) is None
    assert holder_of(b"garbage", me) is None


async def test_follower_stays_when_the_leader_changes(tmp_path: Path) -> None:
    seat, _, other = seat_of(tmp_path)
    election = ScriptedElection()
    running = asyncio.ensure_future(contend(seat, alone(election)))

    await election.results.put(encode(other))
    await until(lambda: seat.holder == other)
    await election.results.put(None)
    await until(lambda: seat.holder is None)

    assert not running.done()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_daemon_says_where_it_listens_keeps_its_registry_and_stops_on_sigterm(
    tmp_path: Path,
) -> None:
    for _ in range(2):
        daemon = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            MAIN,
            *("--port", "0", "--work-dir", str(tmp_path)),
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "MESOS_CLUSTER": "lab"},
        )
        assert daemon.stderr is not None
        async with asyncio.timeout(DEADLINE):
            lines: list[str] = []
            while not lines or "feed_opened" not in lines[-1]:
                lines.append((await daemon.stderr.readline()).decode())
                assert lines[-1], "the daemon ended"
            where = next(line for line in lines if '"listening"' in line).split('"on": "')[1]
            url = f"http://{where.split(chr(34))[0]}"
            async with aiohttp.ClientSession() as session, session.get(f"{url}/state") as answer:
                assert (await answer.json())["cluster"] == "lab"
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{url}/v1/networks") as answer,
            ):
                names = [item["name"] for item in (await answer.json())["networks"]]
            daemon.send_signal(signal.SIGTERM)
            rest = (await daemon.stderr.read()).decode()
            status = await daemon.wait()

        assert names == ["dcos", "dcos6"]
        assert status == 0
        assert "Traceback" not in rest
    assert (tmp_path / "registry.db").exists()
