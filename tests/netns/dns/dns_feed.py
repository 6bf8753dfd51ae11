"""Feed a View with ``web`` on as many addresses as each line of standard input says."""

import asyncio
import sys
from ipaddress import IPv4Address

from aiohttp import web

from phalanx.core.api.serve import Listener, serve
from phalanx.core.log import configure_log
from phalanx.net.api.feed import feed_route
from phalanx.net.feed.source import FeedSource
from phalanx.net.model.objects import Framework, Node, Task, TaskPhase
from phalanx.net.model.view import View

NODE = IPv4Address("198.18.0.2")
PORT = 62081


def cluster(count: int) -> View:
    """Return the View."""
    tasks = [
        Task("f", f"web.{n}", "web", "x-S0", NODE, TaskPhase.RUNNING,
             addresses=(IPv4Address("9.0.0.1") + n,), networks=("dcos",))
        for n in range(count)
    ]  # fmt: skip
    return View().changed([Node(NODE, "a1", agent_id="x-S0"), Framework("f", "marathon"), *tasks])


async def main() -> None:
    """Publish until standard input ends."""
    source = FeedSource()
    app = web.Application()
    app.add_routes([feed_route(lambda: source)])
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with serve(app, Listener("127.0.0.1", PORT)):
        while line := await lines.readline():
            source.publish(cluster(int(line)), epoch="e")
            sys.stdout.write("published\n")
            sys.stdout.flush()


if __name__ == "__main__":
    configure_log("feed", level="warning")
    asyncio.run(main())
