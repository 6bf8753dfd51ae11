"""What a change of policies opens and closes, by name."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.isolation.policies import BLUE, CLUSTER, RED, container, packets, policies

from phalanx.net.isolation.compare import compare
from phalanx.net.isolation.evaluate import Evaluator
from phalanx.net.model.objects import Action, Network, Policy, Tier, Traffic
from phalanx.net.model.view import View

WEB = Policy("web", "role=web", "role=db", Traffic.TCP, ports=((80, 81), (443, 443)))
LAW = Policy(
    "law", "any", "/prod/web", Traffic.ANY, tier=Tier.CLUSTER, action=Action.DENY, reason="no"
)


def shut(network: Network) -> Network:
    return msgspec.structs.replace(network, isolated=True)


def told(before: View, after: View) -> set[tuple[str, str, str, str, tuple[int, int] | None]]:
    return {(e.word, e.source, e.destination, e.protocol, e.ports) for e in compare(before, after)}


def test_nothing_changed_is_nothing() -> None:
    view = CLUSTER.changed([WEB])

    assert compare(view, view) == []


def test_what_a_policy_opens_is_named_by_task_network_and_ports() -> None:
    found = told(CLUSTER, CLUSTER.changed([WEB]))

    assert ("opens", "web.prod in dcos", "d1 in blue", "tcp", (80, 81)) in found
    assert ("opens", "web.prod in dcos", "d1 in blue", "tcp", (443, 443)) in found
    assert {source for _, source, *_ in found} == {"web.prod in dcos", "web.prod in blue"}


def test_the_policy_that_decides_and_its_reason_are_told() -> None:
    allowed = CLUSTER.changed([Policy("all", "dcos", "blue", Traffic.ANY)])

    effects = compare(allowed, allowed.changed([LAW]))

    assert {effect.word for effect in effects} == {"closes"}
    assert {effect.verdict.reason for effect in effects} == {"no"}
    assert {"dcos", "outside"} & {effect.source.rpartition(" ")[2] for effect in effects} == {
        "dcos",
        "outside",
    }


def test_taking_a_policy_back_closes_what_it_had_opened() -> None:
    opened = told(CLUSTER, CLUSTER.changed([WEB]))
    closed = told(CLUSTER.changed([WEB]), CLUSTER)

    assert {row[1:] for row in opened} == {row[1:] for row in closed}


@settings(max_examples=25, deadline=None)
@given(policies(most=3), policies(most=3))
def test_a_change_that_is_said_to_do_nothing_does_nothing(
    old: list[Policy], new: list[Policy]
) -> None:
    before, after = CLUSTER.changed(old), CLUSTER.changed(new)
    one, other = Evaluator(before), Evaluator(after)
    differs = any(
        one.allowed(packet).is_allowed != other.allowed(packet).is_allowed for packet in packets()
    )

    assert bool(compare(before, after)) >= differs


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        pytest.param([shut(RED)], [RED], "opens", id="opened"),
        pytest.param([RED], [shut(RED)], "closes", id="isolated"),
    ],
)
def test_a_wall_that_moves_is_told(before: list[Network], after: list[Network], word: str) -> None:
    open_blue = msgspec.structs.replace(BLUE, isolated=False)
    view = CLUSTER.changed([open_blue, *before])

    found = told(view, view.changed(after))

    assert (word, "others in blue", "d2, p1 in red", "any", None) in found
    assert (word, "others in red", "others in blue", "any", None) in found
    assert {row[0] for row in found} == {word}


def test_a_new_network_opens_or_closes_what_was_outside() -> None:
    green = Network("green", IPv4Network("172.30.0.0/16"), 26, 1030, 1450)

    found = told(CLUSTER, CLUSTER.changed([green]))

    assert ("closes", "others in green", "others in blue", "any", None) in found
    assert ("closes", "web.prod in dcos", "others in green", "any", None) in found
    assert {row[0] for row in told(CLUSTER.changed([green]), CLUSTER)} == {"opens"}


def test_hundreds_of_policies_over_thousands_of_tasks_are_compared() -> None:
    tasks = [
        container(f"t{n}", "blue", str(IPv4Address("10.20.4.0") + n), f"role=r{n % 100}")
        for n in range(4000)
    ]
    few = [
        Policy(f"p{n}", f"role=r{n % 100}", f"10.{n % 90}.0.0/16", Traffic.TCP) for n in range(500)
    ]
    view = CLUSTER.changed([*tasks, *few])

    found = told(view, view.changed([Policy("more", "role=r7", "dcos", Traffic.UDP)]))

    assert all(row[3] == "udp" for row in found)
    assert len({row[2] for row in found}) >= 2


@settings(max_examples=25, deadline=None)
@given(
    policies(most=2), st.sampled_from([shut(RED), msgspec.structs.replace(BLUE, isolated=False)])
)
def test_a_wall_that_is_said_to_do_nothing_does_nothing(drawn: list[Policy], wall: Network) -> None:
    before = CLUSTER.changed(drawn)
    after = before.changed([wall])
    one, other = Evaluator(before), Evaluator(after)
    differs = any(
        one.allowed(packet).is_allowed != other.allowed(packet).is_allowed for packet in packets()
    )

    assert bool(compare(before, after)) >= differs
