"""The streaming client of the scheduler API against a master that speaks the real protocol."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import msgspec
import pytest

from phalanx.core.config import HostPort
from phalanx.core.detector import Listed
from phalanx.core.error import ProtocolError, UnavailableError
from phalanx.mesos.client import RETRY_SECONDS, SchedulerClient, jittered_backoff, redirected
from phalanx.mesos.recordio import encode_record
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.codec import encode
from phalanx.mesos.v1.scheduler import Call, Event, Roles, Subscribe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from tests.unit.marathon.conftest import FakeMaster

INFO = mesos.FrameworkInfo(user="root", name="test", roles=("*",))


class Identity:
    """A framework that remembers its id."""

    def __init__(self) -> None:
        self.id: mesos.FrameworkID | None = None

    def subscribe(self) -> Subscribe:
        """Return the subscription with the id known so far."""
        return Subscribe(framework_info=msgspec.structs.replace(INFO, id=self.id))


@asynccontextmanager
async def subscription(
    *masters: HostPort, identity: Identity | None = None
) -> AsyncIterator[tuple[SchedulerClient, AsyncGenerator[Event, None]]]:
    """Give a client of *masters* and its events."""
    async with aiohttp.ClientSession() as session:
        client = SchedulerClient(session, Listed(masters), backoff=lambda _: 0.01)
        async with aclosing(client.events((identity or Identity()).subscribe)) as events:
            yield client, events


async def next_of(events: AsyncGenerator[Event, None]) -> Event:
    """Return the next event."""
    async with asyncio.timeout(30):
        return await anext(events)


async def test_subscription_begins_with_subscribed_and_carries_calls(master: FakeMaster) -> None:
    async with subscription(master.address) as (client, events):
        first = await next_of(events)
        await client.call(Call(type="REVIVE", revive=Roles(roles=("*",))))
        call = await master.next("REVIVE")

        assert first.type == "SUBSCRIBED"
        assert client.is_subscribed
        assert client.master == master.address.url
        assert call.framework_id == mesos.FrameworkID(value="fw-0000")


async def test_records_cut_anywhere_arrive_whole(master: FakeMaster) -> None:
    raw = encode_record(encode(Event(type="HEARTBEAT"))) * 2
    async with subscription(master.address) as (_, events):
        await next_of(events)
        await master.send_raw(raw[:7])
        await master.send_raw(raw[7:])

        assert [(await next_of(events)).type, (await next_of(events)).type] == ["HEARTBEAT"] * 2


async def test_redirect_is_followed(master: FakeMaster, second: FakeMaster) -> None:
    second.redirect_to = str(master.address)
    async with subscription(second.address) as (client, events):
        await next_of(events)

        assert client.master == master.address.url


async def test_masters_are_tried_in_turn_until_one_leads(
    master: FakeMaster, second: FakeMaster
) -> None:
    second.is_closed = True
    nobody = HostPort("127.0.0.1", 1)
    async with subscription(nobody, second.address, master.address) as (client, events):
        await next_of(events)

        assert client.master == master.address.url


async def test_masters_that_redirect_in_a_circle_are_asked_again(
    master: FakeMaster, second: FakeMaster
) -> None:
    master.redirect_to, second.redirect_to = str(second.address), str(master.address)
    async with subscription(master.address) as (_, events):
        waiting = asyncio.ensure_future(next_of(events))
        await asyncio.sleep(0)
        master.redirect_to = None

        assert (await waiting).type == "SUBSCRIBED"


async def test_stream_that_ends_is_opened_again_with_the_id(master: FakeMaster) -> None:
    identity = Identity()
    async with subscription(master.address, identity=identity) as (_, events):
        first = await next_of(events)
        assert first.subscribed is not None
        identity.id = first.subscribed.framework_id
        master.hang_up()
        again = await next_of(events)

        assert again.type == "SUBSCRIBED"
        assert master.subscriptions[1].framework_id == identity.id


async def test_missed_heartbeats_end_the_stream(master: FakeMaster) -> None:
    master.heartbeat_seconds = 0.02
    async with subscription(master.address) as (_, events):
        await next_of(events)

        again = await next_of(events)

        assert again.type == "SUBSCRIBED"
        assert len(master.subscriptions) == 2


async def test_broken_framing_ends_the_stream(master: FakeMaster) -> None:
    async with subscription(master.address) as (_, events):
        await next_of(events)
        await master.send_raw(b"nonsense\n")

        assert (await next_of(events)).type == "SUBSCRIBED"


async def test_call_without_subscription_is_unavailable(master: FakeMaster) -> None:
    async with subscription(master.address) as (client, _):
        with pytest.raises(UnavailableError, match="REVIVE: not subscribed"):
            await client.call(Call(type="REVIVE"))


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, ProtocolError), (403, ProtocolError), (503, UnavailableError), (307, UnavailableError)],
)
async def test_refused_call_raises(master: FakeMaster, status: int, error: type[Exception]) -> None:
    async with subscription(master.address) as (client, events):
        await next_of(events)
        master.refusal = status

        with pytest.raises(error, match=f"REVIVE: status {status}"):
            await client.call(Call(type="REVIVE"))


@pytest.mark.parametrize(
    ("location", "base"),
    [
        ("//10.0.0.2:5050/api/v1/scheduler", "http://10.0.0.2:5050"),
        ("http://m2:5050/api/v1/scheduler", "http://m2:5050"),
        ("https://m2:5051/", "https://m2:5051"),
    ],
)
def test_redirect_gives_the_base_of_the_leader(location: str, base: str) -> None:
    assert redirected("http://m1:5050", location) == base


def test_redirect_to_nowhere_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="redirect to ''"):
        redirected("http://m1:5050", "")


@pytest.mark.parametrize("attempt", [0, 1, 4, 1000])
def test_backoff_stays_in_bounds(attempt: int) -> None:
    first, longest = RETRY_SECONDS

    assert first / 2 <= jittered_backoff(attempt) <= longest
