"""What others change is told apart from what we change ourselves, even amid a pass of ours."""

import asyncio
import subprocess
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from pathlib import Path

from prometheus_client import CollectorRegistry

from phalanx.core.netns import call_in
from phalanx.core.reconcile.reconciler import Table
from phalanx.net.nft.library import Nft
from phalanx.plane.drift import drift_watched
from phalanx.plane.sequence import TableSequence

ADDRESS = IPv4Address("198.18.1.1")
NAMES = (
    *("phxtest_slow", "phxtest_other", "links", "settings", "settings of lo"),
    *("routes", "rules", "addresses"),
)


class Looks:
    """A table that notes each look at the kernel, and may wait for leave in the middle of one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.looks = 0
        self.begun, self.leave = asyncio.Event(), asyncio.Event()
        self.leave.set()

    async def reconcile_once(self, *, resync: bool) -> bool:
        self.looks += resync
        self.begun.set()
        await self.leave.wait()
        return True


async def nothing(*_: object) -> None:
    pass


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - the other side is the kernel
            await asyncio.sleep(0.005)


async def watched(foreign: list[str], expected: frozenset[str]) -> Mapping[str, int]:
    """Return how often each table was looked at again for a foreign change amid a pass."""
    tables = {name: Looks(name) for name in NAMES}
    rows: list[Table] = list(tables.values())
    sequence = TableSequence(
        rows,
        begin=nothing,
        done=nothing,
        resync_seconds=3600,
        registry=CollectorRegistry(),
    )
    nft = Nft()
    await nft.run("add table inet phxtest_slow", table="phxtest_slow")
    first = tables[NAMES[0]]
    with drift_watched(sequence, "phxtest_slow", "phxtest_other", node=ADDRESS):
        running = asyncio.ensure_future(sequence.run())
        await seen(lambda: all(each.looks == 1 for each in tables.values()))
        first.begun.clear()
        first.leave.clear()
        sequence.poke()
        await first.begun.wait()
        # Amid the pass: our own change, then one of somebody else.
        await nft.run("add chain inet phxtest_slow ours", table="phxtest_slow")
        await asyncio.to_thread(subprocess.run, foreign, check=True)
        first.leave.set()
        await seen(lambda: all(tables[name].looks == 2 for name in expected))
        running.cancel()
    nft.close()
    return {name: each.looks for name, each in tables.items() if each.looks > 1}


def looks(netns: str, foreign: list[str], *expected: str) -> Mapping[str, int]:
    found = call_in(
        Path("/run/netns", netns), lambda: asyncio.run(watched(foreign, frozenset(expected)))
    )
    subprocess.run(
        ["ip", "netns", "exec", netns, "nft", "delete", "table", "inet", "phxtest_slow"],
        check=True,
    )
    return found


def test_only_the_table_that_somebody_else_changed_is_read_back(ns: str) -> None:
    there = ["ip", "netns", "exec", ns]
    settings = ("settings", "settings of lo")

    nft = looks(ns, [*there, "nft", "add", "table", "inet", "phxtest_other"], "phxtest_other")
    rule = looks(ns, [*there, "ip", "rule", "add", "table", "7", "protocol", "122"], "rules")
    path = looks(ns, [*there, "sysctl", "-qw", "net.ipv4.ip_forward=1"], *settings)

    assert nft == {"phxtest_other": 2}
    assert rule == {"rules": 2}
    assert path == dict.fromkeys(settings, 2)
