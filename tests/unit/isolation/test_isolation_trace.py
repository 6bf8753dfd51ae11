"""What a trace finds: ends by any of their names, and the element that decides."""

from ipaddress import IPv4Address, IPv4Network

import msgspec
import pytest
from tests.unit.isolation.policies import CLUSTER, NODE, TASKS

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.fence import desired_fence, parse_services
from phalanx.net.isolation.trace import Traced, Tracer, find_ends, mapped, pairs_of, shown
from phalanx.net.model.objects import HostPort, Node, Policy, SubnetLease, Traffic

OTHER = IPv4Address("198.18.1.2")
POLICY = Policy("web-db", "role=web", "role=db", Traffic.TCP, reason="why", ports=((80, 80),))
VIEW = CLUSTER.changed(
    [
        POLICY,
        Node(NODE, "n1", port=5051),
        Node(OTHER, "n2"),
        SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
        SubnetLease("blue", OTHER, IPv4Network("10.20.1.0/24")),
        *(msgspec.structs.replace(task, node=OTHER) for task in TASKS if task.id == "d1"),
    ]
)
FENCE = desired_fence(
    VIEW, node=NODE, services=parse_services([]), resolvers=[], vips=[IPv4Network("11.0.0.0/8")]
)
TRACER = Tracer(VIEW, desired_isolation(VIEW) | FENCE)


def traced(source: str, destination: str, port: int = 80) -> Traced:
    [pair, *_] = pairs_of(find_ends(source, VIEW), find_ends(destination, VIEW))
    return TRACER.trace(*pair, protocol=6, port=port)


@pytest.mark.parametrize("word", ["w1", "marathon/w1", "9.0.1.2"])
def test_a_task_is_found_by_any_of_its_names(word: str) -> None:
    [end] = find_ends(word, VIEW)

    assert (str(end.address), end.task, end.network, end.node) == ("9.0.1.2", "w1", "dcos", NODE)


def test_an_app_is_found_with_all_its_addresses() -> None:
    found = {str(end.address) for end in find_ends("/prod/web", VIEW)}

    assert found == {"9.0.1.2", "10.20.1.2", "fd01:20::2"}


@pytest.mark.parametrize("word", ["n1", str(NODE), "9.0.1.1"])
def test_a_node_is_found_by_name_address_and_gateway(word: str) -> None:
    [end] = find_ends(word, VIEW)

    assert (end.is_node, end.node) == (True, NODE)


def test_what_is_not_there_is_said() -> None:
    waiting = msgspec.structs.replace(TASKS[0], id="soon", name="soon", addresses=(), networks=())
    waiting = msgspec.structs.replace(waiting, networks6=("dcos",))

    with pytest.raises(NotFoundError, match="'nosuch' is no task"):
        find_ends("nosuch", VIEW)
    with pytest.raises(InvalidError, match="has no address yet"):
        find_ends("soon", VIEW.changed([waiting]))


def test_a_packet_that_a_policy_allows_is_followed_over_both_nodes() -> None:
    found = traced("w1", "d1")

    assert (found.verdict.is_allowed, found.verdict.policy) == (True, POLICY)
    assert [hop.node for hop in found.hops] == [NODE, OTHER]
    assert [step.set_name for step in found.hops[0].path.steps] == ["fine4", "near4", "ports"]


def test_a_packet_that_is_refused_ends_at_a_wall() -> None:
    found = traced("w1", "d1", 81)

    assert not found.verdict.is_allowed
    assert found.hops[0].path.steps[-1].set_name == "walled4"


def test_neighbours_on_one_node_meet_no_rule() -> None:
    assert traced("w1", "9.0.1.77").hops == ()


@pytest.mark.parametrize(("port", "passes"), [(5051, True), (22, False)])
def test_the_fence_of_a_node_is_shown(port: int, *, passes: bool) -> None:
    found = traced("w1", "n1", port)

    assert [(hop.hook, hop.path.passes) for hop in found.hops] == [("input", passes)]
    assert found.verdict.is_allowed == passes


def test_a_mapped_port_leads_into_the_container() -> None:
    ports = (HostPort(8080, 80),)
    view = VIEW.changed([msgspec.structs.replace(TASKS[0], host_ports=ports)])
    [node] = find_ends("n1", view)

    found = mapped(view, node, 8080, "tcp")

    assert found is not None
    assert (str(found[0].address), found[1]) == ("9.0.1.2", 80)
    assert mapped(view, node, 8080, "udp") is None


def test_a_trace_is_shown_with_what_the_kernel_holds() -> None:
    found = traced("w1", "d1")
    first, *_ = (step.element for step in found.hops[0].path.steps)
    assert first is not None

    answer = msgspec.to_builtins(shown(found, {first: False}, node=NODE))

    assert (answer["policy"], answer["tier"], answer["reason"]) == ("web-db", "network", "why")
    seen = [[step["in_kernel"] for step in hop["steps"]] for hop in answer["hops"]]
    assert seen == [[False, None, None], [None, None, None]]
