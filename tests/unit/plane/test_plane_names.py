"""A View that changes much is published in steps, each of which is answered from whole."""

import asyncio
from collections.abc import Collection
from ipaddress import IPv4Address

import msgspec
import pytest

from phalanx.dns.publish import ZoneTable
from phalanx.dns.zones.desired import Zones, desired_zones
from phalanx.dns.zones.ledger import HeldVips
from phalanx.dns.zones.settings import DEFAULTS
from phalanx.net.model.objects import Framework, Node, Object, Task, TaskPhase, VipLease
from phalanx.net.model.view import Ref, View, refs_between
from phalanx.plane.names import STEP, Names

NODE = IPv4Address("198.18.0.1")
FEW: list[Object] = [Node(NODE, "a1"), Framework("f", "marathon"), VipLease("web", NODE + 9)]


def task(number: int, phase: TaskPhase = TaskPhase.RUNNING) -> Task:
    own = (IPv4Address("9.0.0.1") + number,)
    return Task(
        "f", f"t{number}", f"app{number}", "S0", NODE, phase, addresses=own, networks=("n",)
    )


MANY = View().changed([*FEW, *map(task, range(3 * STEP))])
HELD: HeldVips = {"web": (NODE + 9,)}


def names_in(zones: Zones) -> dict[str, set[str]]:
    return {
        apex: {name for name in zone.names if name != apex}
        for apex, zone in zones.items()
        if zone is not None and apex in desired_zones(View(), settings=DEFAULTS)
    }


def wanted(view: View, held: HeldVips) -> dict[str, set[str]]:
    return names_in(desired_zones(view, settings=DEFAULTS, held=held, servers=[NODE]))


@pytest.fixture
def table() -> ZoneTable:
    return ZoneTable(node=NODE, servers=[NODE])


async def meanwhile(names: Names, table: ZoneTable, view: View) -> list[Zones]:
    """Follow *view*; return the zones that were answered from at each turn of the loop."""
    seen: list[Zones] = []
    following = asyncio.ensure_future(names.follow(view, HELD, None))
    while not following.done():
        seen.append(dict(table.zones))
        await asyncio.sleep(0)
    await following
    return seen


async def test_before_the_first_is_whole_nothing_is_answered_from_it(table: ZoneTable) -> None:
    seen = await meanwhile(Names(table), table, MANY)

    assert len(seen) > 2
    assert all(zones["mesos."] is None for zones in seen)
    assert names_in(table.zones) == wanted(MANY, HELD)


async def test_each_step_is_told_and_the_last_is_the_view(table: ZoneTable) -> None:
    names = Names(table)
    names.publish(MANY, HELD)
    killing = [task(number, TaskPhase.KILLING) for number in range(2 * STEP + 1)]
    after = MANY.changed(killing, [("task", f"f/t{3 * STEP - 1}"), ("vip", "web")])
    told: list[tuple[View, HeldVips | None, Collection[Ref] | None]] = []
    table.published = lambda *each: told.append(each)

    await names.follow(after, HELD, refs_between(MANY, after))

    steps = [view for view, _, _ in told]
    assert len(steps) == 3
    assert steps[-1] is after is names.view
    assert names_in(table.zones) == wanted(after, HELD)
    for old, (new, _, touched) in zip([MANY, *steps], told, strict=False):
        assert touched is not None
        assert set(refs_between(old, new)) <= set(touched)
        assert len(touched) <= STEP


async def test_what_changes_little_is_one_step(table: ZoneTable) -> None:
    names = Names(table)
    names.publish(MANY, {})
    told: list[View] = []
    table.published = lambda view, *_: told.append(view)
    after = MANY.changed([task(0, TaskPhase.KILLING)])

    await names.follow(after, HELD, [("task", "f/t0")])
    await names.follow(after, HELD, ())

    assert told == [after]
    assert names_in(table.zones) == wanted(after, HELD)


async def test_one_cut_off_amid_its_steps_is_gone_on_from(table: ZoneTable) -> None:
    names = Names(table)
    names.publish(before := View().changed(FEW), HELD)
    following = asyncio.ensure_future(names.follow(MANY, HELD, refs_between(before, MANY)))
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    assert names.view is not MANY

    await names.follow(MANY, HELD, None)

    assert names_in(table.zones) == wanted(MANY, HELD)


async def test_what_failed_leaves_the_last_answers_and_is_made_anew(table: ZoneTable) -> None:
    names = Names(table)
    names.publish(MANY, HELD)
    broken = msgspec.structs.replace(task(0), ports=(None,))  # no decoder lets that through
    with pytest.raises(AttributeError):
        await names.follow(MANY.changed([broken]), HELD, [("task", broken.key)])
    assert "app1.marathon.mesos." in names_in(table.zones)["mesos."]
    good = MANY.changed([], [("task", "f/t1")])

    await names.follow(good, HELD, [("task", "f/t0"), ("task", "f/t1")])

    assert names_in(table.zones) == wanted(good, HELD)
