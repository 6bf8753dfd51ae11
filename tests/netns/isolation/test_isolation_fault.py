"""Errors and deaths at every step of a change: the next pass makes the table right."""

import asyncio
import errno
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.netns.isolation.test_isolation_matrix import CLUSTER

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.net.isolation.desired import Isolation, desired_isolation
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Action, Network, Policy, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.library import Nft
from phalanx.net.nft.set_table import KernelSetTable

FIRST = [
    Policy("web", "role=web", "role=db", Traffic.TCP, ports=((80, 81), (443, 443))),
    Policy("wide", "dcos", "blue", Traffic.UDP, ports=((5000, 6000),)),
]
SECOND = [
    Policy("web", "role=web", "/prod/db", Traffic.ANY),
    Policy("no", "any", "role=db", Traffic.TCP, action=Action.DENY),
]
BEFORE = CLUSTER.changed(FIRST)
AFTER = CLUSTER.changed(SECOND, [("task", "marathon/e1"), ("policy", "wide")])
MOST_STEPS = 50

T = TypeVar("T")


class FailingNft(Nft):
    """Fails at one call: before the kernel hears of it, or after, when the answer is lost."""

    def __init__(self, netns: Path) -> None:
        super().__init__(netns=netns)
        self.steps_left: int | None = None
        self.is_heard = False

    async def run(self, script: str, *, table: str) -> None:
        is_due = self._is_due()
        if not is_due or self.is_heard:
            await super().run(script, table=table)
        if is_due:
            raise DataplaneError("as the test wants it", table=table)

    async def read(self, command: str, *, table: str, with_elements: bool = True) -> Any:
        if self._is_due():
            raise DataplaneError("as the test wants it", table=table)
        return await super().read(command, table=table, with_elements=with_elements)

    async def open(self, make: Callable[[], T]) -> T:
        if self._is_due():
            raise OSError(errno.ENOBUFS, "as the test wants it")
        return await super().open(make)

    def _is_due(self) -> bool:
        if self.steps_left is None:
            return False
        self.steps_left -= 1
        return self.steps_left == 0


class Pass:
    """A reconciler of the table that follows a View."""

    def __init__(self, nft: Nft) -> None:
        self.view = BEFORE
        self.table = KernelSetTable(nft, ISOLATION)
        self.reconciler = IncrementalReconciler(
            self.table,
            lambda: self.view,
            desired_isolation,
            lambda old, new: Isolation().follow(old)[0].follow(new)[1],
        )


@pytest.fixture
def nft(ns: str) -> Iterator[FailingNft]:
    handle = FailingNft(Path("/run/netns", ns))
    yield handle
    handle.close()


@pytest.mark.parametrize("is_heard", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("resync", [False, True], ids=["change", "resync"])
@pytest.mark.parametrize("is_first", [False, True], ids=["follows", "first-pass"])
async def test_an_error_at_any_step_is_made_good_by_the_next_pass(
    nft: FailingNft, is_heard: bool, resync: bool, is_first: bool
) -> None:
    nft.is_heard = is_heard
    steps = 0
    for number in range(1, MOST_STEPS):
        nft.steps_left = None
        work = Pass(nft)
        assert await work.reconciler.reconcile_once()
        if is_first:
            work = Pass(nft)  # of a process that has just started
        work.view, nft.steps_left = AFTER, number
        await work.reconciler.reconcile_once(resync=resync)
        left, nft.steps_left = nft.steps_left, None
        if left > 0:
            break
        steps += 1

        assert await work.reconciler.reconcile_once(resync=False)
        held = await KernelSetTable(nft, ISOLATION).elements()
        assert held == desired_isolation(AFTER).keys(), number

    assert steps > 0


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.netns.isolation.test_isolation_fault import AFTER, BEFORE, Pass
from phalanx.net.nft.library import Nft

async def change():
    nft = Nft(netns=Path("/run/netns", sys.argv[1]))
    while True:
        work = Pass(nft)
        for view in (BEFORE, AFTER) * 3:
            work.view = view
            assert await work.reconciler.reconcile_once(resync=False)
            print("so far", flush=True)

asyncio.run(change())
"""


def killed_amid_changes(ns: str, passes: int) -> None:
    """Let a process of its own change the table and kill it once it has made some passes."""
    root = str(Path(__file__).parents[3])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, ns, root], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None  # a pipe, as asked for
    with child.stdout as said:
        for _ in range(passes):
            assert said.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()


async def test_a_death_at_any_moment_leaves_one_state_or_the_other(
    ns: str, nft: FailingNft
) -> None:
    rng = random.Random(random.randrange(1 << 32))
    states = [desired_isolation(view).keys() for view in (BEFORE, AFTER)]
    for _ in range(3):
        await asyncio.to_thread(killed_amid_changes, ns, rng.randint(1, 12))

        assert await KernelSetTable(nft, ISOLATION).elements() in states
    work = Pass(nft)
    assert await work.reconciler.reconcile_once()
    assert set(await work.table.read()) == states[0]


async def test_a_network_that_is_deleted_and_made_again_is_walled_and_reached_again(
    nft: FailingNft,
) -> None:
    again = Network("blue", CLUSTER.networks["blue"].subnet, 24, 1077, 1450)
    for view in (
        BEFORE,
        BEFORE.changed((), [("network", "blue")]),
        BEFORE.changed([again]),
        View(),
        BEFORE,
    ):
        work = Pass(nft)
        work.view = view
        assert await work.reconciler.reconcile_once()

        assert set(await work.table.read()) == desired_isolation(view).keys()
