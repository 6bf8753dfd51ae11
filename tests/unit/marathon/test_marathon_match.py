"""Offers against waiting instances: resources, ports, constraints, and the task that comes out."""

import json
import math
from random import Random
from typing import Any

import pytest

from phalanx.marathon.definition.parse import parse_app
from phalanx.marathon.model.app import App
from phalanx.marathon.model.instance import Instance, parse_task_id
from phalanx.marathon.schedule.constraint import HOSTNAME, attributes_of, is_met
from phalanx.marathon.schedule.demand import host_ports, inner_ports
from phalanx.marathon.schedule.match import Matching, Reason, matching
from phalanx.marathon.schedule.port import planned_ports
from phalanx.marathon.schedule.service_port import free_ports, with_service_ports
from phalanx.mesos.v1 import mesos
from phalanx.mesos.v1.codec import encode, from_json

ON_DCOS = {"networks": [{"mode": "container", "name": "dcos"}]}
BRIDGED = {"networks": [{"mode": "container/bridge"}]}


def app_of(**more: Any) -> App:
    """Return an app with *more* fields."""
    app = parse_app({"id": "/prod/web", "cmd": "serve", "cpus": 1, "mem": 100, **more})
    return with_service_ports(app, before=None, free=free_ports([]))


def waiting(app: App, number: int = 1) -> Instance:
    """Return an instance of *app* that waits."""
    return Instance(id=f"prod_web.instance-{number}", app_id=app.id, version="v", since=0)


def offer(
    hostname: str = "a1",
    *,
    cpus: float = 4,
    mem: float = 1000,
    disk: float = 1000,
    ports: str = "31000-31009",
    rack: str | None = None,
) -> mesos.Offer:
    """Return an offer."""
    begin, end = map(int, ports.split("-"))
    scalars = {"cpus": cpus, "mem": mem, "disk": disk}
    resources: list[dict[str, Any]] = [
        {"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*"}
        for name, value in scalars.items()
    ]
    resources.append(
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": begin, "end": end}]}}
    )
    resources.append({"name": "disks", "type": "SET", "set": {"item": ["sda"]}})
    attributes = [] if rack is None else [{"name": "rack", "type": "TEXT", "text": {"value": rack}}]
    return from_json(
        mesos.Offer,
        {
            "id": {"value": f"o-{hostname}"},
            "framework_id": {"value": "f"},
            "agent_id": {"value": f"id-{hostname}"},
            "hostname": hostname,
            "resources": resources,
            "attributes": attributes,
            "allocation_info": {"role": "*"},
        },
    )


def match(app: App, *offers: mesos.Offer, count: int = 1) -> Matching:
    """Match *count* instances of *app* against *offers*."""
    instances = [(app, waiting(app, number)) for number in range(count)]
    return matching(offers, instances, {}, Random(1))


def wire(app: App, offered: mesos.Offer | None = None) -> Any:
    """Return the task of one instance of *app* as it goes over the wire."""
    [placement] = match(app, offered or offer()).placements
    return json.loads(encode(placement.task))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"cpus": 5}, Reason.CPUS),
        ({"mem": 2000}, Reason.MEMORY),
        ({"disk": 2000}, Reason.DISK),
        ({"portDefinitions": [{"port": 80}], "requirePorts": True}, Reason.PORTS),
        ({"portDefinitions": [{"port": 0}] * 11}, Reason.PORTS),
        ({"constraints": [["rack", "LIKE", "r.*"]]}, Reason.CONSTRAINT),
    ],
)
def test_offer_that_lacks_something_is_rejected_with_the_reason(
    more: dict[str, Any], reason: Reason
) -> None:
    result = match(app_of(**more), offer())

    assert result.placements == ()
    assert [rejection.reason for rejection in result.rejections] == [reason]
    assert result.unplaced == 1


def test_offer_is_filled_until_it_is_empty() -> None:
    result = match(app_of(), offer(cpus=2.5), count=4)

    assert len(result.placements) == 2
    assert result.unplaced == 2
    taken = [port for placement in result.placements for port in placement.ports.taken]
    assert len(set(taken)) == 2
    assert all(31000 <= port <= 31009 for port in taken)


def test_instances_go_where_there_are_fewest() -> None:
    result = match(app_of(), offer("a1"), offer("a2", mem=2000), offer("a3"), count=3)

    assert sorted(p.offer.hostname for p in result.placements) == ["a1", "a2", "a3"]
    assert result.placements[0].offer.hostname == "a2"


def test_reserved_resources_are_left_alone() -> None:
    reserved = mesos.Resource(
        name="cpus", type=mesos.ValueType.SCALAR, scalar=mesos.Scalar(value=8), role="prod"
    )
    poor = from_json(mesos.Offer, {**json.loads(encode(offer(cpus=0.5)))})

    result = matching(
        [mesos.Offer(id=poor.id, framework_id=poor.framework_id, agent_id=poor.agent_id,
                     hostname="a1", resources=(*poor.resources, reserved))],
        [(app_of(), waiting(app_of()))], {}, Random(1),
    )  # fmt: skip

    assert [rejection.reason for rejection in result.rejections] == [Reason.CPUS]


def test_secrets_are_references_to_the_agents_store() -> None:
    reference = {"type": "REFERENCE", "reference": {"name": "team/key"}}
    task = wire(
        app_of(
            secrets={"key": {"source": "team/key"}},
            env={"KEY": {"secret": "key"}},
            container={"volumes": [{"containerPath": "key", "secret": "key", "mode": "RO"}]},
        )
    )

    variables = {v["name"]: v for v in task["command"]["environment"]["variables"]}
    assert variables["KEY"] == {"name": "KEY", "type": "SECRET", "secret": reference}
    assert task["container"]["volumes"] == [
        {
            "mode": "RO",
            "container_path": "key",
            "source": {"type": "SECRET", "secret": reference},
        }
    ]


def test_limits_terminals_and_linux_settings_reach_the_task() -> None:
    [placement] = match(
        app_of(
            resourceLimits={"cpus": "unlimited", "mem": 512},
            tty=True,
            container={"linuxInfo": {"ipcInfo": {"mode": "PRIVATE", "shmSize": 8}}},
        ),
        offer(),
    ).placements
    task = placement.task

    assert {name: limit.value for name, limit in task.limits.items()} == {
        "cpus": math.inf,
        "mem": 512.0,
    }
    assert task.container is not None
    assert task.container.linux_info is not None
    assert (task.container.linux_info.ipc_mode, task.container.linux_info.shm_size) == (
        "PRIVATE",
        8,
    )
    assert task.container.tty_info is not None


@pytest.mark.parametrize(
    ("check", "sent"),
    [
        (
            {"exec": {"command": {"shell": "true"}}},
            {"type": "COMMAND", "command": {"command": {"value": "true", "shell": True}}},
        ),
        ({"http": {"portIndex": 0, "path": "/x"}}, {"type": "HTTP", "http": {"path": "/x"}}),
        ({"tcp": {"port": 99}}, {"type": "TCP", "tcp": {"port": 99}}),
    ],
)
def test_a_check_reaches_the_task(check: dict[str, Any], sent: dict[str, Any]) -> None:
    task = wire(app_of(check={**check, "intervalSeconds": 5}))

    told = task["check"]
    port = told.get("http", {}).pop("port", None)
    assert told == {
        **sent,
        "delay_seconds": 15.0,
        "interval_seconds": 5.0,
        "timeout_seconds": 20.0,
    }
    assert port in (None, task["discovery"]["ports"]["ports"][0]["number"])


@pytest.mark.parametrize(
    ("networks", "kind", "infos"),
    [
        ([], "HOST", []),
        (BRIDGED["networks"], "BRIDGE", []),
        (ON_DCOS["networks"], "USER", ["dcos"]),
    ],
)
def test_task_of_a_docker_app(networks: list[dict[str, Any]], kind: str, infos: list[str]) -> None:
    docker = {
        "image": "busybox",
        "forcePullImage": True,
        "privileged": True,
        "parameters": [{"key": "cap-add", "value": "NET_ADMIN"}],
    }
    mappings = [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}]
    container = {"docker": docker, **({"portMappings": mappings} if networks else {})}
    task = wire(app_of(container=container, networks=networks))

    told = task["container"]
    assert told["type"] == "DOCKER"
    assert told["docker"]["network"] == kind
    assert [info["name"] for info in told.get("network_infos", [])] == infos
    [label] = [p for p in told["docker"]["parameters"] if p["key"] == "label"]
    assert label["value"] == f"MESOS_TASK_ID={task['task_id']['value']}"
    assert {"key": "cap-add", "value": "NET_ADMIN"} in told["docker"]["parameters"]
    assert (told["docker"]["privileged"], told["docker"]["force_pull_image"]) == (True, True)
    mapped = [(m["container_port"], m["protocol"]) for m in told["docker"].get("port_mappings", [])]
    assert mapped == ([(80, "tcp")] if networks else [])


def test_task_of_a_host_app() -> None:
    app = app_of(
        portDefinitions=[{"port": 0, "name": "http", "labels": {"VIP_0": "/web:80"}}],
        env={"HOST": "mine", "A": "b"},
        labels={"my-label": "1"},
        taskKillGracePeriodSeconds=3,
        fetch=[{"uri": "http://x/y.tgz"}],
        user="nobody",
    )

    task = wire(app)

    [port] = task["discovery"]["ports"]["ports"]
    number = port["number"]
    assert task["name"] == "web.prod"
    assert task["task_id"] == {"value": "prod_web.instance-0._app.1"}
    assert task["agent_id"] == {"value": "id-a1"}
    assert task["kill_policy"] == {"grace_period": {"nanoseconds": 3_000_000_000}}
    assert "container" not in task
    assert task["labels"] == {"labels": [{"key": "my-label", "value": "1"}]}
    assert task["discovery"]["visibility"] == "FRAMEWORK"
    assert task["discovery"]["name"] == "web.prod"
    assert port == {
        "number": number,
        "name": "http",
        "protocol": "tcp",
        "labels": {"labels": [{"key": "VIP_0", "value": "/web:80"}]},
    }
    command = task["command"]
    assert (command["shell"], command["value"], command["user"]) == (True, "serve", "nobody")
    assert command["uris"][0]["value"] == "http://x/y.tgz"
    environment = {v["name"]: v["value"] for v in command["environment"]["variables"]}
    assert environment == {
        "MESOS_TASK_ID": "prod_web.instance-0._app.1",
        "MARATHON_APP_ID": "/prod/web",
        "MARATHON_APP_VERSION": "",
        "MARATHON_APP_RESOURCE_CPUS": "1.0",
        "MARATHON_APP_RESOURCE_MEM": "100.0",
        "MARATHON_APP_RESOURCE_DISK": "0.0",
        "MARATHON_APP_RESOURCE_GPUS": "0",
        "MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE",
        "MARATHON_APP_LABELS": "MY_LABEL",
        "MARATHON_APP_LABEL_MY_LABEL": "1",
        "HOST": "mine",
        "A": "b",
        "PORT": str(number),
        "PORT0": str(number),
        "PORTS": str(number),
        f"PORT_{number}": str(number),
        "PORT_HTTP": str(number),
    }
    resources = {r["name"]: r for r in task["resources"]}
    assert resources["cpus"]["scalar"] == {"value": 1.0}
    assert resources["ports"]["ranges"] == {"range": [{"begin": number, "end": number}]}
    assert all(r["allocation_info"] == {"role": "*"} for r in task["resources"])


def test_args_run_without_a_shell() -> None:
    app = parse_app({"id": "/a", "args": ["httpd", "-f"]})

    command = wire(app)["command"]

    assert (command["shell"], command["value"]) == (False, "httpd")
    assert command["arguments"] == ["httpd", "-f"]


def test_task_of_a_container_app_announces_each_protocol_and_network() -> None:
    app = app_of(
        networks=[{"mode": "container", "name": "blue"}, {"mode": "container", "name": "red"}],
        container={"portMappings": [
            {"containerPort": 53, "protocol": "udp,tcp", "labels": {"VIP_0": "/dns:53"}},
            {"containerPort": 80, "networkNames": ["red"]},
        ]},
    )  # fmt: skip

    task = wire(app)

    found = [
        (p["number"], p["protocol"], {x["key"]: x["value"] for x in p["labels"]["labels"]})
        for p in task["discovery"]["ports"]["ports"]
    ]
    vip, scope = {"VIP_0": "/dns:53"}, "network-scope"
    assert found == [
        (53, "udp", {**vip, scope: "container", "network-name": "blue"}),
        (53, "udp", {**vip, scope: "container", "network-name": "red"}),
        (53, "tcp", {**vip, scope: "container", "network-name": "blue"}),
        (53, "tcp", {**vip, scope: "container", "network-name": "red"}),
        (80, "tcp", {scope: "container", "network-name": "red"}),
    ]
    assert [info["name"] for info in task["container"]["network_infos"]] == ["blue", "red"]
    assert {r["name"] for r in task["resources"]} == {"cpus", "mem"}


def test_bridged_task_maps_host_ports() -> None:
    app = app_of(**BRIDGED, container={"portMappings": [{"containerPort": 80, "name": "http"}]})

    task = wire(app)

    [port] = task["discovery"]["ports"]["ports"]
    [network] = task["container"]["network_infos"]
    assert network["name"] == "mesos-bridge"
    assert network["port_mappings"] == [
        {"host_port": port["number"], "container_port": 80, "protocol": "tcp"}
    ]
    assert port["labels"] == {"labels": [{"key": "network-scope", "value": "host"}]}
    variables = {v["name"]: v["value"] for v in task["command"]["environment"]["variables"]}
    assert variables["PORT_80"] == variables["PORT_HTTP"] == str(port["number"])


def test_image_and_volumes_are_carried() -> None:
    app = app_of(**ON_DCOS, container={
        "type": "MESOS", "docker": {"image": "nginx"},
        "volumes": [{"containerPath": "/a", "hostPath": "/b", "mode": "RO"}],
    })  # fmt: skip

    container = wire(app)["container"]

    assert container["type"] == "MESOS"
    assert container["mesos"]["image"] == {
        "type": "DOCKER", "docker": {"name": "nginx"}, "cached": True,
    }  # fmt: skip
    assert container["volumes"] == [{"mode": "RO", "container_path": "/a", "host_path": "/b"}]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (
            {"protocol": "COMMAND", "command": {"value": "true"}},
            {"type": "COMMAND", "command": {"uris": [], "shell": True, "value": "true"}},
        ),
        (
            {"protocol": "MESOS_HTTP", "path": "/h"},
            {"type": "HTTP",
             "http": {"protocol": "IPv4", "scheme": "http", "port": 80, "path": "/h"}},
        ),
        ({"protocol": "MESOS_TCP"}, {"type": "TCP", "tcp": {"protocol": "IPv4", "port": 80}}),
    ],
)  # fmt: skip
def test_agents_check_is_put_into_the_task(check: dict[str, Any], expected: dict[str, Any]) -> None:
    app = app_of(
        **ON_DCOS,
        container={"portMappings": [{"containerPort": 80}]},
        healthChecks=[{"protocol": "TCP"}, check],
    )

    found = wire(app)["health_check"]

    times = {"delay_seconds": 15.0, "interval_seconds": 60.0, "timeout_seconds": 20.0,
             "consecutive_failures": 3, "grace_period_seconds": 300.0}  # fmt: skip
    expected.get("command", {}).pop("uris", None)
    assert found == {**times, **expected}


def test_agents_check_without_limit_never_kills() -> None:
    check = {"protocol": "COMMAND", "command": {"value": "true"}, "maxConsecutiveFailures": 0}

    found = wire(app_of(healthChecks=[check]))["health_check"]

    assert found["consecutive_failures"] == 2**32 - 1


def test_marathons_own_check_stays_out_of_the_task() -> None:
    assert "health_check" not in wire(app_of(healthChecks=[{}]))


@pytest.mark.parametrize("seed", range(20))
def test_dynamic_ports_wrap_over_ranges_and_never_repeat(seed: int) -> None:
    app = app_of(portDefinitions=[{"port": 0}] * 4)

    plan = planned_ports(
        host_ports(app), inner_ports(app), ((31000, 31001), (31005, 31006)), Random(seed)
    )

    assert plan is not None
    assert sorted(plan.taken) == [31000, 31001, 31005, 31006]


def test_fixed_and_dynamic_host_ports_do_not_collide() -> None:
    mappings = [{"containerPort": 80, "hostPort": 31000}, {"containerPort": 81, "hostPort": 0}]
    app = app_of(**BRIDGED, container={"portMappings": mappings})

    plans = [
        planned_ports(host_ports(app), inner_ports(app), ((31000, 31001),), Random(seed))
        for seed in range(10)
    ]

    assert {plan.taken for plan in plans if plan} == {(31000, 31001)}


PLACED = [{"rack": "r1", HOSTNAME: "a1"}, {"rack": "r1", HOSTNAME: "a2"}, {"rack": "r2"}]


@pytest.mark.parametrize(
    ("constraint", "offered", "placed", "instances", "expected"),
    [
        (["hostname", "UNIQUE"], {HOSTNAME: "a1"}, PLACED, 4, False),
        (["@hostname", "UNIQUE"], {HOSTNAME: "a3"}, PLACED, 4, True),
        (["rack", "CLUSTER", "r1"], {"rack": "r2"}, [], 4, False),
        (["rack", "CLUSTER", "r1"], {"rack": "r1"}, [], 4, True),
        (["rack", "CLUSTER"], {"rack": "r9"}, [], 4, True),
        (["rack", "CLUSTER"], {"rack": "r2"}, PLACED, 4, False),
        (["rack", "GROUP_BY"], {"rack": "r3"}, PLACED, 4, True),
        (["rack", "GROUP_BY"], {"rack": "r2"}, PLACED, 4, True),
        (["rack", "GROUP_BY"], {"rack": "r1"}, PLACED, 4, False),
        (["rack", "GROUP_BY", "2"], {"rack": "r3"}, PLACED, 4, False),
        (["rack", "GROUP_BY", "2"], {"rack": "r2"}, PLACED, 4, True),
        (["rack", "GROUP_BY", "2"], {"rack": "r1"}, PLACED, 4, False),
        (["rack", "GROUP_BY", "2"], {"rack": "r1"}, PLACED, 5, True),
        (["rack", "LIKE", "r[12]"], {"rack": "r2"}, [], 1, True),
        (["rack", "LIKE", "r"], {"rack": "r2"}, [], 1, False),
        (["rack", "UNLIKE", "r.*"], {"rack": "r2"}, [], 1, False),
        (["rack", "UNLIKE", "r.*"], {}, [], 1, True),
        (["rack", "LIKE", ".*"], {}, [], 1, False),
        (["rack", "MAX_PER", "2"], {"rack": "r1"}, PLACED, 4, False),
        (["rack", "MAX_PER", "2"], {"rack": "r2"}, PLACED, 4, True),
        (["cores", "IS", "4.0"], {"cores": "4"}, [], 1, True),
        (["cores", "IS", "4.5"], {"cores": "4"}, [], 1, False),
        (["cores", "IS", "x"], {"cores": "4"}, [], 1, False),
    ],
)
def test_constraint(
    constraint: list[str],
    offered: dict[str, str],
    placed: list[dict[str, str]],
    instances: int,
    expected: bool,
) -> None:
    assert is_met(constraint, offered, placed, instances) is expected


def test_unique_hostname_takes_one_instance_an_agent() -> None:
    app = app_of(constraints=[["hostname", "UNIQUE"]])

    result = match(app, offer("a1"), offer("a2"), count=3)

    assert sorted(p.offer.hostname for p in result.placements) == ["a1", "a2"]
    assert result.unplaced == 1


def test_attributes_are_written_as_text() -> None:
    attributes = [
        from_json(mesos.Attribute, raw)
        for raw in (
            {"name": "a", "type": "TEXT", "text": {"value": "x"}},
            {"name": "b", "type": "SCALAR", "scalar": {"value": 4.5000}},
            {"name": "c", "type": "RANGES", "ranges": {"range": [{"begin": 5, "end": 6}]}},
            {"name": "d", "type": "SET", "set": {"item": ["z", "y"]}},
        )
    ]

    assert attributes_of("h", attributes) == {
        "a": "x", "b": "4.5", "c": "[5-6]", "d": "{y,z}", HOSTNAME: "h",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web.instance-1-2._app.7", ("web.instance-1-2", 7, "_app")),
        ("a.web.instance-1-2.db.1", ("a.web.instance-1-2", 1, "db")),
        ("web.instance-1", None),
        ("web._app.1", None),
        ("", None),
    ],
)
def test_task_ids_are_parsed(text: str, expected: tuple[str, int, str] | None) -> None:
    assert parse_task_id(text) == expected
