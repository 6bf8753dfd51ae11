"""The wire's JSON becomes values at the door, or a refusal with the right code."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from phalanx.net.attachment.bridge import LeasedSubnet
from phalanx.net.attachment.error import CniError, Code
from phalanx.net.attachment.ports import PortMapping
from phalanx.net.attachment.request import Command, parse_network, parse_request
from phalanx.net.ipam.owner import Owner

MESOS_PORTS = {
    "args": {
        "org.apache.mesos": {
            "network_info": {"port_mappings": [{"host_port": 80, "container_port": 8080}]}
        }
    }
}


def wire(command: str = "ADD", *, config: object = None, **fields: object) -> dict[str, Any]:
    full = {"cniVersion": "1.0.0", "name": "dcos", "type": "phalanx-net"}
    return {
        "command": command,
        "container_id": "c1",
        "ifname": "eth0",
        "netns": "/run/netns/c1",
        "config": {**full, **config} if isinstance(config, dict) else full,
        **fields,
    }


def test_request_has_what_was_sent() -> None:
    request = parse_request(wire(netns_handle="/proc/7/fd/3"))

    assert request.command is Command.ADD
    assert (request.network, request.version) == ("dcos", "1.0.0")
    assert request.owner == Owner("c1", "eth0")
    assert request.netns_paths == ("/proc/7/fd/3", "/run/netns/c1")


def test_missing_version_is_the_oldest() -> None:
    assert parse_request({**wire(), "config": {"name": "dcos"}}).version == "0.1.0"


@pytest.mark.parametrize(
    ("raw", "code", "words"),
    [
        pytest.param([], Code.BAD_ENCODING, "request", id="no-object"),
        pytest.param({"command": "ADD"}, Code.BAD_ENCODING, "config", id="no-config"),
        pytest.param(wire("VERSION"), Code.BAD_ENVIRONMENT, "'VERSION'", id="not-a-wire-command"),
        pytest.param(wire(config={"name": None}), Code.BAD_CONFIG, "name", id="no-name"),
        pytest.param(wire(config={"name": "../x"}), Code.BAD_CONFIG, "'../x'", id="name-a-path"),
        pytest.param(
            wire(config={"cniVersion": "9.0.0"}),
            Code.INCOMPATIBLE_VERSION,
            "'9.0.0'",
            id="version",
        ),
        pytest.param(wire(container_id=7), Code.BAD_ENCODING, "container_id", id="id-a-number"),
        pytest.param(wire(container_id=""), Code.BAD_ENVIRONMENT, "CONTAINERID", id="no-id"),
        pytest.param(wire(container_id="a/b"), Code.BAD_ENVIRONMENT, "'a/b'", id="id-a-path"),
        pytest.param(wire(ifname="e" * 16), Code.BAD_ENVIRONMENT, "IFNAME", id="long-ifname"),
        pytest.param(wire(ifname="e 0"), Code.BAD_ENVIRONMENT, "IFNAME", id="space-in-ifname"),
        pytest.param(wire(args="A"), Code.BAD_ENVIRONMENT, "CNI_ARGS", id="args-without-value"),
        pytest.param(wire(args="A=b=c"), Code.BAD_ENVIRONMENT, "CNI_ARGS", id="args-two-values"),
        pytest.param(wire(args="IP=x"), Code.BAD_CONFIG, "ips", id="requested-no-address"),
        pytest.param(wire(args="MAC=01:00:5e:00:00:01"), Code.BAD_CONFIG, "mac", id="mac"),
        pytest.param(wire(config={"args": []}), Code.BAD_CONFIG, "args", id="args-no-object"),
        pytest.param(
            wire(config={"runtimeConfig": {"ips": ["9.0.1.5/24", "9.0.1.6/24"]}}),
            Code.UNSUPPORTED_FIELD,
            "one address of a family",
            id="two-addresses",
        ),
        pytest.param(
            wire(config={"runtimeConfig": {"ips": "9.0.1.5"}}), Code.BAD_CONFIG, "ips", id="no-list"
        ),
        pytest.param(
            wire(config={"runtimeConfig": {"portMappings": [{"hostPort": 1}]}}),
            Code.BAD_CONFIG,
            "containerPort",
            id="port-mappings-of-the-runtime",
        ),
        pytest.param(
            wire(
                config={
                    "args": {
                        "org.apache.mesos": {"network_info": {"port_mappings": [{"host_port": 1}]}}
                    }
                }
            ),
            Code.BAD_CONFIG,
            "container_port",
            id="port-mappings-of-mesos",
        ),
        pytest.param(wire("CHECK"), Code.BAD_CONFIG, "prevResult", id="check-without-result"),
        pytest.param(
            wire("CHECK", config={"prevResult": {"ips": 5}}),
            Code.BAD_CONFIG,
            "prevResult",
            id="check-with-nonsense",
        ),
        pytest.param(
            wire("GC", config={"cni.dev/valid-attachments": [{"containerID": "a"}]}),
            Code.BAD_CONFIG,
            "valid-attachments",
            id="gc-without-ifname",
        ),
    ],
)
def test_bad_request_is_refused_with_its_code(raw: object, code: Code, words: str) -> None:
    with pytest.raises(CniError, match=words) as caught:
        parse_request(raw)

    assert caught.value.code is code


@pytest.mark.parametrize(
    "extra",
    [
        {"args": "IgnoreUnknown=1;K8S_POD=x;IP=9.0.1.9"},
        {"config": {"args": {"cni": {"ips": ["9.0.1.9/24"]}}}},
        {"config": {"runtimeConfig": {"ips": ["9.0.1.9"]}}, "args": "IP=9.0.1.8"},
    ],
    ids=["CNI_ARGS", "args.cni.ips", "runtimeConfig-first"],
)
def test_requested_address_is_found_wherever_it_stands(extra: dict[str, Any]) -> None:
    assert parse_request(wire(**extra)).wishes.addresses == (IPv4Address("9.0.1.9"),)


def test_empty_port_mappings_are_none() -> None:
    config = {
        "runtimeConfig": {"portMappings": []},
        "args": {"org.apache.mesos": {"network_info": {"name": "dcos", "port_mappings": []}}},
    }

    assert tuple(parse_request(wire(config=config)).ports) == ()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 8080}]}},
            (PortMapping(80, 8080),),
        ),
        (
            {
                "runtimeConfig": {
                    "portMappings": [
                        {"hostPort": 0, "containerPort": 1},
                        {
                            "hostPort": 53,
                            "containerPort": 5353,
                            "protocol": "UDP",
                            "hostIP": "198.18.0.1",
                        },
                    ]
                }
            },
            (PortMapping(53, 5353, "udp", IPv4Address("198.18.0.1")),),
        ),
        (MESOS_PORTS, (PortMapping(80, 8080),)),
        ({"capabilities": {"portMappings": True}, **MESOS_PORTS}, ()),
    ],
    ids=["runtime", "all-fields", "mesos", "mesos-in-a-chain"],
)
def test_port_mappings_are_found(config: dict[str, Any], expected: tuple[PortMapping, ...]) -> None:
    assert tuple(parse_request(wire(config=config)).ports) == expected


def test_port_mappings_do_not_hinder_a_removal() -> None:
    config = {"runtimeConfig": {"portMappings": [{"hostPort": 1}]}}

    assert parse_request(wire("DEL", config=config)).command is Command.DEL


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_valid_attachments_are_owners(key: str) -> None:
    config = {key: [{"containerID": "a", "ifname": "eth0"}]}

    assert parse_request(wire("GC", config=config)).valid == {Owner("a", "eth0")}


def test_previous_result_gives_its_addresses() -> None:
    config = {"prevResult": {"ip4": {"ip": "9.0.1.2/24"}}}

    assert parse_request(wire("CHECK", config=config)).previous == (IPv4Interface("9.0.1.2/24"),)


def test_config_without_subnet_describes_no_network() -> None:
    assert parse_network({"name": "x"}) is None


def test_config_describes_a_network() -> None:
    network = parse_network(
        {"name": "x", "subnet": "10.7.0.0/24", "gateway": "10.7.0.9", "mtu": 1400, "vni": 7}
    )

    assert network is not None
    assert (network.vni, network.mtu) == (7, 1400)
    subnet = IPv4Network("10.7.0.0/24")
    assert network.subnets == (LeasedSubnet(subnet, subnet, IPv4Address("10.7.0.9")),)


def test_network_without_a_number_gets_one_from_its_name() -> None:
    networks = [parse_network({"name": name, "subnet": "10.7.0.0/24"}) for name in "xy"]

    numbers = {network.vni for network in networks if network is not None}

    assert len(numbers) == 2
    assert all(0x800000 <= number <= 0xFFFFFF for number in numbers)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"subnet": "10.7.0.1/24"}, "host bits"),
        ({"subnet": 7.5}, "subnet"),
        ({"gateway": "10.8.0.1"}, "is not in"),
        ({"mtu": "big"}, "mtu: 'big'"),
        ({"vni": 1 << 24}, "vni"),
        ({"vni": True}, "vni"),
    ],
)
def test_bad_description_of_a_network_is_refused(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(CniError, match=words) as caught:
        parse_network({"name": "x", "subnet": "10.7.0.0/24", **extra})

    assert caught.value.code is Code.BAD_CONFIG
