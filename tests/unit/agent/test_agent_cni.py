"""CNI's words in and out: configurations, requests, results, the files that follow."""

import json
from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.cni.attach import given_network, named
from phalanx.agent.cni.config import (
    find_plugin,
    parse_config,
    read_configs,
    takes_result_on_delete,
)
from phalanx.agent.cni.etc import render_hosts, render_resolv_conf
from phalanx.agent.cni.request import Attachment, plugin_config, plugin_environment
from phalanx.agent.cni.result import Attached, Dns, attached, parse_result, words_of
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import IPAddress, Label, Labels, NetworkInfo, PortMapping


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_conf_is_one_plugin_kept_verbatim() -> None:
    raw = {"name": "n", "type": "bridge", "extra": [1]}

    config = parse_config(as_json(raw))

    assert (config.name, config.version, config.is_list) == ("n", "0.1.0", False)
    assert config.plugins == (raw,)


def test_a_conflist_gives_each_plugin_its_name_and_version() -> None:
    raw = {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "a"}, {"type": "b", "x": 1}]}

    config = parse_config(as_json(raw))

    assert config.is_list
    assert config.plugins == (
        {"type": "a", "name": "n", "cniVersion": "1.0.0"},
        {"type": "b", "x": 1, "name": "n", "cniVersion": "1.0.0"},
    )


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(b"{", "is not JSON", id="not-json"),
        pytest.param(b"[]", "is not a JSON object", id="not-an-object"),
        pytest.param(as_json({"type": "a"}), "name: None", id="no-name"),
        pytest.param(as_json({"name": "n"}), "type: None", id="no-type"),
        pytest.param(as_json({"name": "n", "plugins": []}), "plugins", id="no-plugins"),
        pytest.param(as_json({"name": "n", "plugins": [1]}), "plugins: 1", id="bad-plugin"),
        pytest.param(as_json({"name": "n", "plugins": [{}]}), "type", id="typeless-plugin"),
        pytest.param(
            as_json({"name": "n", "type": "t", "cniVersion": 1}), "cniVersion: 1", id="bad-version"
        ),
    ],
)
def test_a_bad_configuration_is_named(raw: bytes, words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        parse_config(raw)


def test_a_directory_is_read_by_name_and_bad_files_hold_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "10-a.conf").write_bytes(as_json({"name": "a", "type": "first"}))
    (tmp_path / "20-a.conf").write_bytes(as_json({"name": "a", "type": "second"}))
    (tmp_path / "30-b.conflist").write_bytes(as_json({"name": "b", "plugins": [{"type": "x"}]}))
    (tmp_path / "40-bad.conf").write_bytes(b"{")
    (tmp_path / "readme.txt").write_bytes(b"not a configuration")

    found = read_configs(tmp_path)

    assert found.keys() == {"a", "b"}
    assert found["a"].plugins[0]["type"] == "first"


def test_a_directory_that_is_gone_has_no_networks(tmp_path: Path) -> None:
    assert read_configs(tmp_path / "gone") == {}


def test_a_plugin_is_found_in_the_first_directory_that_has_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "bridge").write_text("not executable")
    plugin = tmp_path / "two" / "bridge"
    plugin.write_text("#!/bin/sh\n")
    plugin.chmod(0o755)

    assert find_plugin("bridge", (tmp_path / "one", tmp_path / "two")) == plugin


@pytest.mark.parametrize("kind", ["../sh", "nosuch", "..", ""])
def test_a_plugin_that_is_nowhere_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="CNI plugin"):
        find_plugin(kind, (tmp_path,))


@pytest.mark.parametrize(
    ("version", "takes"),
    [("0.1.0", False), ("0.3.1", False), ("0.4.0", True), ("1.1.0", True), ("odd", False)],
)
def test_result_goes_with_delete_since_0_4(version: str, takes: bool) -> None:
    assert takes_result_on_delete(version) is takes


ASKED = NetworkInfo(
    name="dcos",
    labels=Labels(labels=(Label(key="app", value="web"),)),
    port_mappings=(PortMapping(host_port=31000, container_port=80, protocol="UDP"),),
)


def test_the_tasks_wishes_go_into_args() -> None:
    config = plugin_config({"name": "dcos", "type": "x", "args": {"cni": {"a": 1}}}, ASKED)

    assert config["args"]["cni"] == {"a": 1}
    fed = json.loads(json.dumps(config))
    assert fed["args"]["org.apache.mesos"]["network_info"] == {
        "name": "dcos",
        "labels": {"labels": [{"key": "app", "value": "web"}]},
        "port_mappings": [{"host_port": 31000, "container_port": 80, "protocol": "UDP"}],
    }
    assert "runtimeConfig" not in config
    assert "prevResult" not in config


def test_port_mappings_go_to_a_plugin_that_can() -> None:
    plugin = {"type": "x", "capabilities": {"portMappings": True}, "runtimeConfig": {"mac": "m"}}

    config = plugin_config(plugin, ASKED, previous={"ips": []})

    assert config["runtimeConfig"] == {
        "mac": "m",
        "portMappings": [{"hostPort": 31000, "containerPort": 80, "protocol": "udp"}],
    }
    assert config["prevResult"] == {"ips": []}


def test_addresses_that_are_asked_for_go_to_a_plugin_that_can() -> None:
    asked = NetworkInfo(
        name="dcos",
        ip_addresses=(
            IPAddress(ip_address="9.0.1.9"),
            IPAddress(protocol="IPv6", ip_address="fd01::9"),
            IPAddress(protocol="IPv4"),
        ),
    )

    able = plugin_config({"type": "x", "capabilities": {"ips": True}}, asked)
    unable = plugin_config({"type": "x", "capabilities": {"ips": False}}, asked)

    assert able["runtimeConfig"] == {"ips": ["9.0.1.9", "fd01::9"]}
    assert "runtimeConfig" not in unable


@pytest.mark.parametrize("args", [1, {"org.apache.mesos": {}}])
def test_args_that_leave_no_room_are_refused(args: object) -> None:
    with pytest.raises(ContainerError, match="args"):
        plugin_config({"type": "x", "args": args}, ASKED)


def test_a_plugin_sees_exactly_the_protocols_variables() -> None:
    attachment = Attachment("c1", "eth1", "/run/ns")

    found = plugin_environment("ADD", attachment, plugin_path="/a:/b", search_path="/bin")

    assert found == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth1",
        "CNI_NETNS": "/run/ns",
        "CNI_PATH": "/a:/b",
        "PATH": "/bin",
    }


def test_a_namespace_that_is_gone_is_not_mentioned() -> None:
    found = plugin_environment("DEL", Attachment("c", "eth0", None), plugin_path="", search_path="")

    assert "CNI_NETNS" not in found


@pytest.mark.parametrize(
    ("result", "addresses"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"ip4": {"ip": "9.0.1.2/24"}}, ("9.0.1.2",), id="0.2"),
        pytest.param(
            {"ip4": {"ip": "9.0.1.2/24"}, "ip6": {"ip": "fd01::2/80"}},
            ("9.0.1.2", "fd01::2"),
            id="0.2-both",
        ),
        pytest.param(
            {"ips": [{"version": "4", "address": "9.0.1.2/24", "interface": 0}]},
            ("9.0.1.2",),
            id="0.3-no-interfaces",
        ),
        pytest.param(
            {
                "interfaces": [{"name": "br"}, {"name": "eth0", "sandbox": "/run/ns"}],
                "ips": [
                    {"address": "9.0.1.1/24", "interface": 0},
                    {"address": "9.0.1.2/24", "interface": 1},
                ],
            },
            ("9.0.1.2",),
            id="1.0-only-the-containers",
        ),
        pytest.param(
            {"ips": [{"address": "fd01::2/80"}, {"address": "fd01::2/80"}]},
            ("fd01::2",),
            id="1.1-once-each",
        ),
    ],
)
def test_addresses_are_read_of_every_version(
    result: dict[str, Any], addresses: tuple[str, ...]
) -> None:
    assert attached(result).addresses == addresses


def test_dns_is_read() -> None:
    dns = {"nameservers": ["1.1.1.1"], "domain": "d", "search": ["s"], "options": ["ndots:2", 1]}

    assert attached({"dns": dns}).dns == Dns(("1.1.1.1",), "d", ("s",), ("ndots:2",))


def test_a_bad_address_is_named() -> None:
    with pytest.raises(ContainerError, match=r"'9\.0\.1'"):
        attached({"ip4": {"ip": "9.0.1"}})


@pytest.mark.parametrize("raw", [b"nonsense", b"[1]"])
def test_a_result_that_is_none_is_refused(raw: bytes) -> None:
    with pytest.raises(ContainerError, match="result is not"):
        parse_result(raw)


def test_no_output_is_an_empty_result() -> None:
    assert parse_result(b" \n") == {}


@pytest.mark.parametrize(
    ("out", "words"),
    [
        pytest.param(as_json({"msg": "full", "details": "pool"}), "full: pool", id="details"),
        pytest.param(as_json({"msg": "full"}), "full", id="message"),
        pytest.param(b"oops\n", "stdout='oops', stderr='e'", id="text"),
        pytest.param(b"{}", "stdout='{}', stderr='e'", id="no-message"),
    ],
)
def test_a_failure_is_told_in_the_plugins_words(out: bytes, words: str) -> None:
    assert words_of(out, b"e\n") == words


def test_hosts_have_the_first_networks_addresses() -> None:
    networks = [Attached(), Attached(("9.0.1.2", "fd01::2")), Attached(("9.1.1.2",))]

    assert render_hosts(networks, "web").splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "9.0.1.2 web",
        "fd01::2 web",
    ]


@pytest.mark.parametrize(
    ("dns", "text"),
    [
        pytest.param([], None, id="no-networks"),
        pytest.param([Dns(domain="d", search=("s",))], None, id="no-servers"),
        pytest.param(
            [Dns(("1.1.1.1",), "a", ("s",), ("ndots:2",)), Dns(("1.1.1.1", "2.2.2.2"), "b")],
            "domain b\nsearch s\noptions ndots:2\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n",
            id="merged-in-order",
        ),
    ],
)
def test_resolvers_of_all_networks_are_merged(dns: list[Dns], text: str | None) -> None:
    assert render_resolv_conf([Attached((), one) for one in dns]) == text


def test_only_named_networks_are_joined() -> None:
    networks = (NetworkInfo(), NetworkInfo(name="a"), NetworkInfo(name="b"))

    assert [network.name for network in named(networks)] == ["a", "b"]


@pytest.mark.parametrize(
    ("names", "words"),
    [(("a", "a"), "multiple times"), (("../x",), "can't be"), (("ns",), "can't be")],
)
def test_a_network_can_be_joined_once_by_a_good_name(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        named(NetworkInfo(name=name) for name in names)


def test_a_status_has_what_was_asked_and_what_was_given() -> None:
    given = given_network(ASKED, Attached(("9.0.1.2", "fd01::2")))

    assert given.labels == ASKED.labels
    assert given.port_mappings == ASKED.port_mappings
    assert given.ip_addresses == (
        IPAddress(ip_address="9.0.1.2"),
        IPAddress(protocol="IPv6", ip_address="fd01::2"),
    )
