"""What a plane and its workers say to each other: nothing is lost on the way."""

import asyncio
import socket
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address

import msgspec
import pytest
from dnslib import RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.dns.client import SECONDS

from phalanx.core.error import ConfigError
from phalanx.dns.publish import ZoneTable
from phalanx.dns.tally import Tally, summed
from phalanx.dns.workers.message import (
    LENGTH,
    Probed,
    Publish,
    Route,
    Start,
    framed,
    held_of,
    parse_from_worker,
    parse_to_worker,
    publish_change,
    publish_whole,
    published,
)
from phalanx.dns.workers.worker import Worker
from phalanx.dns.zones.ledger import HeldVips
from phalanx.dns.zones.settings import ZoneSettings
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase
from phalanx.net.model.view import Ref, View
from phalanx.plane.config import LOADER

NODE = IPv4Address("198.18.0.2")
OWN = "127.53.7.1"  # nobody else's on loopback
HELD = {"web.marathon": (IPv4Address("11.0.0.1"),)}


def task(number: int, address: int) -> Task:
    return Task(
        "f", f"web.{number}", "web", "x-S0", NODE, TaskPhase.RUNNING,
        addresses=(IPv4Address("9.0.0.0") + address,),
    )  # fmt: skip


def sent(message: Publish) -> Publish:
    """Return *message* as it arrives."""
    raw = framed(message)
    assert LENGTH.unpack_from(raw) == (len(raw) - LENGTH.size,)
    found = parse_to_worker(raw[LENGTH.size :])
    assert isinstance(found, Publish)
    return found


steps = st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=5)


@given(steps, st.integers(0, 4))
def test_worker_has_the_planes_view_whenever_it_begins(
    states: Sequence[dict[int, int]], begins: int
) -> None:
    views = [
        View().changed([Framework("f", "marathon"), *(task(n, a) for n, a in state.items())])
        for state in states
    ]
    begins = min(begins, len(views) - 1)
    view, touched = published(View(), sent(publish_whole(views[begins], HELD, 1)))
    assert (view, touched) == (views[begins], None)

    for before, after in zip(views[begins:], views[begins + 1 :], strict=False):
        named: list[Ref] = [(Task.kind, task(n, 0).key) for n in range(6)]
        change = publish_change(after, named, HELD, 2, is_held_new=False)
        assert before is not after
        view, touched = published(view, sent(change))

        assert view == after
        assert set(touched or ()) == set(named)


@pytest.mark.parametrize("held", [HELD, {}, None])
def test_held_vips_stay_until_they_change(held: object) -> None:
    same = sent(publish_change(View(), (), HELD, 1, is_held_new=False))
    new = sent(publish_change(View(), (), held, 1, is_held_new=True))  # type: ignore[arg-type]  # of the table

    assert held_of(same, HELD) is HELD
    assert held_of(new, HELD) == held


def test_messages_arrive_as_they_were_sent() -> None:
    start = Start("198.18.0.2", (), (("127.0.0.1", 53),), ZoneSettings("corp"), 7, secrets=(b"\0",))
    route = Route(("192.0.2.1",), ("a=192.0.2.2",), ("192.0.2.1:53",))
    tally = Tally({("mesos.", 0): 2, (".", 3): 1}, {"stale": 1}, {("192.0.2.1:53", "loop"): 1})

    assert parse_to_worker(framed(start)[LENGTH.size :]) == start
    assert parse_to_worker(framed(route)[LENGTH.size :]) == route
    assert parse_from_worker(framed(tally)[LENGTH.size :]) == tally
    assert parse_from_worker(framed(Probed(b"\xff"))[LENGTH.size :]) == Probed(b"\xff")


async def test_worker_answers_once_it_has_read_whom_to_ask() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((OWN, 0))
        place = sock.getsockname()
    start = Start(str(NODE), (), (place,), ZoneSettings(), 1, secrets=(bytes(16),))
    query = bytes(DNSRecord.question("ready.spartan").pack())
    ours, theirs = socket.socketpair()
    plane, plane_writer = await asyncio.open_unix_connection(sock=ours)
    reader, writer = await asyncio.open_unix_connection(sock=theirs)
    running = asyncio.create_task(Worker(start, writer).run(reader))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect(place)
        async with asyncio.timeout(SECONDS):
            await plane.readexactly(1)  # it counts: it is there
            sock.send(query)
            with pytest.raises(ConnectionRefusedError):
                sock.recv(512)

            plane_writer.write(framed(Route(("192.0.2.1",), ())))
            while True:
                try:
                    sock.send(query)
                    reply = await asyncio.get_running_loop().sock_recv(sock, 512)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.002)

    assert (reply[3] & 15, reply[3] & 0x80) == (RCODE.NOERROR, 0x80)  # it forwards
    plane_writer.close()
    with pytest.raises(EOFError):
        await running
    writer.close()


def test_after_a_failure_workers_are_told_all_that_differs() -> None:
    zones = ZoneTable(node=NODE, servers=[])
    told: list[tuple[View, HeldVips | None, Collection[Ref] | None]] = []
    zones.published = lambda *each: told.append(each)
    node = Node(NODE, "a1", agent_id="x-S0", port=5051)
    before = View().changed([Framework("f", "marathon"), node, task(1, 1)])
    zones.publish(before, {})
    broken = msgspec.structs.replace(task(2, 2), ports=(None,))  # no decoder lets that through
    with pytest.raises(AttributeError):
        zones.publish(before.changed([broken]), {}, [(Task.kind, broken.key)])
    after = before.changed([task(3, 3), task(4, 4)])
    half = before.changed([task(3, 3)])

    zones.publish(half, {}, is_last=False)
    zones.publish(after, {}, [(Task.kind, task(4, 4).key)])

    assert [view for view, _, _ in told] == [before, after]
    assert told[-1][2] is None


def test_what_is_none_of_these_is_told() -> None:
    with pytest.raises(msgspec.DecodeError):
        parse_from_worker(b"garbage")


counts = st.dictionaries(st.sampled_from(["cache_hit", "stale"]), st.integers(0, 9))
tallies = st.builds(Tally, lookups=counts, dropped=st.integers(0, 9), cached=st.integers(0, 9))


@given(st.lists(tallies), tallies)
def test_counters_never_fall_when_a_worker_ends(others: list[Tally], victim: Tally) -> None:
    before = summed([*others, victim])
    after = summed([*others, summed([Tally(), victim]).ended(), Tally()])

    assert {k: n for k, n in after.lookups.items() if n} == {
        k: n for k, n in before.lookups.items() if n
    }
    assert after.dropped == before.dropped
    assert after.ends == before.ends + 1
    assert after.cached == before.cached - victim.cached


def test_round_trips_are_not_added() -> None:
    both = [Tally(round_trips={"a": 0.1, "b": 0.2}), Tally(round_trips={"a": 0.3})]

    assert summed(both).round_trips == pytest.approx({"a": 0.2, "b": 0.2})


def test_workers_need_one_port() -> None:
    with pytest.raises(ConfigError, match="--dns-port: 0"):
        LOADER.load(
            ["--ip=198.18.0.2", "--source=198.18.0.1:5050", "--dns-port=0", "--dns-workers=2"]
        )
