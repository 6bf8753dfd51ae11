"""What a trace finds: ends by any of their names, and the element that decides."""

from ipaddress import IPv4Address, IPv4Network, ip_address

import msgspec
import pytest
from tests.unit.isolation.policies import CLUSTER, NODE, TASKS

from phalanx.core.error import InvalidError, NotFoundError
from phalanx.net.isolation.desired import desired_isolation
from phalanx.net.isolation.fence import desired_fence, parse_services
from phalanx.net.isolation.trace import (
    End,
    Ends,
    Entry,
    Traced,
    Tracer,
    mapped,
    pairs_of,
    shown,
)
from phalanx.net.model.objects import HostPort, Node, Policy, SubnetLease, Traffic, node6
from phalanx.net.nft.element import Element

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
ENDS = Ends(VIEW)
TRACER = Tracer(VIEW, desired_isolation(VIEW) | FENCE)


def traced(source: str, destination: str, port: int = 80) -> Traced:
    [pair, *_] = pairs_of(ENDS.find(source), ENDS.find(destination))
    return TRACER.trace(*pair, protocol=6, port=port)


@pytest.mark.parametrize("word", ["w1", "marathon/w1", "9.0.1.2"])
def test_a_task_is_found_by_any_of_its_names(word: str) -> None:
    [end] = ENDS.find(word)

    assert (str(end.address), end.task, end.network, end.node) == ("9.0.1.2", "w1", "dcos", NODE)


def test_an_app_is_found_with_all_its_addresses() -> None:
    found = {str(end.address) for end in ENDS.find("/prod/web")}

    assert found == {"9.0.1.2", "10.20.1.2", "fd01:20::2"}


@pytest.mark.parametrize("word", ["n1", str(NODE), "9.0.1.1"])
def test_a_node_is_found_by_name_address_and_gateway(word: str) -> None:
    [end] = ENDS.find(word)

    assert (end.is_node, end.node) == (True, NODE)


def test_what_is_not_there_is_said() -> None:
    waiting = msgspec.structs.replace(TASKS[0], id="soon", name="soon", addresses=(), networks=())
    waiting = msgspec.structs.replace(waiting, networks6=("dcos",))

    with pytest.raises(NotFoundError, match="'nosuch' is no task"):
        ENDS.find("nosuch")
    with pytest.raises(InvalidError, match="has no address yet"):
        Ends(VIEW.changed([waiting])).find("soon")


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
    [node] = Ends(view).find("n1")

    found = mapped(view, node, 8080, "tcp")

    assert found is not None
    assert (str(found[0].address), found[1]) == ("9.0.1.2", 80)
    assert mapped(view, node, 8080, "udp") is None


def test_a_trace_is_shown_with_what_the_kernel_holds() -> None:
    found = traced("w1", "d1")

    answer = msgspec.to_builtins(shown(found, {found.hops[0]: [False, True, None]}))

    assert (answer["policy"], answer["tier"], answer["reason"]) == ("web-db", "network", "why")
    seen = [[step["in_kernel"] for step in hop["steps"]] for hop in answer["hops"]]
    assert seen == [[False, True, None], [None, None, None]]
    assert [hop["policy"] for hop in answer["hops"]] == ["web-db", "web-db"]


def hops(found: Traced) -> list[tuple[IPv4Address, str, str, list[str]]]:
    return [
        (hop.node, hop.hook, hop.table, [step.set_name for step in hop.path.steps])
        for hop in found.hops
    ]


def test_behind_a_vip_its_table_is_asked_where_the_packet_begins() -> None:
    [[one, other]] = pairs_of(ENDS.find("w1")[:1], ENDS.find("d1")[:1])

    found = TRACER.trace(one, other, protocol=6, port=80, vip=Entry(ip_address("11.0.0.1"), 8000))

    assert hops(found)[0] == (NODE, "prerouting", "phalanx_lb", ["services"])
    assert found.hops[0].path.steps[0].element == Element("services", ("11.0.0.1", "6", "8000"))
    assert [each[:2] for each in hops(found)[1:]] == [(NODE, "forward"), (OTHER, "forward")]


@pytest.mark.parametrize(
    ("version", "network", "source", "address", "node"),
    [
        (4, "dcos", "9.0.1.2", "10.20.1.3", str(OTHER)),
        (6, "red", "fd01:21::2", "fd01:20::3", str(node6(OTHER))),
    ],
)
def test_a_mapped_port_of_another_node_is_judged_as_its_own_there(
    version: int, network: str, source: str, address: str, node: str
) -> None:
    one = End(source, ip_address(source), NODE, "", network)
    inside = End("d1", ip_address(address), OTHER, "d1", "blue")

    found = TRACER.trace(one, inside, protocol=6, port=81, entry=Entry(ip_address(node), 8080))

    assert [each[:3] for each in hops(found)] == [
        (NODE, "forward", "phalanx_isolation"),
        (OTHER, "prerouting", "phalanx_cni"),
        (OTHER, "forward", "phalanx_isolation"),
    ]
    element = found.hops[1].path.steps[0].element
    assert element == Element(f"any{version}", ("6", "8080"), f"{inside.address} . 81")
    assert [hop.path.passes for hop in found.hops] == [True, True, False]
    assert not found.verdict.is_allowed
