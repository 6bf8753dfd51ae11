"""A plane that is killed in the middle of a command, at every step: nothing is left, none twice."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.netns.attachment.test_attachment_executable import Node, ip, ping

# Calls by which a plane changes something, or is about to.
STEPS = ("sendto", "rename", "link", "unlink", "setns", "ftruncate", "flock")
NEXT = ("ADD", "DEL", "GC")  # what the runtime does then, in turns


@pytest.fixture
def node(ns: str, tmp_path: Path) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(ns, tmp_path, stack)


@contextmanager
def killed_in(node: Node, step: str, number: int) -> Iterator[None]:
    """Let the plane be killed in one of its calls, counted in each thread from 1."""
    assert node.plane is not None
    tasks = Path("/proc", str(node.plane.pid), "task")
    tracer = subprocess.Popen(
        [
            "strace", "-f", "-qq", "-o", "/dev/null", "-p", str(node.plane.pid),
            "-e", f"trace={step}", "-e", f"inject={step}:signal=KILL:when={number}",
        ]
    )  # fmt: skip
    try:
        while any("TracerPid:\t0" in (task / "status").read_text() for task in tasks.iterdir()):
            assert tracer.poll() is None
        yield
    finally:
        tracer.kill()  # a plane that lives goes on by itself
        tracer.wait(timeout=20)


def remains(node: Node, container: str) -> list[object]:
    """Return everything that an attachment leaves on a node and in its container."""
    kept = Path("/run/phalanx/cni")
    listing = subprocess.run(
        node.enter("nft", "list", "ruleset"), check=True, capture_output=True, text=True
    ).stdout
    return [
        node.held(),
        [link for link in node.links() if link.startswith("phxv")],
        [line for line in ip("-n", container, "-o", "link").splitlines() if "eth0" in line],
        f"{container}:eth0" in listing,
        [path for path in kept.glob("*/dcos/*") if container in path.read_text()],
    ]


NOTHING: list[object] = [set(), [], [], False, []]


@pytest.mark.parametrize("dies", ["ADD", "DEL"])
def test_plane_killed_at_any_step_leaves_nothing_and_gives_no_address_twice(
    node: Node, dies: str
) -> None:
    one, other = node.container(), node.container()
    ports = {"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}}
    node.start_plane()
    assert node.run("ADD", one, runtimeConfig=ports["runtimeConfig"]).status == 0
    assert node.run("DEL", one).status == 0
    kills = 0
    for step in STEPS:
        for number in count(1):
            where = f"{step} {number}"
            if dies == "DEL":
                assert node.run("ADD", one, runtimeConfig=ports["runtimeConfig"]).status == 0
            with killed_in(node, step, number):
                first = node.run(dies, one, runtimeConfig=ports["runtimeConfig"])
            if first.status == 0:  # so many of these calls there are not
                assert node.run("DEL", one).status == 0
                assert remains(node, one) == NOTHING, where
                break
            assert "the plane went away" in first.output["msg"], (where, first.output)
            kills += 1
            assert node.stop_plane(signal.SIGKILL) == -signal.SIGKILL
            node.start_plane()
            then = NEXT[kills % len(NEXT)]
            second = node.run("ADD", other)
            assert second.status == 0, (where, second.output)
            if then == "ADD":
                again = node.run("ADD", one, runtimeConfig=ports["runtimeConfig"])
                if again.status:  # it was whole, and its runtime was not told
                    assert again.output["code"] == 101, (where, again.output)
                else:
                    assert again.address != second.address, where
                    assert ping(one, "9.0.1.1"), where
                    assert ping(one, second.address.partition("/")[0]), where
            elif then == "GC":
                valid: dict[str, Any] = {
                    "cni.dev/valid-attachments": [{"containerID": other, "ifname": "eth0"}]
                }
                found = node.run("GC", version="1.1.0", **valid)
                assert found.status == 0, (where, found.output)
                assert len(node.held()) == 1, where
            for container in (one, other):
                assert node.run("DEL", container).status == 0, where
            for container in (one, other):
                assert remains(node, container) == NOTHING, where
    assert kills >= (5 if dies == "DEL" else 10), kills
