"""What follows from a change is what the whole of the new View has otherwise, step by step."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.isolation.policies import BLUE, CLUSTER, DCOS, RED, container, packets, policies

from phalanx.net.isolation import number
from phalanx.net.isolation.desired import Isolation, desired_isolation
from phalanx.net.isolation.evaluate import Evaluator
from phalanx.net.isolation.layout import FAR, FINE, NEAR, OTHERS, PORTS, PROTOCOLS, RANGES, WIDE
from phalanx.net.isolation.lookup import Lookup
from phalanx.net.model.objects import Network, Policy, Task, Traffic
from phalanx.net.model.view import View
from phalanx.net.nft.element import Element

PACKETS = packets()[::4]
CLASSES = {f"{name}{version}" for name in (FINE, WIDE) for version in (4, 6)}
PAIRS = {f"{name}{version}" for name in (NEAR, FAR) for version in (4, 6)}
WEB_TO_DB = Policy("web-to-db", "role=web", "role=db", Traffic.TCP, ports=((5432, 5432),))
MOVED = msgspec.structs.replace(BLUE, subnet=IPv4Network("10.24.0.0/16"))
LABELS = ("role=web", "role=db", "env=prod", "role=job")


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    network, prefix, prefix6 = draw(
        st.sampled_from(
            [
                ("dcos", "9.0.1", ""),
                ("blue", "10.20.1", "fd01:20::"),
                ("red", "10.21.1", "fd01:21::"),
            ]
        )
    )
    host = draw(st.integers(2, 4))
    return container(
        draw(st.sampled_from(["w1", "w2", "d1", "d2", "p1", "n1", "n2"])),
        network,
        f"{prefix}.{host}",
        *draw(st.lists(st.sampled_from(LABELS), max_size=2, unique=True)),
        address6=f"{prefix6}{host}" if prefix6 and draw(st.booleans()) else "",
        app=draw(st.sampled_from(["", "web.prod"])),
    )


@st.composite
def steps(draw: st.DrawFn) -> list[View]:
    """Draw Views each of which changes some objects of the one before."""
    view, found = CLUSTER, []
    for _ in range(draw(st.integers(1, 6))):
        upserts: list[Task | Policy | Network] = [*draw(st.lists(tasks(), max_size=2))]
        upserts += draw(policies(most=2))
        upserts += draw(
            st.lists(
                st.sampled_from(
                    [DCOS, BLUE, RED, MOVED, msgspec.structs.replace(RED, isolated=True)]
                ),
                max_size=1,
            )
        )
        there = sorted((each.kind, each.key) for each in view.objects())
        gone = draw(st.lists(st.sampled_from(there), max_size=2)) if there else []
        view = view.changed(upserts, gone)
        found.append(view)
    return found


@settings(max_examples=60, deadline=None)
@given(steps())
def test_each_step_is_the_difference_of_the_wholes(views: list[View]) -> None:
    held, _ = Isolation().follow(CLUSTER)
    elements = desired_isolation(CLUSTER)
    for view in views:
        held, change = held.follow(view)

        whole = desired_isolation(view)
        assert held.elements == whole
        assert set(change.upserts) == whole.keys() - elements.keys()
        assert change.removals == elements.keys() - whole.keys()
        elements = whole


def amid(before: set[Element], after: set[Element]) -> Iterator[set[Element]]:
    """Yield what packets meet that have looked up some of *before* when *after* comes."""
    yield after
    for names in (CLASSES, CLASSES | PAIRS):
        yield {e for e in before if e.set_name in names} | {
            e for e in after if e.set_name not in names
        }


@settings(max_examples=12, deadline=None)
@given(steps())
def test_no_packet_amid_its_lookups_meets_half_a_change(views: list[View]) -> None:
    held, _ = Isolation().follow(CLUSTER)
    for view in views:
        view = msgspec.structs.replace(view, networks=CLUSTER.networks, tasks=held.view.tasks)
        after, change = held.follow(view)
        fates = Evaluator(held.view), Evaluator(view)
        may = [{each.allowed(packet).is_allowed for each in fates} for packet in PACKETS]
        elements = set(held.elements)
        for stage in change.stages:
            assert stage
            following = (elements - stage.removals) | stage.upserts.keys()
            for met in amid(elements, following):
                table = Lookup(met)
                assert all(
                    table.between(packet).passes in one
                    for packet, one in zip(PACKETS, may, strict=True)
                )
            elements = following
        assert elements == set(after.elements)
        held = after


@settings(max_examples=30, deadline=None)
@given(steps())
def test_steps_agree_also_where_digests_meet(views: list[View]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        first = number._number
        patched.setattr(
            number, "_number", lambda thing, attempt: f"1:{int(first(thing, attempt)[-1], 16) + 1}"
            if attempt < 3 else first(thing, attempt),
        )  # fmt: skip
        held = Isolation()
        for view in views:
            held, _ = held.follow(view)

            assert held.elements == desired_isolation(view)
            for numbers in (held.policies.classes, held.policies.pairs):
                assert len(set(numbers.of.values())) == len(numbers.of)


def crowd(size: int) -> View:
    """Return a View with a policy between *size* containers and as many others."""
    made = [
        *(
            container(f"w{n}", "dcos", str(IPv4Address("9.0.1.2") + n), "role=web")
            for n in range(size)
        ),
        *(
            container(f"d{n}", "blue", str(IPv4Address("10.20.1.2") + n), "role=db")
            for n in range(size)
        ),
    ]
    return View().changed([DCOS, BLUE, RED, WEB_TO_DB, *made])


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ([container("w9999", "dcos", "9.99.1.2", "role=web")], {f"{FINE}4"}),
        ([container("d9999", "blue", "10.20.99.2", "role=db")], {f"{NEAR}4"}),
        ([container("x", "red", "10.21.1.2", "role=job")], set()),
        ([msgspec.structs.replace(WEB_TO_DB, ports=((80, 80),))], {PORTS}),
        ([msgspec.structs.replace(WEB_TO_DB, reason="words alone")], set()),
        ([Policy("more", "role=web", "role=db", Traffic.UDP)], {PROTOCOLS}),
        ([Policy("far", "role=job", "red", Traffic.ANY)], set()),
        ([Policy("near", "10.21.0.0/24", "role=db", Traffic.ANY)], {"wide4", OTHERS, f"{NEAR}4"}),
        ([Policy("to", "role=web", "red", Traffic.ANY)], {f"{FAR}4", OTHERS}),
        ([msgspec.structs.replace(RED, isolated=True)], {"walled4", "walled6"}),
    ],
    ids=lambda each: None,
)
def test_a_change_touches_no_more_than_it_speaks_of(
    changed: list[Task | Policy | Network], names: set[str]
) -> None:
    view = crowd(50)
    held, _ = Isolation().follow(view)

    _, change = held.follow(view.changed(changed))

    assert {each.set_name for each in (*change.upserts, *change.removals)} == names


def test_a_view_without_a_change_of_ours_costs_nothing() -> None:
    view = crowd(5)
    held, _ = Isolation().follow(view)

    after, change = held.follow(view.changed((), [("node", "192.0.2.1")]))

    assert not change
    assert after.policies.elements is held.policies.elements
    assert RANGES not in {each.set_name for each in after.elements}
