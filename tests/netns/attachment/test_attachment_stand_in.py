"""Plugins on a node whose plane is gone: the same results, as long as its walls stand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from tests.netns.attachment.test_attachment_executable import Node, ipam_config, ping

from phalanx.labs.wait import wait_until
from phalanx.net.attachment.bridge import leased_networks
from phalanx.net.attachment.standin import StandIn, save_stand_in
from phalanx.net.feed.record import Numbered, Position
from phalanx.net.isolation.layout import ISOLATION
from phalanx.net.model.objects import Network, SubnetLease
from phalanx.net.model.view import View
from phalanx.plane.last_view import LastView

NODE = IPv4Address("198.18.0.2")
VIEW = View().changed(
    [
        Network("dcos", IPv4Network("9.0.0.0/8"), 24, 1024, 1450),
        SubnetLease("dcos", NODE, IPv4Network("9.0.1.0/24")),
    ]
)
WALLS = f"""
table inet {ISOLATION.table} {{
  set networks4 {{ type ipv4_addr; flags interval; elements = {{ 9.0.0.0/8, 10.9.0.0/16 }}; }}
}}
"""


@pytest.fixture
def node(ns: str, tmp_path: Path) -> Iterator[Node]:
    """Yield a node whose plane left word and walls."""
    with ExitStack() as stack:
        node = Node(ns, tmp_path, stack)
        subprocess.run(node.enter("nft", "-f", "-"), input=WALLS.encode(), check=True)
        networks = dict(leased_networks(VIEW, node=NODE))
        save_stand_in(node.socket, StandIn(str(node.leases), ISOLATION.table, networks))
        yield node


def test_results_are_the_same_without_the_plane(node: Node) -> None:
    node.start_plane()
    first, second, third, fourth = (node.container() for _ in range(4))
    by_plane = node.run("ADD", first)
    node.stop_plane(signal.SIGKILL)

    alone = node.run("ADD", second)
    beside = ipam_config(node, "phalanx-bridge", ipMasq=True)
    other = node.run("ADD", third, plugin="phalanx-bridge", **beside)

    assert (alone.status, other.status) == (0, 0), (alone.output, other.output)
    assert [alone.address, other.address] == ["9.0.1.3/24", "9.0.1.4/24"]
    changing = ("ips", "interfaces")
    assert {key: value for key, value in alone.output.items() if key not in changing} == {
        key: value for key, value in by_plane.output.items() if key not in changing
    }
    assert ping(second, "9.0.1.2")
    for container, result, plugin, config in (
        (second, alone, "phalanx-net", {}),
        (third, other, "phalanx-bridge", beside),
    ):
        more = {**config, "prevResult": result.output}
        done = node.run("CHECK", container, plugin=plugin, **more)
        assert done.status == 0, done.output
    for plugin, config in (("phalanx-net", {}), ("phalanx-bridge", beside)):
        done = node.run("STATUS", version="1.1.0", plugin=plugin, **config)
        assert done.status == 0, done.output

    node.start_plane()
    assert node.held() == {"9.0.1.2", "9.0.1.3", "9.0.1.4"}
    assert node.run("ADD", fourth).address == "9.0.1.5/24"
    node.stop_plane(signal.SIGKILL)
    for container in (first, second, fourth):
        assert node.run("DEL", container).status == 0
        assert node.run("DEL", container).status == 0
    assert node.run("DEL", third, plugin="phalanx-bridge", **beside).status == 0
    assert node.held() == set()


def test_gc_without_the_plane_keeps_the_valid(node: Node) -> None:
    node.start_plane()
    kept, forgotten = node.container(), node.container()
    for container in (kept, forgotten):
        assert node.run("ADD", container).status == 0
    node.stop_plane(signal.SIGKILL)

    valid: dict[str, Any] = {"cni.dev/valid-attachments": [{"containerID": kept, "ifname": "eth0"}]}
    assert node.run("GC", version="1.1.0", **valid).status == 0

    assert node.held() == {"9.0.1.2"}
    assert ping(kept, "9.0.1.1")
    assert node.run("DEL", kept).status == 0


INSTEAD = {"network": "", "neighbour-before": "8.0.0.0/8", "part": "9.0.0.0/9", "more": "8.0.0.0/7"}


@pytest.mark.parametrize("lacks", ["table", *INSTEAD, "word", "sense"])
def test_nobody_is_let_in_where_no_walls_stand(node: Node, lacks: str) -> None:
    """After a reboot or a flush of all tables, or with what another release left."""
    left = node.socket.with_name(node.socket.name + ".json")
    match lacks:
        case "table":
            subprocess.run(node.enter("nft", "flush", "ruleset"), check=True)
        case _ if lacks in INSTEAD:
            where = f"element inet {ISOLATION.table} networks4"
            change = f"delete {where} {{ 9.0.0.0/8 }}"
            if other_prefix := INSTEAD[lacks]:
                change += f"; add {where} {{ {other_prefix} }}"
            subprocess.run(node.enter("nft", change), check=True)
        case "word":
            left.unlink()
        case _:
            left.write_text('{"interpreter": "/bin/sh"')
    container = node.container()

    refused = node.run("ADD", container)
    other = node.run(
        "ADD", container, plugin="phalanx-bridge", **ipam_config(node, "phalanx-bridge")
    )

    assert (refused.output["code"], other.output["code"]) == (11, 11), (
        refused.output,
        other.output,
    )
    assert "no plane listens" in refused.output["msg"]
    assert "no plane listens" in other.output["msg"]
    assert node.run("STATUS", version="1.1.0").output["code"] in (11, 50)
    assert node.held() == set()
    assert node.links() - {"phxtestbr"} == {"lo"}


def test_walls_that_touch_are_told_apart(node: Node) -> None:
    """Where one network's prefix ends, another's begins, on both sides."""
    where = f"element inet {ISOLATION.table} networks4"
    subprocess.run(node.enter("nft", f"add {where} {{ 8.0.0.0/8, 10.0.0.0/16 }}"), check=True)

    assert node.run("ADD", node.container()).address == "9.0.1.2/24"


def test_what_a_real_plane_leaves_serves_its_plugins(ns: str, tmp_path: Path) -> None:
    """A plane with its last View on disk and nobody to hear, killed when its walls stand."""
    LastView(tmp_path / "view.json").save(Numbered(Position("e", 1), VIEW))
    with ExitStack() as stack:
        node = Node(ns, tmp_path, stack)
        for command in (
            "ip link set lo up",
            "ip link add under type veth peer name under2",
            "ip addr add 198.18.0.2/24 dev under",
            "ip link set under up",
        ):
            subprocess.run(node.enter(*command.split()), check=True)
        left = node.socket.with_name(node.socket.name + ".json")
        with (tmp_path / "plane.log").open("wb") as log:
            plane = subprocess.Popen(
                node.enter(
                    sys.executable, "-m", "phalanx.cli.main", "plane",
                    f"--ip={NODE}", "--source=http://127.0.0.1:1", "--upstreams=",
                    "--lb=nftables", f"--state-dir={tmp_path}", f"--socket={tmp_path}/plane.sock",
                    f"--cni-socket={node.socket}", f"--cni-config-dir={tmp_path}/net.d",
                ),
                stdout=log, stderr=log, env={**os.environ, "HOME": str(tmp_path)},
            )  # fmt: skip
        stack.callback(plane.wait)
        stack.callback(plane.kill)
        is_left = wait_until(lambda: left.exists() and node.socket.exists(), seconds=60)
        assert is_left, (tmp_path / "plane.log").read_text()
        first, second = node.container(), node.container()
        assert node.run("ADD", first).address == "9.0.1.2/24", (tmp_path / "plane.log").read_text()
        config = json.loads((tmp_path / "net.d" / "dcos.conf").read_text())
        plane.kill()
        plane.wait()

        alone = node.run("ADD", second, **{key: config[key] for key in ("capabilities", "socket")})

        assert alone.status == 0, alone.output
        assert alone.address == "9.0.1.3/24"
        assert ping(second, "9.0.1.2")
        subprocess.run(node.enter("nft", "flush", "ruleset"), check=True)
        assert node.run("ADD", node.container()).output["code"] == 11
        for container in (first, second):
            assert node.run("DEL", container).status == 0
        assert node.held() == set()
