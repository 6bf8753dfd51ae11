"""What is compiled for the kernel decides as the semantics do, packet by packet."""

from itertools import permutations

import msgspec
from hypothesis import given, settings
from tests.unit.isolation.policies import BLUE, CLUSTER, TASKS, container, packets, policies

from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.evaluate import Evaluator
from phalanx.net.isolation.layout import FAR, FINE, NEAR, OTHERS, PORTS, RANGES, WIDE
from phalanx.net.isolation.lookup import Lookup
from phalanx.net.model.objects import Policy, Traffic

PACKETS = packets()
WEB_TO_DB = Policy("web-to-db", "role=web", "role=db", Traffic.TCP, ports=((5432, 5432),))


@settings(max_examples=60, deadline=None)
@given(policies())
def test_elements_decide_as_the_evaluator_does(drawn: list[Policy]) -> None:
    view = CLUSTER.changed(drawn)
    evaluator, table = Evaluator(view), Lookup(desired_isolation(view))

    differing = [
        packet
        for packet in PACKETS
        if table.between(packet).passes != evaluator.allowed(packet).is_allowed
    ]

    assert differing == []


@given(policies(most=4))
@settings(max_examples=30, deadline=None)
def test_elements_do_not_depend_on_the_order_of_policies(drawn: list[Policy]) -> None:
    found = [desired_isolation(CLUSTER.changed(order)) for order in permutations(drawn)]

    assert all(each == found[0] for each in found)


def test_a_task_that_comes_costs_one_element_for_each_of_its_selections() -> None:
    before = desired_isolation(CLUSTER.changed([WEB_TO_DB]))
    more = container("w3", "dcos", "9.0.1.9", "role=web")

    after = desired_isolation(CLUSTER.changed([WEB_TO_DB, more]))

    assert before.keys() < after.keys()
    assert [e.set_name for e in after.keys() - before.keys()] == [f"{FINE}4"]


def test_a_change_of_ports_leaves_addresses_alone() -> None:
    before = desired_isolation(CLUSTER.changed([WEB_TO_DB]))
    wider = msgspec.structs.replace(WEB_TO_DB, ports=((5432, 5433),))

    after = desired_isolation(CLUSTER.changed([wider]))

    assert {e.set_name for e in before.keys() ^ after.keys()} == {PORTS, RANGES}


def test_containers_lie_in_hashes_and_only_prefixes_in_intervals() -> None:
    view = CLUSTER.changed([WEB_TO_DB, Policy("all", "role=web", "blue", Traffic.ANY)])

    names = {element.set_name for element in desired_isolation(view)}

    assert {f"{FINE}4", f"{NEAR}4", f"{FAR}4", f"{FAR}6", OTHERS} <= names
    assert f"{WIDE}4" not in names


def test_an_address_outside_of_the_networks_that_a_task_names_is_not_selected() -> None:
    [web] = [task for task in TASKS if task.id == "w1"]
    lying = msgspec.structs.replace(web, networks=(BLUE.name,))

    view = CLUSTER.changed([WEB_TO_DB, lying])

    assert not any("9.0.1.2" in element.fields for element in desired_isolation(view))
