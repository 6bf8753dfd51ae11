"""Errors and deaths at every step of a change: the next pass makes the table right."""

import asyncio
import errno
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.netns.isolation.test_isolation_matrix import CLUSTER, WHERE

from phalanx.core.error import DataplaneError
from phalanx.core.reconcile.delta import Delta, delta
from phalanx.core.reconcile.incremental import IncrementalReconciler
from phalanx.net.isolation.desired import Isolation, desired_isolation
from phalanx.net.isolation.evaluate import Evaluator, Packet
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.isolation.lookup import Lookup
from phalanx.net.model.objects import Action, Network, Policy, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import RULES, Element
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


class Fault(StrEnum):
    REFUSED = "refused"  # the kernel hears of nothing
    LOST = "answer-lost"  # it has done what was asked, and the answer is lost
    GONE = "table-gone"  # somebody deletes the table just before


class FailingNft(Nft):
    """Fails at one call of all that go to the kernel."""

    def __init__(self, netns: Path) -> None:
        super().__init__(netns=netns)
        self.steps_left: int | None = None
        self.fault = Fault.REFUSED

    async def run(self, script: str, *, table: str) -> None:
        is_due = await self._is_due()
        if not is_due or self.fault is not Fault.REFUSED:
            await super().run(script, table=table)
        if is_due and self.fault is not Fault.GONE:
            raise DataplaneError("No buffer space available", table=table)

    async def check(self, script: str, *, table: str) -> None:
        if await self._is_due() and self.fault is not Fault.GONE:
            raise DataplaneError("Device or resource busy", table=table)
        await super().check(script, table=table)

    async def read(self, command: str, *, table: str, with_elements: bool = True) -> Any:
        if await self._is_due() and self.fault is not Fault.GONE:
            raise DataplaneError("Interrupted system call", table=table)
        return await super().read(command, table=table, with_elements=with_elements)

    async def open(self, make: Callable[[], T]) -> T:
        if await self._is_due() and self.fault is not Fault.GONE:
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return await super().open(make)

    async def _is_due(self) -> bool:
        if self.steps_left is None:
            return False
        self.steps_left -= 1
        if self.steps_left == 0 and self.fault is Fault.GONE:
            name = ISOLATION.table
            script = f"add table inet {name}\ndelete table inet {name}\n"
            await super().run(script, table=name)
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


PACKETS = [
    Packet(ip_address(one[2][version]), ip_address(other[2][version]), protocol, port)
    for version in (4, 6)
    for one in WHERE.values()
    for other in WHERE.values()
    if one is not other
    for protocol, port in ((6, 80), (6, 22), (17, 5500), (1, 0))
]


def fates(view: View) -> list[bool]:
    evaluator = Evaluator(view)
    return [evaluator.allowed(packet).is_allowed for packet in PACKETS]


FATES = fates(BEFORE), fates(AFTER)


def astray(elements: set[Element]) -> list[Packet]:
    """Return the packets that fare neither as before a change nor as after it."""
    lookup = Lookup(elements)
    return [
        packet
        for packet, *meant in zip(PACKETS, *FATES, strict=True)
        if lookup.between(packet).passes not in meant
    ]


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("resync", [False, True], ids=["change", "resync"])
@pytest.mark.parametrize("is_first", [False, True], ids=["follows", "first-pass"])
async def test_an_error_at_any_step_opens_nothing_and_is_made_good(
    nft: FailingNft, fault: Fault, resync: bool, is_first: bool
) -> None:
    nft.fault = fault
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
        held = await work.table.elements()

        if fault is not Fault.GONE:
            assert RULES in held, number
            assert not astray(held), number
        # Who deletes the table is heard of, and what is there is read.
        assert await work.reconciler.reconcile_once(resync=fault is Fault.GONE)
        held = await KernelSetTable(nft, ISOLATION).elements()
        assert held == desired_isolation(AFTER).keys(), number

    assert steps > 0


async def test_elements_that_no_kernel_takes_keep_no_other_from_its_place(
    nft: FailingNft,
) -> None:
    work = Pass(nft)
    assert await work.reconciler.reconcile_once()
    change = delta(desired_isolation(AFTER), desired_isolation(BEFORE))
    wrong = [Element("networks4", (f"9.{number}.0.0/16",)) for number in range(3)]
    wrong += [Element("ports", ("1:1", "6", "81"), "goto nowhere")]

    with pytest.raises(DataplaneError) as refused:
        await work.table.apply(Delta({**change.upserts, **dict.fromkeys(wrong)}, change.removals))

    assert all(str(each) in str(refused.value) for each in wrong)
    assert await work.table.elements() == desired_isolation(AFTER).keys()


async def test_a_table_that_lacks_what_is_to_go_is_changed_in_what_it_has(nft: FailingNft) -> None:
    work = Pass(nft)
    assert await work.reconciler.reconcile_once()
    for name in ("fine4", "near4", "fine6", "near6", "ports", "ranges", "protocols", "others"):
        await nft.run(f"flush map inet {ISOLATION.table} {name}", table="test")
    work.view = AFTER

    assert not await work.reconciler.reconcile_once(resync=False)

    lookup = Lookup(await work.table.elements())
    opened = [packet for packet in astray(await work.table.elements())
              if lookup.between(packet).passes]  # fmt: skip
    assert not opened
    assert await work.reconciler.reconcile_once()
    assert await work.table.elements() == desired_isolation(AFTER).keys()


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
