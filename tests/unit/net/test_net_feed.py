"""The feed: every reader ends up with the sender's View, wherever it began."""

import asyncio
from ipaddress import IPv4Address, IPv4Network
from typing import get_args

import msgspec
import pytest
from aiohttp import ClientError, ClientSession, web
from hypothesis import given
from hypothesis import strategies as st

from phalanx.cli.check import read_view
from phalanx.core.api.error import errors_as_json
from phalanx.core.api.serve import Listener, serve
from phalanx.core.error import ProtocolError
from phalanx.net.api.feed import feed_route
from phalanx.net.feed.client import follow
from phalanx.net.feed.record import (
    PART_OBJECTS,
    Assembly,
    Delta,
    Heartbeat,
    Numbered,
    Part,
    Position,
    Snapshot,
    after,
    decode,
    encode,
    parts_of,
    snapshot_of,
)
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.objects import (
    Liveness,
    Network,
    Node,
    Object,
    Policy,
    Task,
    TaskPhase,
    Traffic,
)
from phalanx.net.model.view import View, view_delta

NODE = IPv4Address("198.18.0.1")


def task(number: int, *, healthy: bool | None = None) -> Task:
    return Task("f", f"t{number}", "web", "S0", NODE, TaskPhase.RUNNING, healthy=healthy)


OBJECTS: st.SearchStrategy[Object] = st.one_of(
    st.builds(task, st.integers(0, 3), healthy=st.none() | st.booleans()),
    st.builds(lambda n: Node(NODE + n, f"a{n}"), st.integers(0, 2)),
    st.builds(
        lambda n: Network(f"n{n}", IPv4Network(f"9.{n}.0.0/16"), 24, 1024 + n, 1450),
        st.integers(0, 2),
    ),
    st.builds(lambda n: Policy(f"p{n}", "a", "10.0.0.0/8", Traffic.TCP, 80, 80), st.integers(0, 2)),
)
VIEWS = st.lists(OBJECTS, max_size=6).map(lambda objects: View().changed(objects))


@given(VIEWS, VIEWS)
def test_a_delta_leads_from_the_old_view_to_the_new(old: View, new: View) -> None:
    assert old.changed(*view_delta(old, new)) == new


@given(VIEWS, VIEWS, st.sampled_from([(), ("tasks",), ("nodes", "tasks")]))
def test_a_delta_of_named_keys_is_the_same(old: View, new: View, named: tuple[str, ...]) -> None:
    only = {name: {*getattr(old, name), *getattr(new, name)} for name in named}

    upserts, removals = view_delta(old, new, only)
    whole = view_delta(old, new)

    assert {each.key: each for each in upserts} == {each.key: each for each in whole[0]}
    assert {*removals} == {*whole[1]}


@given(VIEWS)
def test_a_snapshot_survives_the_wire(view: View) -> None:
    numbered = Numbered(Position("e", 7), view)

    assert after(None, decode(encode(snapshot_of(numbered)))) == numbered


@given(VIEWS, st.integers(1, 7))
def test_a_snapshot_in_parts_is_the_same_view(view: View, size: int) -> None:
    numbered = Numbered(Position("e", 7), view)
    assembly = Assembly(Numbered(Position("d", 3), View().changed([task(9)])))
    records = list(parts_of(numbered, size=size))

    for part in records[:-1]:
        known = assembly.take(decode(encode(part)))
        assert known is not None
        assert known.position == Position("d", 3)
    assert assembly.take(decode(encode(records[-1]))) == numbered
    assert assembly.take(Delta(8, (task(3),))) == after(numbered, Delta(8, (task(3),)))


OLD = View().changed([task(1), task(2), Node(NODE, "a1")])


@pytest.mark.parametrize(
    "assembly",
    [Assembly(Numbered(Position("d", 3), OLD)), Assembly(alike=OLD)],
    ids=["new-leader", "restart"],
)
def test_what_is_said_again_stays_the_same_object(assembly: Assembly) -> None:
    old = OLD
    new = old.changed([task(3)], [("task", "f/t2")])

    for part in parts_of(Numbered(Position("e", 1), new), size=2):
        found = assembly.take(decode(encode(part)))

    assert found == Numbered(Position("e", 1), new)
    assert found.view.nodes is old.nodes
    assert found.view.tasks["f/t1"] is old.tasks["f/t1"]


def test_kinds_that_did_not_change_are_shared() -> None:
    old = View().changed([task(1), Node(NODE, "a1")])
    new = old.changed([task(2)])

    assert new.nodes is old.nodes
    assert set(old.tasks) == {"f/t1"}


def test_a_delta_that_does_not_follow_is_refused() -> None:
    numbered = Numbered(Position("e", 3), View())

    for known in (None, numbered):
        with pytest.raises(ProtocolError, match="does not follow"):
            after(known, Delta(5))


def test_a_heartbeat_changes_nothing() -> None:
    numbered = Numbered(Position("e", 3), View())

    assert after(numbered, decode(encode(Heartbeat()))) is numbered


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"{}", b'{"type":"DELTA"}', b'{"type":"NOSUCH"}', b"\xff"),
        pytest.param(DEEP, id="deep-array"),
        pytest.param(b'{"type":"HEARTBEAT","x":' + DEEP + b"}", id="deep"),
        b'{"type":"PART","objects":[{"kind":"node"}]}',
        b'{"type":"PART","objects":[{"kind":7}]}',
        b'{"type":"PART","objects":["node"]}',
        b'{"type":"PART","objects":[{"kind":"node"},{"kind":"nosuch"}]}',
    ],
)
def test_bytes_that_are_no_record_are_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError, match="feed record"):
        decode(raw)


async def test_an_unchanged_view_gets_no_number() -> None:
    source = FeedSource()
    source.publish(View().changed([task(1)]), epoch="e")
    source.publish(View().changed([task(1)]), epoch="e")

    assert source.current is not None
    assert source.current.position == Position("e", 1)


async def test_a_reader_resumes_with_the_deltas_that_it_lacks() -> None:
    source = FeedSource()
    for number in range(4):
        source.publish(View().changed([task(number)]), epoch="e")
    records = source.records(Position("e", 2))

    assert await anext(records) == Delta(3, (task(2),), (("task", "f/t1"),))
    assert await anext(records) == Delta(4, (task(3),), (("task", "f/t2"),))


@pytest.mark.parametrize(
    "position",
    [
        pytest.param(None, id="new-reader"),
        pytest.param(Position("other", 5), id="other-epoch"),
        pytest.param(Position("e", 1), id="history-moved-on"),
        pytest.param(Position("e", 99), id="from-the-future"),
    ],
)
async def test_a_reader_that_cannot_resume_gets_a_snapshot(position: Position | None) -> None:
    source = FeedSource(history=2)
    for number in range(6):
        source.publish(View().changed([task(number)]), epoch="e")

    record = await anext(source.records(position))

    assert record == Snapshot("e", 6, (task(5),))


@pytest.mark.parametrize("epoch", ["e", "f"])
async def test_a_reader_that_is_slow_misses_nothing_that_comes_meanwhile(epoch: str) -> None:
    source = FeedSource()
    source.publish(View().changed([task(1)]), epoch="e")
    records = source.records(None)
    numbered = after(None, await anext(records))

    source.publish(View().changed([task(2)]), epoch=epoch)  # the snapshot is still being sent
    numbered = after(numbered, await anext(records))

    assert numbered == source.current


@pytest.mark.parametrize("in_parts", [True, False])
async def test_readers_that_come_at_once_share_the_bytes_of_a_whole_view(*, in_parts: bool) -> None:
    source = FeedSource()
    source.publish(View().changed(map(task, range(PART_OBJECTS + 1))), epoch="e")
    first = await anext(source.frames(None, in_parts=in_parts))
    source.publish(View().changed(map(task, range(PART_OBJECTS + 2))), epoch="e")
    assembly, frames = Assembly(), []

    async for frame in source.frames(None, in_parts=in_parts):
        frames.append(frame)
        if assembly.take(frame.record) == source.current:
            break

    assert frames[0] is first
    kinds = [type(frame.record) for frame in frames]
    assert kinds == [*([Part] if in_parts else []), Snapshot, Delta]


@pytest.mark.parametrize(("params", "kind"), [({}, "SNAPSHOT"), ({"parts": "yes"}, "PART")])
async def test_a_reader_that_does_not_ask_for_parts_gets_none(
    params: dict[str, str], kind: str
) -> None:
    source = FeedSource()
    source.publish(View().changed(map(task, range(PART_OBJECTS + 1))), epoch="e")
    async with (
        asyncio.timeout(60),
        serve(app_of(source), Listener("127.0.0.1", 0)) as [place],
        ClientSession() as session,
        session.get(f"http://{place}/v1/feed", params=params) as said,
    ):
        await said.content.readline()  # the length
        assert (await said.content.read(30)).startswith(f'{{"type":"{kind}"'.encode())


def app_of(source: FeedSource) -> web.Application:
    app = web.Application()
    app.add_routes([feed_route(lambda: source)])
    return app


@pytest.mark.parametrize("number", ["", "-1", "x", "9" * 5000])
async def test_a_position_without_a_number_of_ours_is_a_bad_request(number: str) -> None:
    source = FeedSource()
    source.publish(View(), epoch="e")
    app = web.Application(middlewares=[errors_as_json])
    app.add_routes([feed_route(lambda: source)])
    async with (
        asyncio.timeout(60),
        serve(app, Listener("127.0.0.1", 0)) as [place],
        ClientSession() as session,
        session.get(f"http://{place}/v1/feed", params={"epoch": "e", "sequence": number}) as said,
    ):
        assert said.status == 400


async def test_a_follower_sees_every_change_and_survives_its_source() -> None:
    first, second = FeedSource(), FeedSource()
    view = View().changed([task(1)])
    first.publish(view, epoch="e")
    second.publish(view, epoch="e")
    second.publish(view.changed([task(2)]), epoch="e")
    async with (
        asyncio.timeout(60),
        serve(app_of(second), Listener("127.0.0.1", 0)) as [other],
    ):
        async with serve(app_of(first), Listener("127.0.0.1", 0)) as [place]:
            views = follow([f"http://{place}", f"http://{other}"])
            numbered, record = await anext(views)
            assert isinstance(record, Snapshot)
            assert numbered.view == view
        numbered, record = await anext(views)

    assert isinstance(record, Delta)
    assert numbered.view == view.changed([task(2)])


async def test_who_may_not_send_any_more_cuts_the_feed() -> None:
    source = FeedSource()
    source.publish(View().changed([task(1)]), epoch="e")
    leads = True
    app = web.Application()
    app.add_routes([feed_route(lambda: source, may_send=lambda: leads)])
    async with (
        asyncio.timeout(60),
        serve(app, Listener("127.0.0.1", 0)) as [place],
        ClientSession() as session,
        session.get(f"http://{place}/v1/feed") as said,
    ):
        first = await said.content.readany()
        assert b'"SNAPSHOT"' in first

        leads = False
        source.publish(View().changed([task(1), task(2)]), epoch="e")
        with pytest.raises(ClientError):
            await said.content.read()


async def test_once_ends_with_the_newest_view_that_there_is() -> None:
    source = FeedSource()
    source.publish(View().changed([task(1)]), epoch="e")
    app = web.Application()
    app.add_routes([feed_route(lambda: source)])
    async with (
        asyncio.timeout(60),
        serve(app, Listener("127.0.0.1", 0)) as [place],
    ):
        url = f"http://{place}"
        first = await asyncio.to_thread(read_view, url)
        source.publish(View().changed([task(1), task(2)]), epoch="e")
        second = await asyncio.to_thread(read_view, url)

    assert (first, second) == (View().changed([task(1)]), View().changed([task(1), task(2)]))


class Turns:
    """Serves one source after the other at one address, each until it is cut."""

    def __init__(self, *sources: FeedSource) -> None:
        self._sources = list(sources)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for frame in self._sources.pop(0).frames(None):
            await response.write(frame.raw)
            if isinstance(frame.record, Heartbeat):
                break  # it has said all it knows
        return response


@pytest.mark.parametrize("stale", [("e", 2), ("d", 9)], ids=["behind", "ended-leadership"])
async def test_a_follower_never_goes_back(
    stale: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phalanx.net.feed.client.BEHIND_SECONDS", 0.0)
    monkeypatch.setattr("phalanx.net.feed.source.HEARTBEAT_SECONDS", 0.05)

    def source_at(epoch: str, sequence: int) -> FeedSource:
        source = FeedSource()
        for number in range(sequence):
            source.publish(View().changed([task(number)]), epoch=epoch)
        return source

    turns = Turns(*(source_at(*at) for at in [("d", 1), ("e", 3), stale, stale, ("e", 4)]))
    app = web.Application()
    app.add_routes([web.get("/v1/feed", turns.serve)])
    seen: list[Position] = []
    async with asyncio.timeout(60), serve(app, Listener("127.0.0.1", 0)) as [place]:
        async for numbered, _ in follow([f"http://{place}"]):
            seen.append(numbered.position)
            if len(seen) == 3:
                break

    assert seen == [Position("d", 1), Position("e", 3), Position("e", 4)]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"SNAPSHOT","epoch":"e","sequence":4,"objects":[%s],"news":1}',
        b'{"type":"DELTA","sequence":4,"upserts":[%s],"removals":[["nosuch","x"],["node","y"]]}',
    ],
    ids=["snapshot", "delta"],
)
def test_what_a_later_version_says_beside_is_left_out(raw: bytes) -> None:
    node = encode(Part((Node(NODE, "a1"),))).partition(b"[")[2].removesuffix(b"]}")
    strange = b'{"kind":"nosuch","name":"x"},' + node.replace(b"{", b'{"hue":"blue",', 1)
    known = Numbered(Position("e", 3), View())

    numbered = after(known, decode(raw % strange))

    assert numbered == Numbered(Position("e", 4), View().changed([Node(NODE, "a1")]))


def test_words_of_a_later_version_send_nobody_anywhere() -> None:
    strange = b'{"type":"PART","objects":[%s]}'
    known = encode(Part((Node(NODE, "a1", agent_id="S0"), task(1))))
    texts = known.partition(b"[")[2].rpartition(b"]")[0]
    texts = texts.replace(b'"alive"', b'"asleep"').replace(b'"running"', b'"frozen"')
    part = decode(strange % texts)

    assert isinstance(part, Part)
    [node, found] = part.objects
    assert isinstance(node, Node)
    assert isinstance(found, Task)
    assert node.liveness is Liveness.SUSPECT
    assert found.phase is TaskPhase.PREPARING


def test_objects_of_an_earlier_version_can_be_read() -> None:
    """What is required was there from the start: a field that came later has a default."""
    required = {
        kind.kind: {field.name for field in msgspec.structs.fields(kind) if field.required}
        for kind in get_args(Object)
    }

    assert required == {
        "node": {"address", "hostname"},
        "network": {"name", "subnet", "prefix", "vni", "mtu"},
        "subnet": {"network", "node", "subnet"},
        "framework": {"id", "name"},
        "task": {"framework_id", "id", "name", "agent_id", "node", "phase"},
        "vip": {"name", "address"},
        "policy": {"name", "source", "destination", "protocol"},
    }
