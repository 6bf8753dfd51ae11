"""Why a backend has its weight, and what is wrong with labels: a View in, words out."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phalanx.lb.desired import desired_services
from phalanx.lb.explain import explain
from phalanx.lb.problem import Problem, vip_problems
from phalanx.lb.service import Backend, Service, Vip
from phalanx.net.model.objects import (
    Framework,
    HostPort,
    Liveness,
    Network,
    Node,
    Object,
    Task,
    TaskPhase,
    TaskPort,
    VipLease,
)
from phalanx.net.model.view import View

ON_A, ON_B = IPv4Address("198.18.0.11"), IPv4Address("198.18.0.12")
ADDRESS, SIX = IPv4Address("11.225.37.143"), IPv6Address("fd01:c::1")
LABELS = (("VIP_0", "/web:80"),)
FACTS: tuple[Object, ...] = (
    Node(address=ON_A, hostname="a1", agent_id="A"),
    Node(address=ON_B, hostname="a2", agent_id="B"),
    Framework(id="f", name="marathon"),
    Framework(id="g", name="other"),
    Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450, True, IPv6Network("fd01:b::/64"), 80),
    VipLease("web.marathon", ADDRESS, SIX),
    VipLease("api.marathon", IPv4Address("11.0.0.9")),
)


def view(*objects: Object) -> View:
    return View().changed((*FACTS, *objects))


def task(number: int, *labels: tuple[str, str], **changes: Any) -> Task:
    fields: dict[str, Any] = {
        "framework_id": "f",
        "id": f"t{number}",
        "name": "web",
        "agent_id": "A",
        "node": ON_A,
        "phase": TaskPhase.RUNNING,
        "addresses": (IPv4Address("9.0.1.0") + number,),
        "networks": ("dcos",),
        "ports": (TaskPort(number=8080, labels=(*LABELS, *labels)),),
    }
    return Task(**fields | changes)


SUSPECT = Node(address=ON_B, hostname="a2", agent_id="B", liveness=Liveness.SUSPECT)
GONE = Node(address=ON_B, hostname="a2", agent_id="B", liveness=Liveness.UNREACHABLE)


@pytest.mark.parametrize(
    ("other", "objects", "reason"),
    [
        pytest.param(task(3), (), "", id="serves"),
        pytest.param(task(3, healthy=False), (), "it fails its health check", id="unhealthy"),
        pytest.param(
            task(3, is_checked=True), (), "it has not passed its health check yet", id="unchecked"
        ),
        pytest.param(
            task(3, phase=TaskPhase.KILLING),
            (),
            "it is being killed: its connections may finish",
            id="killing",
        ),
        pytest.param(task(3, phase=TaskPhase.PREPARING), (), "it does not run yet", id="preparing"),
        pytest.param(task(3, ("LB_WEIGHT", "0")), (), "its label LB_WEIGHT says 0", id="weight-0"),
        pytest.param(
            task(3, node=ON_B), (SUSPECT,), "its node a2 is silent: suspect", id="suspect"
        ),
        pytest.param(task(3, node=ON_B), (GONE,), "its node a2 is unreachable", id="unreachable"),
        pytest.param(
            task(3, phase=TaskPhase.UNREACHABLE), (), "its node a1 is unreachable", id="task-lost"
        ),
        pytest.param(
            task(3, node=IPv4Address("198.18.0.99")),
            (),
            "its node 198.18.0.99 is not in the cluster",
            id="node-unknown",
        ),
        pytest.param(
            task(3, addresses=(), networks=("dcos",)),
            (),
            "it has no IPv4 address that can be reached",
            id="no-address",
        ),
    ],
)
def test_weight_0_has_its_reason(other: Task, objects: tuple[Object, ...], reason: str) -> None:
    [vip] = explain(view(*objects, task(2), other), "web.marathon")

    assert vip.state == "serving"
    [behind] = [each for each in vip.behind if each.task is other]
    assert (behind.reason, behind.weight > 0) == (reason, not reason)


def test_backend_that_is_kept_though_all_nodes_are_silent_says_so() -> None:
    [vip] = explain(view(SUSPECT, task(3, node=ON_B)))

    assert vip.behind[0].weight == 1
    assert "a2 is silent: suspect, as all nodes" in vip.behind[0].note


def test_vip_that_nobody_serves_refuses() -> None:
    [vip] = explain(view(task(3, healthy=False)))

    assert (vip.state, vip.reason) == ("refusing", "no backend may have new connections")


def test_name_without_a_lease_is_explained() -> None:
    port = TaskPort(number=8080, labels=(("VIP_0", "new:80"),))

    [vip] = explain(view(task(2, ports=(port,))), "new")

    assert (vip.name, vip.address, vip.state) == ("new.marathon", None, "without address")
    assert "the leading master has not leased" in vip.reason
    assert vip.behind[0].reason == "the VIP has no address"


def test_address_in_use_is_explained_to_who_asks_for_it() -> None:
    port = TaskPort(number=8080, labels=(("VIP_0", "198.18.0.12:80"),))

    [vip] = explain(view(task(2, ports=(port,)), task(3)), "198.18.0.12:80")

    assert (vip.name, vip.address, vip.state) == ("", ON_B, "address in use")
    assert "198.18.0.12 is in use in the cluster" in vip.reason
    assert vip.behind[0].reason == "the VIP's address is in use"


def test_name_has_ipv6_once_a_backend_has() -> None:
    dual = {"addresses6": (IPv6Address("fd01:b::2"),), "networks6": ("dcos",)}

    only4 = explain(view(task(2)))
    both = explain(view(task(2), task(3, **dual)))
    only6 = explain(view(task(3, **dual | {"addresses": (), "networks": ()})))

    assert [each.address for each in only4] == [ADDRESS]
    assert [each.address for each in both] == [ADDRESS, SIX]
    assert [each.address for each in only6] == [SIX]
    assert [each.reason for each in both[1].behind] == [
        "",
        "it has no IPv6 address that can be reached",
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("web", 1),
        ("/web", 1),
        ("web.marathon", 1),
        ("WEB.marathon", 1),
        ("web.marathon.l4lb.thisdcos.directory", 1),
        ("web.marathon.l4lb.thisdcos.directory.", 1),
        ("web.marathon.dclb.thisdcos.global:80", 1),
        ("web:80", 1),
        ("web:80/tcp", 1),
        ("web/tcp", 1),
        ("web:81", 0),
        ("web/udp", 0),
        ("we", 0),
        ("marathon", 0),
        (str(ADDRESS), 1),
        (f"{ADDRESS}:80", 1),
        ("11.0.0.1", 0),
        ("", 1),
        ("%%%", 0),
        ("[", 0),
    ],
)
def test_query_names_a_vip(query: str, found: int) -> None:
    assert len(explain(view(task(2)), query)) == found


@pytest.mark.parametrize(
    "query", ["fd01:f::7", "[fd01:f::7]", "[fd01:f::7]:80", "[fd01:f::7]:80/tcp"]
)
def test_query_names_a_vip_by_its_ipv6_address(query: str) -> None:
    port = TaskPort(number=8080, labels=(("VIP_0", "[fd01:f::7]:80"),))
    dual = task(2, ports=(port,), addresses6=(IPv6Address("fd01:b::2"),), networks6=("dcos",))

    [vip] = explain(view(dual, task(3)), query)

    assert vip.address == IPv6Address("fd01:f::7")


tasks = st.builds(
    task,
    st.integers(0, 5),
    st.sampled_from([("LB_WEIGHT", "0"), ("LB_WEIGHT", "7"), ("LB_SCHEDULER", "mh"), ("a", "b")]),
    phase=st.sampled_from(TaskPhase),
    healthy=st.sampled_from([None, True, False]),
    is_checked=st.booleans(),
    node=st.sampled_from([ON_A, ON_B]),
    networks=st.sampled_from([("dcos",), (), ("bridge",)]),
    host_ports=st.sampled_from([(), (HostPort(31000, 8080),)]),
)


@given(
    st.lists(tasks, unique_by=lambda each: each.id), st.sampled_from([SUSPECT, GONE]), st.booleans()
)
def test_explanation_is_of_the_services_that_are_held(
    some: list[Task], node: Node, is_silent: bool
) -> None:
    known = view(*some, *([node] if is_silent else []))

    explained = {
        Vip(each.address, each.port, each.protocol): Service.of(
            Backend(one.ip, one.port, one.weight)
            for one in each.behind
            if one.ip is not None and one.port is not None and one.task.phase.value != "preparing"
        ).backends
        for each in explain(known, node=ON_A)
        if each.address is not None
    }

    services = desired_services(known, node=ON_A)
    assert {vip: each.backends for vip, each in services.items()} == {
        vip: backends for vip, backends in explained.items() if vip in services
    }
    for each in explain(known, node=ON_A):
        assert all(bool(one.reason) == (one.weight == 0) for one in each.behind)


def problems(*some: Task) -> list[tuple[str, str, str]]:
    return [(each.vip, each.label, each.reason) for each in vip_problems(view(*some))]


def test_fault_of_many_tasks_is_one_problem() -> None:
    found = vip_problems(view(*(task(number, ("VIP_1", "bad")) for number in (2, 3))))

    reason = "VIP 'bad': no port; expected name:port or address:port"
    assert found == (Problem("", "VIP_1=bad", reason, ("f/t2", "f/t3")),)


def test_labels_of_megabytes_harm_no_sibling_and_are_not_shown_whole() -> None:
    flood = "x" * 3_000_000
    greedy = task(2, ("VIP_1", f"{flood}:80"), (f"VIP{flood}", "a:1"), ("LB_WEIGHT", flood))
    legacy = task(3, labels=(("vip_port0", f"tcp://{flood}:80"),))

    found = vip_problems(view(greedy, legacy))

    assert {each.address for each in desired_services(view(greedy, legacy))} == {ADDRESS}
    assert len(found) == 4
    assert all(len(each.label) + len(each.reason) < 300 for each in found)


@pytest.mark.parametrize(
    ("labels", "vip", "label", "reason"),
    [
        pytest.param(
            [("LB_WEIGHT", "x")], "web.marathon:80/tcp", "LB_WEIGHT=x", "0..65535", id="w"
        ),
        pytest.param(
            [("network-scope", "odd")],
            "web.marathon:80/tcp",
            "network-scope=odd",
            "container counts",
            id="scope",
        ),
        pytest.param(
            [("network-scope", "container"), ("network-scope", "host")],
            "web.marathon:80/tcp",
            "network-scope=container, host",
            "host counts",
            id="two-scopes",
        ),
        pytest.param(
            [("VIP_1", "198.18.0.11:80")], "198.18.0.11:80/tcp", "", "in use", id="in-use"
        ),
        pytest.param(
            [("VIP_1", "11.0.0.9:80")], "11.0.0.9:80/tcp", "", "leased to api.marathon", id="leased"
        ),
    ],
)
def test_fault_of_a_label_is_named(
    labels: list[tuple[str, str]], vip: str, label: str, reason: str
) -> None:
    [found] = problems(task(2, *labels))

    assert found[:2] == (vip, label)
    assert reason in found[2]


@pytest.mark.parametrize(
    ("ports", "labels", "label", "reason"),
    [
        pytest.param(
            (TaskPort(80, labels=(("Vip_0", "/web:80"),)),), (), "Vip_0=/web:80", "neither VIP nor",
            id="key-in-mixed-case",
        ),
        pytest.param(
            (TaskPort(0, labels=(("VIP_0", "/web:80"),)),), (), "VIP_0=/web:80", "number 0",
            id="port-0",
        ),
        pytest.param(
            (TaskPort(80),), (("VIP_0", "/web:80"),), "VIP_0=/web:80", "labels of its ports",
            id="label-of-the-task",
        ),
        pytest.param(
            (), (("vip_port3", "tcp://web:80"),), "vip_port3=tcp://web:80", "no port number 3",
            id="legacy-beyond-the-last-port",
        ),
        pytest.param(
            (TaskPort(80, protocol="tcp,sctp", labels=(("VIP_0", "/web:80"),)),), (),
            "VIP_0=/web:80", "'sctp': not tcp or udp", id="protocol",
        ),
    ],
)  # fmt: skip
def test_label_that_is_ignored_is_named_in_whatever_place(
    ports: tuple[TaskPort, ...], labels: tuple[tuple[str, str], ...], label: str, reason: str
) -> None:
    [found] = problems(task(2, ports=ports, labels=labels))

    assert found[:2] == ("", label)
    assert reason in found[2]


def test_tasks_that_disagree_are_one_problem_of_both_families() -> None:
    dual = {"addresses6": (IPv6Address("fd01:b::2"),), "networks6": ("dcos",)}

    found = problems(
        task(2, ("LB_SCHEDULER", "rr"), **dual), task(3, ("LB_SCHEDULER", "sh"), **dual)
    )

    assert found == [("web.marathon:80/tcp", "", "LB_SCHEDULER: tasks say rr, sh: rr counts")]


def test_name_that_two_frameworks_come_to_is_a_problem() -> None:
    mine = task(2, ports=(TaskPort(80, labels=(("VIP_0", "a.other:80"),)),))
    named = Framework(id="f", name="team")
    other = Framework(id="g", name="other.team")
    theirs = task(3, framework_id="g", ports=(TaskPort(80, labels=(("VIP_0", "a:80"),)),))

    [found] = vip_problems(view(named, other, mine, theirs))

    assert found.vip == "a.other.team:80/tcp"
    assert "'other.team', 'team'" in found.reason
    assert found.tasks == ("f/t2", "g/t3")


def test_name_that_two_labels_come_to_is_a_problem() -> None:
    spelled = ("/shop/api:80", "shopapi:80", "Shop/API:80", "shopapi:81")
    some = (TaskPort(80, labels=(("VIP_0", each),)) for each in spelled)

    found = vip_problems(view(*(task(number, ports=(port,)) for number, port in enumerate(some))))

    reason = "the name is one for labels 'shop/api', 'shopapi': they share backends"
    assert found == (Problem("shopapi.marathon:80/tcp", "", reason, ("f/t0", "f/t1", "f/t2")),)


def test_good_labels_are_no_problem() -> None:
    chosen = (("LB_SCHEDULER", "mh"), ("LB_AFFINITY", "9"), ("LB_WEIGHT", "3"))

    some = (("VIP", "a:1"), ("vip", "b:1"), ("VIPfoo", "c:1"), ("viper", "d:1"), ("v", "e"))
    legacy = (("VIP_PORT0", "tcp://old:80"), ("vipers", "x"), ("vip_guest", "yes"))
    old = task(4, labels=legacy, port_resources=((31000, 31000),))

    assert problems(task(2, *chosen, ("network-scope", "host")), task(3, *some), old) == []
