"""The agent's runtime side with real plugins: several networks, lists, state, and undoing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from tests.netns.cni.host import REFERENCE, Host, Json

RUNTIME = """
import asyncio, json, sys
from pathlib import Path
from phalanx.agent.cni.attach import Networks
from phalanx.agent.cni.plugin import Plugins
from phalanx.core.error import ContainerError
from phalanx.mesos.v1.codec import from_json, to_json
from phalanx.mesos.v1.mesos import NetworkInfo

async def main(verb, root, configs, path, seconds, asked):
    plugins = Plugins(tuple(map(Path, path.split(":"))), float(seconds))
    networks = Networks(Path(root), Path(configs), plugins, patience_seconds=0.2)
    if verb == "detach":
        await networks.detach("c1")
        return []
    infos = tuple(from_json(NetworkInfo, each) for each in json.loads(asked))
    return [to_json(each) for each in await networks.attach("c1", infos, "web")]

try:
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
except ContainerError as error:
    sys.exit(str(error))
"""
HANGING = "#!/bin/sh\nexec sleep 60\n"
REFUSING = """#!/bin/sh
[ $CNI_COMMAND = DEL ] && exit 0
echo '{"code":100,"msg":"no","details":"not today"}'
exit 1
"""


class Runtime:
    """An agent's networks on a node."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.root = host.directory / "state"
        self.configs = host.directory / "net.d"
        self.configs.mkdir()

    def write(self, file: str, config: Json) -> None:
        (self.configs / file).write_text(json.dumps(config))

    def add_plugin(self, name: str, text: str) -> None:
        path = self.host.plugins / name
        path.write_text(text)
        path.chmod(0o755)

    def run(
        self, verb: str, asked: Sequence[Json] = (), *, seconds: float = 20
    ) -> subprocess.CompletedProcess[str]:
        path = f"{self.host.plugins}:{REFERENCE}"
        words = (verb, self.root, self.configs, path, str(seconds), json.dumps(asked))
        command = self.host.enter(sys.executable, "-c", RUNTIME, *map(str, words))
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def attach(self, *asked: Json) -> list[Json]:
        done = self.run("attach", asked)
        assert done.returncode == 0, done.stderr
        found: list[Json] = json.loads(done.stdout.splitlines()[-1])  # after the log
        return found

    def inside(self, *command: str) -> str:
        place = f"--net={self.root}/c1/ns"
        return subprocess.run(
            ["nsenter", place, *command], check=True, capture_output=True, text=True
        ).stdout


@pytest.fixture
def runtime(host: Host) -> Iterator[Runtime]:
    with ExitStack() as stack:
        made = Runtime(host)
        stack.callback(subprocess.run, ["umount", "-l", f"{made.root}/c1/ns"], capture_output=True)
        yield made


def plain(host: Host, name: str, number: int, **more: Any) -> Json:
    return {
        "cniVersion": "0.2.0",
        "name": name,
        "type": "phalanx-bridge",
        "bridge": f"phxtestbr{number}",
        "isDefaultGateway": number == 0,
        "isGateway": True,
        "dns": {"nameservers": [f"198.51.100.{number + 1}"], "search": [f"{name}.example"]},
        "ipam": {
            "type": "phalanx-ipam",
            "dataDir": str(host.leases),
            "ranges": [[{"subnet": f"10.7{number}.0.0/24"}]],
        },
        **more,
    }


def both(host: Host) -> Json:
    """Return a list of ours and the reference's, of both families and version 1.0.0."""
    main = plain(host, "ignored", 1)
    main["ipam"]["ranges"].append([{"subnet": "fd00:71::/64"}])
    del main["cniVersion"], main["name"]
    return {
        "cniVersion": "1.0.0",
        "name": "both",
        "plugins": [
            {**main, "capabilities": {"ips": True}},
            {"type": "phalanx-portmap", "capabilities": {"portMappings": True}},
            {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_notify": "1"}},
        ],
    }


PORTS = [{"host_port": 31000, "container_port": 80, "protocol": "tcp"}]


def test_several_networks_by_conf_and_list(runtime: Runtime) -> None:
    host = runtime.host
    runtime.write("10-plain.conf", plain(host, "plain", 0))
    runtime.write("20-both.conflist", both(host))
    wished = [{"protocol": "IPv4", "ip_address": "10.71.0.9"}]

    plain_info, both_info = runtime.attach(
        {"name": "plain", "labels": {"labels": [{"key": "app", "value": "web"}]}},
        {"name": "both", "port_mappings": PORTS, "ip_addresses": wished},
    )

    found = [
        [(each["protocol"], each["ip_address"]) for each in info["ip_addresses"]]
        for info in (plain_info, both_info)
    ]
    assert found == [[("IPv4", "10.70.0.2")], [("IPv4", "10.71.0.9"), ("IPv6", "fd00:71::2")]]
    assert plain_info["labels"]["labels"][0]["value"] == "web"
    links = json.loads(runtime.inside("ip", "-j", "addr"))
    assert {link["ifname"] for link in links} == {"lo", "eth0", "eth1"}
    assert runtime.inside("sysctl", "-n", "net.ipv4.conf.eth1.arp_notify").strip() == "1"
    assert any("31000" in element for element in host.elements())

    state = runtime.root / "c1"
    assert (state / "hostname").read_text() == "web\n"
    assert (state / "hosts").read_text().endswith("10.70.0.2 web\n")
    assert (state / "resolv.conf").read_text() == (
        "search plain.example ignored.example\nnameserver 198.51.100.1\nnameserver 198.51.100.2\n"
    )
    fed = json.loads((state / "plain" / "network.conf").read_text())
    assert fed["args"]["org.apache.mesos"]["network_info"]["labels"] == plain_info["labels"]
    assert json.loads((state / "plain" / "eth0" / "network.info").read_text())["ip4"]["ip"] == (
        "10.70.0.2/24"
    )
    cached = json.loads((state / "both" / "eth1" / "network.info").read_text())
    assert [ip["address"] for ip in cached["ips"]] == ["10.71.0.9/24", "fd00:71::2/64"]

    done = runtime.run("detach")

    assert done.returncode == 0, done.stderr
    assert not list(runtime.root.iterdir())
    assert (host.held("plain"), host.held("both"), host.elements()) == ({}, {}, [])


def test_detaching_needs_neither_namespace_nor_configuration(runtime: Runtime) -> None:
    """What a reboot leaves of a state that outlives it: a plain file where a namespace was."""
    host = runtime.host
    runtime.write("both.conflist", both(host))
    runtime.attach({"name": "both", "port_mappings": PORTS})
    (runtime.configs / "both.conflist").unlink()
    subprocess.run(["umount", f"{runtime.root}/c1/ns"], check=True)

    done = runtime.run("detach")

    assert done.returncode == 0, done.stderr
    assert (host.held("both"), host.elements()) == ({}, [])
    assert not list(runtime.root.iterdir())


def test_chain_that_fails_half_way_is_undone(runtime: Runtime) -> None:
    host = runtime.host
    runtime.add_plugin("refusing", REFUSING)
    config = both(host)
    config["plugins"].append({"type": "refusing"})
    runtime.write("both.conflist", config)

    failed = runtime.run("attach", [{"name": "both", "port_mappings": PORTS}])

    assert failed.returncode == 1
    assert "refusing' failed to attach container c1 to CNI network 'both': no: not today" in (
        failed.stderr
    )
    assert runtime.run("detach").returncode == 0
    assert (host.held("both"), host.elements()) == ({}, [])


def test_plugin_that_hangs_holds_up_nothing_for_ever(runtime: Runtime) -> None:
    runtime.add_plugin("hanging", HANGING)
    runtime.write("slow.conf", {"cniVersion": "1.0.0", "name": "slow", "type": "hanging"})

    failed = runtime.run("attach", [{"name": "slow"}], seconds=0.5)

    assert "no answer in 0.5 s" in failed.stderr
    again = runtime.run("detach", seconds=0.5)
    assert again.returncode == 1  # the plugin may have made something: it is asked until it answers
    assert (runtime.root / "c1").exists()
    runtime.add_plugin("hanging", "#!/bin/sh\n")
    assert runtime.run("detach").returncode == 0
    assert not os.listdir(runtime.root)


def test_bad_file_hides_no_other_network(runtime: Runtime) -> None:
    runtime.write("plain.conf", plain(runtime.host, "plain", 0))
    (runtime.configs / "05-broken.conf").write_text("{")

    assert runtime.attach({"name": "plain"})[0]["name"] == "plain"
    unknown = runtime.run("attach", [{"name": "nowhere"}])
    assert "Unknown CNI network 'nowhere'" in unknown.stderr
    assert runtime.run("detach").returncode == 0
