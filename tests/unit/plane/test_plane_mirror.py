"""A plane has the newest View, keeps it on disk, and goes on with it when nobody speaks."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import web

from phalanx.core.api.serve import Listener, serve
from phalanx.net.api.feed import feed_route
from phalanx.net.feed.record import Numbered, Position, Snapshot
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.objects import Node
from phalanx.net.model.view import View
from phalanx.plane.last_view import LastView, load_last_view
from phalanx.plane.mirror import Mirror

M1 = Node(IPv4Address("198.18.0.11"), "m1", is_master=True)
A1 = Node(IPv4Address("198.18.0.101"), "a1", agent_id="S0")
VIEW = View().changed([M1, A1])
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
async def feed() -> AsyncIterator[tuple[FeedSource, str]]:
    source = FeedSource()
    app = web.Application()
    app.add_routes([feed_route(lambda: source)])
    async with serve(app, Listener("127.0.0.1", 0)) as [place]:
        yield source, f"http://{place}"


async def changed(event: asyncio.Event) -> None:
    async with asyncio.timeout(60):
        await event.wait()
    event.clear()


def test_a_new_process_begins_with_the_view_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "view.json"
    LastView(path).save(Numbered(Position("e", 7), VIEW))

    mirror = Mirror([NOBODY], path, changed=lambda: None)

    assert mirror.view == VIEW
    assert not mirror.is_heard


async def test_the_feed_is_followed_kept_and_relayed(
    tmp_path: Path, feed: tuple[FeedSource, str]
) -> None:
    source, url = feed
    news = asyncio.Event()
    mirror = Mirror([NOBODY, url], tmp_path / "view.json", changed=news.set)
    source.publish(VIEW, epoch="e")
    tasks = [asyncio.ensure_future(mirror.run()), asyncio.ensure_future(mirror.keep())]

    await changed(news)
    assert mirror.is_heard
    assert mirror.view == VIEW

    fewer = VIEW.changed([], [("node", A1.key)])
    source.publish(fewer, epoch="e")
    await changed(news)
    assert mirror.view == fewer
    assert await anext(mirror.relay.records(None)) == Snapshot("e", 2, (M1,))

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert load_last_view(tmp_path / "view.json") == Numbered(Position("e", 2), fewer)


async def test_a_disk_of_another_cluster_counts_for_nothing_once_the_feed_speaks(
    tmp_path: Path, feed: tuple[FeedSource, str]
) -> None:
    source, url = feed
    path = tmp_path / "view.json"
    LastView(path).save(Numbered(Position("e", 9), View().changed([A1])))
    news = asyncio.Event()
    mirror = Mirror([url], path, changed=news.set)
    source.publish(View().changed([M1]), epoch="e")
    tasks = [asyncio.ensure_future(mirror.run()), asyncio.ensure_future(mirror.keep())]

    await changed(news)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert mirror.numbered == Numbered(Position("e", 1), View().changed([M1]))
    assert mirror.numbered == load_last_view(path)
