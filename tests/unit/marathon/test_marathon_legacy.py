"""Old spellings of a definition, row by row: what each means today, and what can't be mixed."""

from typing import Any

import pytest

from phalanx.marathon.definition.parse import parse_app, updated_app
from phalanx.marathon.definition.problem import DefinitionError
from phalanx.marathon.definition.render import render_app
from phalanx.marathon.model.app import App

BASE: dict[str, Any] = {"id": "/web", "cmd": "x"}
ARCHIVES = ["tgz", "tar.gz", "tbz2", "tar.bz2", "txz", "tar.xz", "zip", "tar", "gz"]
GONE = {"ports", "uris", "ipAddress", "storeUrls", "residency"}


def parse(raw: dict[str, Any]) -> App:
    return parse_app({**BASE, **raw}, default_network="dcos")


def docker(**more: Any) -> dict[str, Any]:
    """Return a container of the Docker engine with *more* in its ``docker``."""
    return {"container": {"docker": {"image": "i", **more}}}


def modern(mappings: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the same container with port mappings as they are written today."""
    container: dict[str, Any] = {"type": "DOCKER", "docker": {"image": "i"}}
    return {"container": container if mappings is None else {**container, "portMappings": mappings}}


ON_DCOS = {"networks": [{"mode": "container", "name": "dcos"}]}
ON_BRIDGE = {"networks": [{"mode": "container/bridge"}]}
MAPPING = {"containerPort": 80, "hostPort": 0, "servicePort": 9000, "protocol": "udp,tcp"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param({"ports": [80, 0]}, {"portDefinitions": [{"port": 80}, {"port": 0}]},
                     id="ports"),
        pytest.param({"ports": [0, 0]}, {"portDefinitions": [{"port": 0}, {"port": 0}]},
                     id="ports-any"),
        pytest.param({"ports": []}, {"portDefinitions": []}, id="no-ports"),
        pytest.param({"uris": []}, {}, id="no-uris"),
        pytest.param({"uris": ["u"], "fetch": []}, {"fetch": [{"uri": "u", "extract": False}]},
                     id="uris-beside-nothing"),
        pytest.param(docker(network="HOST"), {**modern(), "networks": [{"mode": "host"}]},
                     id="docker-host"),
        pytest.param(docker(network="NONE"), {**modern(), "networks": [{"mode": "host"}]},
                     id="docker-none"),
        pytest.param(docker(network="BRIDGE", portMappings=[MAPPING]),
                     {**modern([MAPPING]), **ON_BRIDGE}, id="docker-bridge"),
        pytest.param(docker(network="BRIDGE"), {**modern(), **ON_BRIDGE}, id="docker-bridge-bare"),
        pytest.param(docker(network="BRIDGE", portMappings=[]), {**modern([]), **ON_BRIDGE},
                     id="docker-bridge-without-ports"),
        pytest.param({**docker(network="BRIDGE", portMappings=[{"containerPort": 80}]),
                      "ports": [9000, 9001]},
                     {**modern([{"containerPort": 80, "servicePort": 9000},
                                {"servicePort": 9001}]), **ON_BRIDGE},
                     id="more-service-ports-than-mappings"),
        pytest.param({**docker(network="BRIDGE", portMappings=[{"containerPort": 80}]),
                      "portDefinitions": [{"port": 9000}]},
                     {**modern([{"containerPort": 80, "servicePort": 9000}]), **ON_BRIDGE},
                     id="definitions-of-service-ports"),
        pytest.param(docker(network="USER"), {**modern(), **ON_DCOS}, id="docker-user"),
        pytest.param({**docker(network="USER"),
                      "ipAddress": {"networkName": "a", "labels": {"k": "v"}}},
                     {**modern(), "networks": [{"mode": "container", "name": "a",
                                                "labels": {"k": "v"}}]},
                     id="docker-user-by-name"),
        pytest.param({"ipAddress": {}}, {**ON_DCOS, "container": {"type": "MESOS"}},
                     id="address-of-the-default-network"),
        pytest.param({"ipAddress": {"networkName": "a", "labels": {"k": "v"}, "groups": ["g"]}},
                     {"networks": [{"mode": "container", "name": "a", "labels": {"k": "v"}}]},
                     id="address"),
        pytest.param({"ipAddress": {"networkName": "mesos-bridge"}}, ON_BRIDGE, id="old-bridge"),
        pytest.param({"ipAddress": {"networkName": "dcos", "discovery": {"ports": [
            {"number": 80, "name": "web", "protocol": "tcp", "labels": {"VIP_0": "/w:80"}}]}}},
                     {**ON_DCOS, "container": {"type": "MESOS", "portMappings": [
                         {"containerPort": 80, "name": "web", "protocol": "tcp",
                          "labels": {"VIP_0": "/w:80"}}]}}, id="address-with-discovery"),
        pytest.param({"storeUrls": ["x"], "residency": {"taskLostBehavior": "WAIT_FOREVER"}}, {},
                     id="without-effect"),
        pytest.param({"ports": None, "uris": None, "ipAddress": None}, {}, id="nulls"),
    ],
)  # fmt: skip
def test_old_means_new_and_is_answered_as_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    app = parse(old)
    shown = render_app(app)

    assert app == parse(new)
    assert not GONE & shown.keys()
    assert not {"network", "portMappings"} & shown.get("container", {}).get("docker", {}).keys()
    assert updated_app(shown, old, default_network="dcos") == app


@pytest.mark.parametrize("ending", ARCHIVES)
def test_archives_are_extracted(ending: str) -> None:
    fetched = parse({"uris": [f"http://x/a.{ending}", f"http://x/a.{ending}.sig"]}).fetch

    assert [file.extract for file in fetched] == [True, False]


@pytest.mark.parametrize(
    ("raw", "path", "words"),
    [
        ({"ports": [80, 80]}, "/ports", "ports must be unique"),
        ({"ports": [80], "portDefinitions": []}, "/ports",
         "cannot specify both ports and port definitions"),
        ({"uris": ["a"], "fetch": [{"uri": "b"}]}, "/uris",
         "may not be set in conjunction with fetch"),
        ({**docker(network="HOST"), "networks": [{"mode": "host"}]}, "/networks",
         "must not specify both container.docker.network and networks"),
        ({"ipAddress": {}, **ON_DCOS}, "/networks", "must not specify both networks and ipAddress"),
        ({"ipAddress": {}, "ports": [1]}, "/ipAddress",
         "cannot specify both an IP address and port"),
        ({"ipAddress": {}, "portDefinitions": [{"port": 1}]}, "/ipAddress",
         "cannot specify both an IP address and port"),
        ({"container": {"docker": {"image": "i", "network": "BRIDGE", "portMappings": [MAPPING]},
                        "portMappings": [MAPPING]}}, "/container/portMappings",
         "must not be set twice"),
        (docker(network="WEAVE"), "/container/docker/network", "'WEAVE' is none of HOST"),
        (docker(network="HOST", portMappings=[MAPPING]), "/container/portMappings",
         "portMappings are not allowed with host-networking"),
    ],
)  # fmt: skip
def test_old_and_new_do_not_mix(raw: dict[str, Any], path: str, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse(raw)

    found = {problem.path: problem.error for problem in caught.value.problems}
    assert found[path].startswith(words)


def test_an_address_leaves_the_container_that_is_there() -> None:
    base = render_app(parse({"container": {"type": "DOCKER", "docker": {"image": "i"}}}))
    discovery = {"ports": [{"number": 80, "name": "web", "protocol": "tcp"}]}

    app = updated_app(base, {"ipAddress": {"networkName": "a", "discovery": discovery}})

    assert app.container is not None
    assert app.container.docker is not None
    assert (app.container.type, app.container.docker.image) == ("DOCKER", "i")
    assert [network.name for network in app.networks] == ["a"]
    assert [mapping.container_port for mapping in app.mappings] == [80]


def test_an_address_that_says_nothing_leaves_the_container_that_is_there() -> None:
    base = render_app(parse({"container": {"type": "DOCKER", "docker": {"image": "i"}}}))

    app = updated_app(base, {"ipAddress": {}}, default_network="dcos")

    assert app.container is not None
    assert app.container.docker is not None


@pytest.mark.parametrize("address", ["x", 7, True, [1]])
def test_what_is_no_address_changes_nothing(address: object) -> None:
    base = render_app(parse({"container": {"type": "DOCKER", "docker": {"image": "i"}}}))

    assert updated_app(base, {"ipAddress": address}) == parse_app(base)


@pytest.mark.parametrize("container", ["", 0, False, []])
def test_a_container_that_is_none_is_named_beside_an_address(container: object) -> None:
    base = render_app(parse({"container": {"type": "DOCKER", "docker": {"image": "i"}}}))

    with pytest.raises(DefinitionError) as caught:
        updated_app(base, {"ipAddress": {"networkName": "a"}, "container": container})

    assert {problem.path for problem in caught.value.problems} == {"/container"}
