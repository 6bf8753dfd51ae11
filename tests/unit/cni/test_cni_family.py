"""What every plugin of the family says to wrong environments and configurations."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from phalanx.cni.install import BEHIND_QUICK, FAMILY, install
from phalanx.cni.results import downward, upward

GOOD = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/phxtest-none",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "testnet", "type": "x"}
PREVIOUS = {
    "interfaces": [{"name": "br0"}, {"name": "veth0"}, {"name": "eth0", "sandbox": "/x"}],
    "ips": [{"address": "10.1.0.2/16", "interface": 2}],
}


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bin")
    install(directory)
    return directory


def call(plugin: Path, environ: Mapping[str, str], config: object) -> tuple[int, dict[str, Any]]:
    raw = config if isinstance(config, bytes) else json.dumps(config).encode()
    done = subprocess.run([plugin], env=dict(environ), input=raw, capture_output=True, timeout=30)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


@pytest.mark.parametrize("plugin", FAMILY)
@pytest.mark.parametrize(
    ("environ", "config", "code"),
    [
        pytest.param({"CNI_CONTAINERID": ""}, CONFIG, 4, id="no container"),
        pytest.param({"CNI_CONTAINERID": "-c"}, CONFIG, 4, id="bad container"),
        pytest.param({"CNI_IFNAME": ""}, CONFIG, 4, id="no interface"),
        pytest.param({"CNI_IFNAME": "a/b"}, CONFIG, 4, id="bad interface"),
        pytest.param({"CNI_IFNAME": "a" * 16}, CONFIG, 4, id="long interface"),
        pytest.param({"CNI_NETNS": ""}, CONFIG, 4, id="no netns"),
        pytest.param({"CNI_PATH": ""}, CONFIG, 4, id="no path"),
        pytest.param({"CNI_COMMAND": "NONE"}, CONFIG, 4, id="unknown command"),
        pytest.param({"CNI_COMMAND": ""}, CONFIG, 4, id="no command"),
        pytest.param({"CNI_ARGS": "a"}, CONFIG, 4, id="args without value"),
        pytest.param({"CNI_ARGS": "a=b=c"}, CONFIG, 4, id="args of three"),
        pytest.param({}, b"{", 6, id="no JSON"),
        pytest.param({}, b"[]", 6, id="no object"),
        pytest.param({}, {**CONFIG, "cniVersion": "9.0.0"}, 1, id="unknown version"),
        pytest.param({}, {**CONFIG, "cniVersion": 1}, 1, id="version of no text"),
        pytest.param({}, {**CONFIG, "name": ""}, 7, id="no name"),
        pytest.param({}, {**CONFIG, "name": "a b"}, 7, id="bad name"),
        pytest.param({}, {**CONFIG, "prevResult": []}, 7, id="prevResult of no object"),
        pytest.param({}, {**CONFIG, "runtimeConfig": 1}, 7, id="runtimeConfig of no object"),
        pytest.param({}, {**CONFIG, "args": {"cni": 1}}, 7, id="args.cni of no object"),
        pytest.param(
            {"CNI_COMMAND": "CHECK"}, {**CONFIG, "cniVersion": "0.3.1"}, 1, id="CHECK too old"
        ),
        pytest.param({"CNI_COMMAND": "GC"}, {**CONFIG, "cniVersion": "1.0.0"}, 1, id="GC too old"),
        pytest.param({"CNI_NETNS": "/proc/self/ns/net"}, CONFIG, 8, id="own netns"),
    ],
)
def test_codes_of_all(
    plugins: Path, plugin: str, environ: Mapping[str, str], config: object, code: int
) -> None:
    status, output = call(plugins / plugin, {**GOOD, **environ}, config)

    assert (status, output["code"]) == (1, code)
    assert output["msg"]
    assert output["cniVersion"]


IPAM = {"type": "phalanx-ipam", "subnet": "10.1.0.0/16"}


@pytest.mark.parametrize(
    ("plugin", "config", "code"),
    [
        ("phalanx-bridge", {"hairpinMode": True, "promiscMode": True}, 7),
        ("phalanx-bridge", {"isGateway": "perhaps"}, 7),
        ("phalanx-bridge", {"mtu": -1}, 7),
        ("phalanx-bridge", {"mtu": "1500"}, 7),
        ("phalanx-bridge", {"vlan": 4095}, 7),
        ("phalanx-bridge", {"vlan": 5, "vlanTrunk": [{"id": 7}]}, 7),
        ("phalanx-bridge", {"vlan": 4094, "bridge": "elevenletters", "isGateway": True}, 7),
        *(
            ("phalanx-bridge", {"vlanTrunk": trunk}, 7)
            for trunk in (
                7,
                [7],
                [{"id": 4095}],
                [{"minID": 1}],
                [{"maxID": 1}],
                [{"minID": 9, "maxID": 8}],
                [{"minID": 0, "maxID": 8}],
            )
        ),
        ("phalanx-bridge", {"runtimeConfig": {"mac": "01:00:00:00:00:01"}}, 7),
        ("phalanx-bridge", {"runtimeConfig": {"mac": "nonsense"}}, 7),
        ("phalanx-bridge", {"ipam": IPAM, "disableContainerInterface": True}, 7),
        ("phalanx-bridge", {"ipam": IPAM, "ingressPolicy": "closed"}, 7),
        ("phalanx-bridge", {}, 8),
        ("phalanx-ipam", {}, 7),
        ("phalanx-ipam", {"ipam": {"type": "phalanx-ipam"}}, 7),
        ("phalanx-ipam", {"ipam": {"subnet": "10.1.0.1/16"}}, 7),
        ("phalanx-ipam", {"ipam": {"subnet": "10.1.0.0/31"}}, 7),
        ("phalanx-ipam", {"ipam": {"subnet": "none"}}, 7),
        ("phalanx-ipam", {"ipam": {"ranges": [[]]}}, 7),
        ("phalanx-ipam", {"ipam": {"ranges": "10.1.0.0/16"}}, 7),
        ("phalanx-ipam", {"ipam": {**IPAM, "rangeStart": "10.2.0.1"}}, 7),
        ("phalanx-ipam", {"ipam": {**IPAM, "gateway": "10.2.0.1"}}, 7),
        ("phalanx-ipam", {"ipam": {**IPAM, "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}}, 7),
        ("phalanx-ipam", {"ipam": {**IPAM, "routes": [{"dst": "x"}]}}, 7),
        ("phalanx-ipam", {"ipam": {**IPAM, "ranges": [[{"subnet": "10.1.1.0/24"}]]}}, 7),
        (
            "phalanx-ipam",
            {"ipam": {"ranges": [[{"subnet": "10.1.1.0/24"}, {"subnet": "fd00::/64"}]]}},
            7,
        ),
        (
            "phalanx-ipam",
            {
                "cniVersion": "0.2.0",
                "ipam": {"ranges": [[{"subnet": "10.1.1.0/24"}], [{"subnet": "10.2.1.0/24"}]]},
            },
            7,
        ),
        ("phalanx-portmap", {}, 7),
        *(
            (
                "phalanx-portmap",
                {"prevResult": PREVIOUS, "runtimeConfig": {"portMappings": mappings}},
                7,
            )
            for mappings in (
                1,
                [1],
                [{"hostPort": 70000, "containerPort": 1}],
                [{"hostPort": 1, "containerPort": 0}],
                [{"hostPort": 1, "containerPort": 1, "protocol": "icmp"}],
                [{"hostPort": 1, "containerPort": 1, "hostIP": "x"}],
            )
        ),
        *(
            ("phalanx-portmap", {"prevResult": PREVIOUS, **options}, 7)
            for options in (
                {"conditionsV4": "-s 10.0.0.0/8"},
                {"conditionsV4": [7]},
                {"conditionsV6": ["ip6 saddr fd00::1 ; drop"]},
                {"conditionsV6": ["ip6 saddr fd00::1\naccept"]},
                {"markMasqBit": 32},
                {"markMasqBit": "13"},
                {"externalSetMarkChain": 7},
                {"markMasqBit": 13, "externalSetMarkChain": "KUBE-MARK-MASQ"},
            )
        ),
        ("phalanx-bandwidth", {}, 7),
        *(
            ("phalanx-bandwidth", {"prevResult": PREVIOUS, **limit}, 7)
            for limit in (
                {"ingressRate": 8000},
                {"egressBurst": 8000},
                {"ingressRate": "fast", "ingressBurst": 8000},
                {"ingressRate": 8000, "ingressBurst": 1 << 40},
                {"ingressRate": 1, "ingressBurst": 8000},
                {"ingressRate": 8000, "ingressBurst": 8000},
                {"runtimeConfig": {"bandwidth": {"egressRate": 8000}}},
            )
        ),
        ("phalanx-isolation", {}, 7),
        ("phalanx-isolation", {"prevResult": PREVIOUS, "ingressPolicy": "closed"}, 7),
    ],
)
def test_codes_of_each(plugins: Path, plugin: str, config: dict[str, Any], code: int) -> None:
    status, output = call(plugins / plugin, GOOD, {**CONFIG, **config})

    assert (status, output["code"]) == (1, code), output


@pytest.mark.parametrize("key", ["shapedSubnets", "unshapedSubnets"])
def test_field_that_is_not_supported_is_named_with_its_value(plugins: Path, key: str) -> None:
    config = {**CONFIG, "prevResult": PREVIOUS, key: ["10.0.0.0/8"]}

    status, output = call(plugins / "phalanx-bandwidth", GOOD, config)

    assert (status, output["code"]) == (1, 2), output
    assert f"{key}: ['10.0.0.0/8'] " in output["msg"]


@pytest.mark.parametrize("plugin", FAMILY)
def test_version_and_about(plugins: Path, plugin: str) -> None:
    status, output = call(plugins / plugin, {"CNI_COMMAND": "VERSION"}, b"")
    silent = subprocess.run([plugins / plugin], env={}, capture_output=True, timeout=30)

    assert status == 0
    assert output["supportedVersions"][-1] == "1.1.0"
    assert silent.returncode == 0
    assert plugin in silent.stderr.decode()


@pytest.mark.parametrize("plugin", FAMILY)
def test_few_modules_are_loaded(plugins: Path, plugin: str) -> None:
    path = plugins / plugin
    path = BEHIND_QUICK if "perl" in path.read_text().splitlines()[0] else path
    interpreter = path.read_text().splitlines()[0].split()[0][2:]
    done = subprocess.run(
        [interpreter, "-ISX", "importtime", path],
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = {row.rsplit("|", 1)[1].strip() for row in done.stderr.splitlines() if "|" in row}

    assert modules.isdisjoint(
        {
            "json",
            "os",
            "re",
            "socket",
            "struct",
            "typing",
            "enum",
            "ipaddress",
            "pathlib",
            "subprocess",
        }
    )


NEWEST: dict[str, object] = {
    "interfaces": [{"name": "eth0", "mac": "0a:58:0a:01:00:02", "mtu": 1500, "sandbox": "/x"}],
    "ips": [
        {"address": "10.1.0.2/16", "gateway": "10.1.0.1", "interface": 0},
        {"address": "fd00::2/64", "interface": 0},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1400}, {"dst": "::/0"}],
    "dns": {"nameservers": ["10.1.0.1"]},
}


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_result_of_each_version_comes_back_as_it_was(version: str) -> None:
    there = downward(NEWEST, version)
    back = upward(there)

    assert there["cniVersion"] == version
    assert downward(back, version) == there
    assert back["ips"] == NEWEST["ips"]
    if version == "1.1.0":
        assert back == NEWEST


def test_result_of_the_oldest_versions() -> None:
    assert downward(NEWEST, "0.2.0") == {
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.1.0.2/16",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        },
        "ip6": {"ip": "fd00::2/64", "routes": [{"dst": "::/0"}]},
        "dns": {"nameservers": ["10.1.0.1"]},
    }
