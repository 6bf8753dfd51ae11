"""A source that dies amid a whole View leaves no trace: what counts is what came whole."""

import asyncio
from ipaddress import IPv4Address

import pytest
from aiohttp import web

from phalanx.core.api.cut import cut
from phalanx.core.api.serve import Listener, serve
from phalanx.net.feed.client import follow
from phalanx.net.feed.record import Numbered, Position
from phalanx.net.feed.source import FeedSource, Frame
from phalanx.net.model.objects import Node, Task, TaskPhase
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.1")
MANY = View().changed(
    [
        Node(NODE, "a1"),
        *(Task("f", f"t{n}", "web", "S0", NODE, TaskPhase.RUNNING) for n in range(1200)),
    ]
)
FEW = View().changed([Node(NODE, "a1"), Task("f", "new", "web", "S0", NODE, TaskPhase.RUNNING)])


async def said_by(view: View, epoch: str) -> list[Frame]:
    """Return the records of a whole View."""
    source = FeedSource()
    source.publish(view, epoch=epoch)
    return [frame async for frame in source.frames(None, in_parts=True, once=True)]


class Dying:
    """Says a row of records to each who comes, and is cut off after all rows but the last."""

    def __init__(self, *rows: list[Frame]) -> None:
        self._rows = list(rows)
        self.asked: list[dict[str, str]] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        row = self._rows.pop(0)
        response = web.StreamResponse()
        await response.prepare(request)
        for frame in row:
            await response.write(frame.raw)
        if self._rows:
            cut(request.transport)
        else:
            await asyncio.Event().wait()
        return response


@pytest.mark.parametrize("is_known", [False, True], ids=["at first", "after another View"])
@pytest.mark.parametrize("sent", [0, 1, 2])
async def test_half_of_a_view_is_no_view(sent: int, *, is_known: bool) -> None:
    half = (await said_by(MANY, "old"))[:sent]
    assert len(half) == sent
    known = Numbered(Position("e", 5), View().changed([Node(NODE + 1, "a2")])) if is_known else None
    dying = Dying(half, half, await said_by(FEW, "new"))
    app = web.Application()
    app.router.add_get("/v1/feed", dying.serve)

    async with asyncio.timeout(120), serve(app, Listener("127.0.0.1", 0)) as [place]:
        views = follow([f"http://{place}"], known=known, alike=MANY)
        numbered, _ = await anext(views)
        await views.aclose()  # type: ignore[attr-defined]  # it is a generator

    assert numbered == Numbered(Position("new", 1), FEW)
    assert numbered.view.nodes[str(NODE)] == MANY.nodes[str(NODE)]
    at = {"epoch": "e", "sequence": "5"} if is_known else {}
    assert dying.asked == [{"parts": "yes"} | at] * 3
