"""What a change of policies opens and closes, by name."""

from hypothesis import given, settings
from tests.unit.isolation.policies import CLUSTER, packets, policies

from phalanx.net.isolation.compare import compare
from phalanx.net.isolation.evaluate import Evaluator
from phalanx.net.model.objects import Action, Policy, Tier, Traffic
from phalanx.net.model.view import View

WEB = Policy("web", "role=web", "role=db", Traffic.TCP, ports=((80, 81), (443, 443)))
LAW = Policy(
    "law", "any", "/prod/web", Traffic.ANY, tier=Tier.CLUSTER, action=Action.DENY, reason="no"
)


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
