"""Definitions: defaults, old spellings, every refusal, and the way back to JSON."""

from typing import Any

import pytest

from phalanx.core.error import UnavailableError
from phalanx.marathon.definition.parse import parse_app, updated_app
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.model.app import App
from phalanx.marathon.model.network import NetworkMode
from phalanx.marathon.model.path import absolute, errors_of, hostname_form, parent_of, safe_form
from phalanx.marathon.schedule.service_port import (
    free_ports,
    service_ports,
    with_service_ports,
)

BASE: dict[str, Any] = {"id": "/web", "cmd": "x"}
ON_DCOS = {"networks": [{"mode": "container", "name": "dcos"}]}


def parse(**more: Any) -> App:
    """Parse the least definition with *more*."""
    return parse_app({**BASE, **more}, default_network="dcos")


def problems_of(raw: dict[str, Any], default_network: str | None = None) -> dict[str, str]:
    """Return the first error at each path."""
    with pytest.raises(DefinitionError) as caught:
        parse_app(raw, default_network=default_network)
    return {problem.path: problem.error for problem in reversed(caught.value.problems)}


def test_defaults_are_filled_in() -> None:
    rendered = render_app(parse())

    assert rendered == {
        "id": "/web",
        "cmd": "x",
        "args": [],
        "instances": 1,
        "cpus": 1.0,
        "mem": 128.0,
        "disk": 0.0,
        "gpus": 0,
        "executor": "",
        "env": {},
        "labels": {},
        "role": "*",
        "constraints": [],
        "fetch": [],
        "dependencies": [],
        "networks": [{"mode": "host"}],
        "portDefinitions": [{"port": 0, "name": "default", "protocol": "tcp", "labels": {}}],
        "requirePorts": False,
        "healthChecks": [],
        "readinessChecks": [],
        "backoffSeconds": 1.0,
        "backoffFactor": 1.15,
        "maxLaunchDelaySeconds": 300.0,
        "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0},
        "killSelection": "YOUNGEST_FIRST",
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "version": "",
    }


RICH: dict[str, Any] = {
    **BASE,
    **ON_DCOS,
    "container": {
        "type": "MESOS",
        "docker": {"image": "nginx", "forcePullImage": True},
        "portMappings": [
            {"containerPort": 80, "protocol": "udp,tcp", "labels": {"VIP_0": "/w:80"}},
            {"containerPort": 81, "hostPort": 0},
        ],
        "volumes": [{"containerPath": "/data", "hostPath": "/srv", "mode": "RO"}],
    },
    "constraints": [["rack", "GROUP_BY", 2], ["hostname", "UNIQUE"]],
    "healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}}, {"path": "/h"}],
    "fetch": [{"uri": "http://x/y.tgz", "destPath": "z"}],
    "unreachableStrategy": "disabled",
    "taskKillGracePeriodSeconds": 3,
    "acceptedResourceRoles": ["*"],
    "user": "nobody",
}  # fmt: skip


@pytest.mark.parametrize("raw", [BASE, RICH], ids=["least", "rich"])
def test_what_is_rendered_parses_to_the_same_app(raw: dict[str, Any]) -> None:
    app = parse_app(raw)

    assert parse_app(render_app(app)) == app
    assert updated_app(render_app(app), render_app(app)) == app


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        pytest.param(
            {"uris": ["http://x/a.tar.gz", "http://x/b"]},
            {"fetch": [{"uri": "http://x/a.tar.gz", "extract": True},
                       {"uri": "http://x/b", "extract": False}]},
            id="uris",
        ),
        pytest.param(
            {"ports": [80, 0]}, {"portDefinitions": [{"port": 80}, {"port": 0}]}, id="ports"
        ),
        pytest.param(
            {"container": {"type": "MESOS", "docker": {
                "image": "i", "network": "BRIDGE", "portMappings": [{"containerPort": 80}]}}},
            {"networks": [{"mode": "container/bridge"}],
             "container": {"docker": {"image": "i"}, "type": "MESOS",
                           "portMappings": [{"containerPort": 80}]}},
            id="docker-bridge",
        ),
        pytest.param(
            {"container": {"type": "MESOS", "docker": {"image": "i", "network": "USER"}},
             "ipAddress": {"networkName": "blue"}},
            {"networks": [{"mode": "container", "name": "blue"}],
             "container": {"type": "MESOS", "docker": {"image": "i"}}},
            id="docker-user",
        ),
        pytest.param(
            {"ipAddress": {"networkName": "blue", "labels": {"a": "b"},
                           "discovery": {"ports": [{"number": 80, "name": "http"}]}}},
            {"networks": [{"mode": "container", "name": "blue", "labels": {"a": "b"}}],
             "container": {"portMappings": [{"containerPort": 80, "name": "http"}]}},
            id="ip-address",
        ),
        pytest.param({"networks": None, "residency": {}, "storeUrls": []}, {}, id="ignored"),
    ],
)  # fmt: skip
def test_old_spelling_means_the_new_one(old: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parse(**old) == parse(**expected)


def test_container_network_without_name_is_the_default_one() -> None:
    app = parse(networks=[{"mode": "container"}])

    assert [(n.mode, n.name) for n in app.networks] == [(NetworkMode.CONTAINER, "dcos")]
    assert [mapping.name for mapping in app.mappings] == ["default"]
    assert app.port_definitions is None


@pytest.mark.parametrize(
    ("more", "path", "error"),
    [
        ({"id": "/A"}, "/id", "must fully match"),
        ({"id": "/"}, "/id", "Path must contain at least one path element"),
        ({"id": "/x/tasks"}, "/id", "must not end with any of the following reserved keywords"),
        ({"id": 5}, "/id", "error.expected.jsstring"),
        ({"instances": "3"}, "/instances", "error.expected.jsnumber"),
        ({"instances": -1}, "/instances", "got -1"),
        ({"instances": 10**12}, "/instances", "got 1"),
        ({"env": {"A": 5}}, "/env", "error.expected.jsstring"),
        ({"requirePorts": 1}, "/requirePorts", "error.expected.jsboolean"),
        ({"labels": []}, "/labels", "error.expected.jsobject"),
        ({"args": "x"}, "/args", "error.expected.jsarray"),
        ({"args": ["x"]}, "/", "AppDefinition must either contain one of 'cmd' or 'args'"),
        ({"cmd": None}, "/", "AppDefinition must either contain one of 'cmd' or 'args'"),
        ({"backoffFactor": 0.5}, "/backoffFactor", "got 0.5"),
        ({"upgradeStrategy": {"minimumHealthCapacity": 1.5}},
         "/upgradeStrategy/minimumHealthCapacity", "is greater than 1.0"),
        ({"upgradeStrategy": {"maximumOverCapacity": -1}},
         "/upgradeStrategy/maximumOverCapacity", "is less than 0.0"),
        ({"unreachableStrategy": {"inactiveAfterSeconds": 9}}, "/unreachableStrategy", "inactive"),
        ({"unreachableStrategy": "never"}, "/unreachableStrategy", "is neither"),
        ({"networks": [{"mode": "host"}, {"mode": "container", "name": "a"}]}, "/networks", "Must"),
        ({"networks": [{"mode": "container", "name": "a"}] * 2}, "/networks", "elements must be"),
        ({"networks": [{"mode": "host", "name": "a"}]}, "/networks(0)/name", "only a container"),
        ({"networks": [{"mode": "pigeon"}]}, "/networks(0)/mode", "Invalid enum value"),
        ({**ON_DCOS, "portDefinitions": [{"port": 0}]}, "/portDefinitions", "portDefinitions are"),
        ({"container": {"portMappings": [{}]}}, "/container/portMappings", "portMappings are not"),
        ({"portDefinitions": [{"port": 70000}]}, "/portDefinitions(0)/port", "70000 is not a port"),
        ({"portDefinitions": [{"port": 80}] * 2}, "/portDefinitions", "elements must be unique"),
        ({**ON_DCOS, "container": {"portMappings": [{"networkNames": ["x"]}]}},
         "/container/portMappings(0)/networkNames", "'x' is no network of the app"),
        ({"container": {"volumes": [{"containerPath": "/a", "hostPath": "/b", "mode": "X"}]}},
         "/container/volumes(0)/mode", "is neither RO nor RW"),
        ({"fetch": [{}]}, "/fetch(0)/uri", "error.path.missing"),
        ({"healthChecks": [{"portIndex": 4}]}, "/healthChecks(0)/portIndex", "Health check port"),
        ({"healthChecks": [{"port": 1, "portIndex": 0}]}, "/healthChecks(0)", "port and portIndex"),
        ({"healthChecks": [{"protocol": "COMMAND"}]}, "/healthChecks(0)/command", "must be set"),
        ({"healthChecks": [{"protocol": "MESOS_TCP"}] * 2}, "/healthChecks", "AppDefinition can"),
        ({"healthChecks": [{"path": "x"}]}, "/healthChecks(0)/path", "must begin with /"),
        ({"healthChecks": [{"timeoutSeconds": 0}]}, "/healthChecks(0)/timeoutSeconds", "got 0"),
        ({"constraints": [["a", "NEAR"]]}, "/constraints(0)", "operator must be one of"),
        ({"constraints": [["a", "LIKE", "("]]}, "/constraints(0)", "'(' is not a valid regular"),
        ({"constraints": [["a", "MAX_PER"]]}, "/constraints(0)", "Value was empty"),
        ({"constraints": [["a", "UNIQUE", "1"]]}, "/constraints(0)", "Value specified"),
        ({"constraints": [["a", "IS", "b c"]]}, "/constraints(0)", "Value was empty or has"),
        ({"constraints": [["a", "GROUP_BY", "x"]]}, "/constraints(0)", "Value 'x' is not"),
        ({"role": "prod"}, "/role", "'prod' is neither '*' nor the group's"),
        ({"gpus": 1, "container": {"type": "DOCKER", "docker": {"image": "a"}}}, "/gpus", "GPU"),
        ({"readinessChecks": [{}]}, "/readinessChecks(0)/portName", "'http-api' must be the name"),
        ({"readinessChecks": [{"portName": "default", "timeoutSeconds": 30}]},
         "/readinessChecks(0)/timeoutSeconds", "must be positive and less"),
        ({"acceptedResourceRoles": []}, "/acceptedResourceRoles", "must not be empty"),
        ({"acceptedResourceRoles": ["a"]}, "/acceptedResourceRoles", "'a' is neither"),
        ({"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}, "instances": 2}, "/instances", "is"),
        ({"uris": ["a"], "fetch": [{"uri": "b"}]}, "/uris", "may not be set in conjunction"),
        ({"ports": [1], "portDefinitions": []}, "/ports", "cannot specify both ports"),
        ({"ipAddress": {}, "ports": [1]}, "/ipAddress", "cannot specify both an IP address"),
        ({"ipAddress": {}, **ON_DCOS}, "/networks", "must not specify both networks and ipAddress"),
        ({"env": {"A": {"secret": "b"}}}, "/env/A", "references the undeclared secret 'b'"),
        ({"container": {"volumes": [{"containerPath": "a", "secret": "b"}]}},
         "/container/volumes(0)", "references the undeclared secret 'b'"),
        ({"container": {"volumes": [{"containerPath": "a"}]}}, "/container/volumes(0)",
         "must have either"),
        ({"secrets": {"a": {"source": ""}}}, "/secrets/a", "needs a name and a source"),
        ({"secrets": {"a": {}}}, "/secrets/source", "error.path.missing"),
        ({"resourceLimits": {"cpus": 0.5}}, "/resourceLimits/cpus", "got 0.5, expected 1 or more"),
        ({"resourceLimits": {"mem": "much"}}, "/resourceLimits/mem", "is neither a number"),
        ({"check": {}}, "/check", "must have exactly one of"),
        ({"check": {"tcp": {"portIndex": 7}}}, "/check/tcp/portIndex", "must address one"),
        ({"check": {"tcp": {"portIndex": 0, "port": 8}}}, "/check/tcp", "port and portIndex"),
        ({"check": {"http": {"scheme": "FTP"}}}, "/check/http/scheme", "is neither HTTP"),
        ({"check": {"exec": {"command": {}}}}, "/check/exec/command", "must have either"),
        ({"check": {"tcp": {}, "delaySeconds": -1}}, "/check/delaySeconds", "got -1"),
        ({"container": {"type": "DOCKER"}}, "/container/docker", "must be set for type DOCKER"),
        ({"container": {"type": "RKT"}}, "/container/type", "'RKT' is neither"),
        ({"container": {"type": "MESOS", "docker": {"image": "a", "privileged": True}}},
         "/container/docker", "privileged and parameters are only"),
        ({"container": {"docker": {"image": "a"}}, "networks": [{"name": "x"}, {"name": "y"}]},
         "/networks", "a Docker container can be on one network only"),
        ({"container": {"docker": {"image": "a"}, "linuxInfo": {}}}, "/container/linuxInfo",
         "is only supported by the Mesos"),
        ({"container": {"linuxInfo": {"ipcInfo": {"mode": "OPEN"}}}},
         "/container/linuxInfo/ipcInfo/mode", "is neither PRIVATE"),
        ({"container": {"linuxInfo": {"ipcInfo": {"mode": "SHARE_PARENT", "shmSize": 8}}}},
         "/container/linuxInfo/ipcInfo/shmSize", "needs the mode PRIVATE"),
    ],
)  # fmt: skip
def test_rule_is_kept(more: dict[str, Any], path: str, error: str) -> None:
    found = problems_of({**BASE, **more})

    assert found.get(path, f"nothing, but {found}").startswith(error)


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"container": {"docker": {"image": "a", "credential": {"principal": "b"}}}},
         "/container/docker/credential"),
        ({"container": {"volumes": [{"containerPath": "a", "external": {"provider": "csi"}}]}},
         "/container/volumes(0)/external/provider"),
    ],
)  # fmt: skip
def test_what_can_not_be_honoured_is_refused(more: dict[str, Any], path: str) -> None:
    assert path in problems_of({**BASE, **more})


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {
                "secrets": {"key": {"source": "team/key"}},
                "env": {"A": "b", "KEY": {"secret": "key"}},
                "container": {
                    "type": "MESOS",
                    "volumes": [
                        {"containerPath": "key", "secret": "key", "mode": "RO"},
                        {"containerPath": "data", "hostPath": "/data"},
                    ],
                    "linuxInfo": {"ipcInfo": {"mode": "PRIVATE", "shmSize": 8}},
                },
            },
            id="secrets",
        ),
        pytest.param({"resourceLimits": {"cpus": "unlimited", "mem": 512}}, id="limits"),
        pytest.param({"tty": True}, id="tty"),
        pytest.param({"check": {"exec": {"command": {"argv": ["a", "b"]}}}}, id="check"),
        pytest.param(
            {
                "container": {
                    "docker": {
                        "image": "a",
                        "privileged": True,
                        "parameters": [{"key": "k", "value": "v"}],
                    }
                }
            },
            id="docker",
        ),
    ],
)
def test_what_is_read_can_be_sent_back(more: dict[str, Any]) -> None:
    app = parse_app({**BASE, **more})
    shown = render_app(app)

    assert parse_app(shown) == app
    assert more.keys() <= shown.keys()


def test_a_container_of_an_image_is_dockers_unless_it_says_otherwise() -> None:
    image: dict[str, Any] = {"docker": {"image": "a"}}
    containers: list[dict[str, Any]] = [image, {**image, "type": "MESOS"}, {"volumes": []}]
    kinds = [parse_app({**BASE, "container": given}).container for given in containers]

    assert [kind and kind.type for kind in kinds] == ["DOCKER", "MESOS", "MESOS"]


def test_container_network_needs_a_name_without_default() -> None:
    found = problems_of({**BASE, "networks": [{"mode": "container"}]})

    assert found["/networks(0)"].startswith("Network name must be specified")


def test_error_body_lists_errors_by_path() -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(cpus=-1, mem=-1)

    assert caught.value.body() == {
        "message": "Object is not valid",
        "details": [
            {"path": "/cpus", "errors": ["got -1, expected 0 to 1e+09"]},
            {"path": "/mem", "errors": ["got -1, expected 0 to 1e+09"]},
        ],
    }


@pytest.mark.parametrize(
    ("update", "changed"),
    [
        ({"env": {"B": "2"}}, {"env": {"B": "2"}}),
        ({"mem": None}, {}),
        ({"cmd": "y", "args": []}, {"cmd": "y"}),
        ({"unknown": 1, "tasks": []}, {}),
    ],
)
def test_update_replaces_top_level_keys(update: dict[str, Any], changed: dict[str, Any]) -> None:
    base = parse(env={"A": "1"})

    assert render_app(updated_app(render_app(base), update)) == {**render_app(base), **changed}


def test_update_to_another_kind_of_network_drops_the_ports_of_the_old() -> None:
    hosted = parse(portDefinitions=[{"port": 80, "name": "a"}], requirePorts=True)

    contained = updated_app(render_app(hosted), ON_DCOS)
    hosted_again = updated_app(render_app(contained), {"networks": [{"mode": "host"}]})

    assert contained.port_definitions is None
    assert [mapping.name for mapping in contained.mappings] == ["default"]
    assert [d.name for d in hosted_again.port_definitions or ()] == ["default"]


def test_service_ports_are_the_lowest_free_and_stay() -> None:
    app = parse(portDefinitions=[{"port": 0}, {"port": 9000}, {"port": 0}])

    first = with_service_ports(app, before=None, free=free_ports([10000]))
    again = with_service_ports(app, before=first, free=free_ports([10000]))

    assert service_ports(first) == (10001, 9000, 10002)
    assert again == first


def test_mappings_get_service_ports_too() -> None:
    app = with_service_ports(parse(**ON_DCOS), before=None, free=free_ports([]))

    assert service_ports(app) == (10000,)


def test_exhausted_service_ports_are_an_error() -> None:
    with pytest.raises(UnavailableError, match="no service port is free"):
        with_service_ports(parse(), before=None, free=free_ports(range(10000, 20001)))


def test_change_of_instances_alone_is_the_same_config() -> None:
    assert parse(instances=1).config == parse(instances=2).config
    assert parse(labels={"a": "b"}).config != parse().config


@pytest.mark.parametrize(
    ("path", "parent", "expected"),
    [("/a//b/", "/", "/a/b"), ("x", "/g", "/g/x"), ("../x", "/g/h", "/g/x"), ("../..", "/", "/")],
)
def test_paths_resolve(path: str, parent: str, expected: str) -> None:
    assert absolute(path, parent) == expected


def test_forms_of_a_path() -> None:
    assert hostname_form("/prod/web/api") == "api.web.prod"
    assert safe_form("/prod/web/api") == "prod_web_api"
    assert parent_of("/prod/web/api") == "/prod/web"
    assert errors_of("/prod/web.v2/a-b") == []


def test_old_ports_off_the_host_are_service_ports() -> None:
    app = parse_app(
        {
            "id": "/x",
            "ports": [15000, 0, 15001],
            "container": {
                "docker": {
                    "image": "i",
                    "network": "BRIDGE",
                    "portMappings": [
                        {"containerPort": 80},
                        {"containerPort": 81, "servicePort": 9},
                    ],
                }
            },
        }
    )

    assert [(m.container_port, m.service_port) for m in app.mappings] == [
        (80, 15000),
        (81, 9),
        (0, 15001),
    ]
    assert app.port_definitions is None


def test_the_old_name_of_the_bridge_is_the_bridge() -> None:
    app = parse_app({"id": "/x", "cmd": "x", "ipAddress": {"networkName": "mesos-bridge"}})

    assert app.is_bridged


@pytest.mark.parametrize(
    ("more", "path"),
    [
        pytest.param({"networks": [{"mode": "host", "labels": {"a": "b"}}]}, "/networks(0)/labels",
                     id="labelled-host"),
        pytest.param({"labels": {"DCOS_MIGRATION_API_VERSION": "v1"}}, "/labels", id="migration"),
        pytest.param({"container": {"volumes": [{"containerPath": "a", "external": {"size": 1}}]}},
                     "/container/volumes(0)/external/options", id="external"),
    ],
)  # fmt: skip
def test_more_that_is_refused(more: dict[str, Any], path: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_app({"id": "/x", "cmd": "x", **more})

    assert path in [problem.path for problem in caught.value.problems]
