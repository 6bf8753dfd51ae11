"""From the master's tables to the View."""

from ipaddress import IPv4Address

import msgspec
import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from phalanx.master.cluster.agent import Agent
from phalanx.master.cluster.framework import Framework
from phalanx.master.view.project import (
    desired_framework,
    desired_nodes,
    desired_task,
    followed_task,
    wanted_networks,
)
from phalanx.mesos.resources import Resources
from phalanx.mesos.stream import Stream
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import (
    AgentInfo,
    FrameworkInfo,
    Labels,
    Task,
    TaskState,
    TaskStatus,
)
from phalanx.net.model.objects import HostPort, Liveness, Node, TaskPhase, TaskPort

A1 = IPv4Address("198.18.0.2")
M1 = IPv4Address("198.18.0.1")
Json = dict[str, object]


def agent(id: str, address: IPv4Address, liveness: Liveness = Liveness.ALIVE) -> Agent:
    info = AgentInfo(hostname=id)
    return Agent(id, info, address, "1", Resources(), 0.0, 0.0, liveness=liveness)


def task(**more: object) -> Task:
    ids = {"task_id": {"value": "t"}, "framework_id": {"value": "f"}, "agent_id": {"value": "a1"}}
    return from_json(Task, {"name": "web", "state": "TASK_RUNNING", **ids, **more})


def status(state: str = "TASK_RUNNING", /, **more: object) -> Json:
    return {"task_id": {"value": "t"}, "state": state, **more}


def attached(*infos: Json) -> Json:
    return {"container_status": {"network_infos": list(infos)}}


def given(address: str, name: str | None = None, **more: object) -> Json:
    json: Json = {"ip_addresses": [{"ip_address": address}], **more}
    return json if name is None else json | {"name": name}


def test_other_masters_are_nodes_as_well_and_merge_with_an_agent_beside_them() -> None:
    others = [(M1, "m1", 5050), (A1, "m2", 5050), (IPv4Address("198.18.0.9"), "m3", 5050)]

    nodes = desired_nodes([agent("a1", A1)], (M1, "m1", 5050), others)

    assert {
        key: (node.is_master, node.is_leader, node.agent_id) for key, node in nodes.items()
    } == {
        str(M1): (True, True, None),
        str(A1): (True, False, "a1"),
        "198.18.0.9": (True, False, None),
    }


def test_master_is_a_node_even_without_agents() -> None:
    assert desired_nodes([], (M1, "m1", 5050)) == {
        "198.18.0.1": Node(M1, "m1", is_master=True, is_leader=True, port=5050)
    }


def test_agent_on_the_masters_address_is_one_node_with_it() -> None:
    nodes = desired_nodes([agent("a1", M1), agent("a2", A1)], (M1, "m1", 5050))

    assert nodes["198.18.0.1"] == Node(M1, "a1", True, True, "a1", 5051)
    assert nodes["198.18.0.2"] == Node(A1, "a2", agent_id="a2", port=5051)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_live_agent_hides_a_dead_one_of_its_address(order: slice) -> None:
    agents = [agent("new", A1), agent("old", A1, Liveness.UNREACHABLE)][order]

    assert desired_nodes(agents, (M1, "m1", 5050))["198.18.0.2"].agent_id == "new"


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("TASK_STAGING", TaskPhase.PREPARING),
        ("TASK_STARTING", TaskPhase.PREPARING),
        ("TASK_RUNNING", TaskPhase.RUNNING),
        ("TASK_KILLING", TaskPhase.KILLING),
        ("TASK_UNREACHABLE", TaskPhase.UNREACHABLE),
        ("TASK_FINISHED", None),
        ("TASK_LOST", None),
        ("TASK_GONE", None),
    ],
)
def test_phase_follows_the_state_and_what_is_over_is_not_shown(
    state: str, phase: TaskPhase | None
) -> None:
    shown = desired_task(task(state=state), A1)

    assert (None if shown is None else shown.phase) == phase


def test_addresses_come_from_the_newest_status_that_has_any() -> None:
    shown = desired_task(
        task(
            statuses=[
                status(**attached(given("9.0.0.2", "dcos"))),
                status(**attached(given("9.0.0.3/24", "dcos"), given("10.1.0.9", "blue"))),
                status("TASK_KILLING"),
            ]
        ),
        A1,
    )

    assert shown is not None
    assert shown.addresses == (IPv4Address("9.0.0.3"), IPv4Address("10.1.0.9"))
    assert shown.networks == ("dcos", "blue")


def test_task_on_the_host_network_has_the_nodes_address_and_no_network() -> None:
    shown = desired_task(task(statuses=[status(**attached(given("198.18.0.2")))]), A1)

    assert shown is not None
    assert shown.addresses == (A1,)
    assert shown.is_on_host_network


def test_port_mappings_discovery_and_port_resources_are_shown() -> None:
    mapping = {"host_port": 31001, "container_port": 80}
    label = {"key": "VIP_0", "value": "/web:80"}
    port = {"number": 80, "name": "http", "labels": {"labels": [label]}}
    shown = desired_task(
        task(
            statuses=[status(**attached(given("9.0.0.2", "dcos", port_mappings=[mapping])))],
            discovery={"visibility": "CLUSTER", "name": "site", "ports": {"ports": [port]}},
            resources=[
                {
                    "name": "ports",
                    "type": "RANGES",
                    "ranges": {"range": [{"begin": 31001, "end": 31002}]},
                }
            ],
        ),
        A1,
    )

    assert shown is not None
    assert shown.host_ports == (HostPort(31001, 80, "tcp"),)
    assert shown.ports == (TaskPort(80, "http", "tcp", (("VIP_0", "/web:80"),)),)
    assert shown.discovery_name == "site"
    assert shown.port_resources == ((31001, 31002),)


PLACES = [None, *(given(f"9.0.0.{n}", "dcos") for n in (2, 3)), given("198.18.0.2")]
STATES = ["TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_FAILED"]


@given_by(
    turns=st.lists(
        st.tuples(
            st.sampled_from(STATES),
            st.sampled_from(PLACES),
            st.sampled_from([None, True, False]),
            st.sampled_from(["SOURCE_EXECUTOR", "SOURCE_MASTER"]),
            st.sampled_from([A1, M1]),
            st.booleans(),
        )
    )
)
def test_a_task_that_is_followed_is_shown_as_one_that_is_read_anew(
    turns: list[tuple[str, Json | None, bool | None, str, IPv4Address, bool]],
) -> None:
    was = task(state="TASK_STAGING", health_check={"type": "TCP"})
    shown = desired_task(was, A1)
    for state, place, healthy, source, node, is_relabelled in turns:
        more = {} if place is None else attached(place)
        raw = status(state, **more, source=source, healthy=healthy)
        after = msgspec.structs.replace(
            was,
            state=TaskState(state),
            statuses=(*was.statuses, from_json(TaskStatus, raw)),
            labels=from_json(Labels, {"labels": [{"key": "a"}]}) if is_relabelled else was.labels,
        )

        expected = desired_task(after, node)
        found = expected if shown is None else followed_task(was, shown, after, node)

        assert found == expected
        was, shown = after, found


def test_a_task_of_which_nothing_changed_is_the_very_same() -> None:
    was = task(state="TASK_STAGING")
    shown = desired_task(was, A1)
    assert shown is not None

    after = msgspec.structs.replace(was, state=TaskState.TASK_STARTING)

    assert followed_task(was, shown, after, A1) is shown


@pytest.mark.parametrize(
    ("statuses", "healthy"),
    [
        ([], None),
        ([status(healthy=True)], True),
        ([status(healthy=True), status(healthy=False)], False),
        ([status(healthy=True), status("TASK_KILLING")], None),
        ([status(healthy=True), status(source="SOURCE_MASTER")], True),
    ],
    ids=["none", "good", "newest", "newest-has-none", "masters-own-does-not-count"],
)
def test_health_is_the_newest_verdict(statuses: list[Json], healthy: bool | None) -> None:
    shown = desired_task(task(statuses=statuses, health_check={"type": "TCP"}), A1)

    assert shown is not None
    assert shown.is_checked
    assert shown.healthy is healthy


def test_networks_of_a_task_are_those_asked_for_and_those_given() -> None:
    found = wanted_networks(
        task(
            container={"type": "MESOS", "network_infos": [{"name": "blue"}]},
            statuses=[status(**attached(given("9.0.0.2", "dcos")))],
        )
    )

    assert found == {"blue", "dcos"}


def test_framework_is_shown_while_it_is_connected_or_has_tasks() -> None:
    info = from_json(FrameworkInfo, {"user": "", "name": "marathon", "id": {"value": "f"}})
    framework = Framework(info, 0.0)

    assert desired_framework(framework) is None

    framework.tasks["t"] = task()
    shown = desired_framework(framework)
    assert shown is not None
    assert shown.name == "marathon"

    framework.tasks.clear()
    framework.stream = Stream("s")
    assert desired_framework(framework) is not None
