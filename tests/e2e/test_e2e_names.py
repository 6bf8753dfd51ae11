"""Ordinary clients find an app by its names, from a node and from a container."""

import sys
from collections.abc import Sequence
from functools import partial
from subprocess import CompletedProcess

import pytest

from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.demo.proof import until

VIP = "web.marathon.l4lb.thisdcos.directory"
TASK = "web.marathon.mesos"
ZOOKEEPER = "/usr/share/java/zookeeper.jar:/usr/share/java/*"

PYTHON = "import socket,sys; print(socket.getaddrinfo(sys.argv[1], 80, 0, 1)[0][4][0])"
# Both families at once from one port to every server, as musl's resolver asks.
PARALLEL = """
import socket, sys
from dnslib import DNSRecord, QTYPE
servers = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(5)
asked = {}
for kind in ("A", "AAAA"):
    query = DNSRecord.question(sys.argv[1], kind)
    asked[query.header.id] = kind
    for server in servers:
        sock.sendto(bytes(query.pack()), (server, 53))
while asked:
    raw, _ = sock.recvfrom(4096)
    reply = DNSRecord.parse(raw)
    if asked.pop(reply.header.id, None):
        assert reply.header.rcode == 0, reply
        for each in reply.rr:
            print(each.rdata)
"""


def words_of(client: str, name: str) -> Sequence[str]:
    return {
        "dig": ["dig", "+short", "+search", name],
        "getent": ["getent", "ahosts", name],
        "curl": ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{remote_ip}", name],
        "python": [sys.executable, "-c", PYTHON, name],
        "two-at-once": [sys.executable, "-c", PARALLEL, name],
    }[client]


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Cluster:
    """Return the lab with the app running, its VIP known to every node."""
    cluster.deploy("web")
    cluster.await_app("web", 3)
    for node in ("a1", "a2"):
        until(partial(_first, cluster, node), seconds=30, what=f"{VIP} on {node}")
        until(partial(_page, cluster, node), seconds=30, what=f"{VIP} serves {node}")
    return cluster


@pytest.mark.parametrize("where", ["node", "container"])
@pytest.mark.parametrize("client", ["dig", "getent", "curl", "python", "two-at-once"])
def test_client_finds_the_vip(web: Cluster, client: str, where: str) -> None:
    [address] = web.dig("a1", VIP)

    done = _run(web, where, words_of(client, VIP))

    assert done.returncode == 0, done.stderr
    assert address in done.stdout.split()


@pytest.mark.parametrize("where", ["node", "container"])
def test_java_finds_the_vip_and_says_so_of_a_name_that_is_not_there(
    web: Cluster, where: str
) -> None:
    def connect(name: str) -> str:
        main = "org.apache.zookeeper.client.FourLetterWordMain"
        done = _run(web, where, ["java", "-cp", ZOOKEEPER, main, name, "80", "ruok"])
        return done.stdout + done.stderr

    assert "UnknownHostException" not in connect(VIP)
    assert "UnknownHostException" in connect(f"nosuch.{VIP}")


def test_command_says_which_task_is_behind_a_name(web: Cluster) -> None:
    done = web.on("a1", sys.executable, "-Im", "phalanx.cli.main", "resolve", TASK, "--trace")

    assert done.returncode == 0, done.stderr
    for instance in web.instances("web"):
        [line] = [line for line in done.stdout.splitlines() if instance.address in line]
        assert instance.task_id in line
        assert "state running" in line


def test_command_ends_with_an_error_for_a_name_that_is_not_there(web: Cluster) -> None:
    done = web.on("a1", sys.executable, "-Im", "phalanx.cli.main", "resolve", "nosuch.mesos")

    assert done.returncode == 1
    assert "no such name" in done.stdout


def _run(web: Cluster, where: str, words: Sequence[str]) -> CompletedProcess[str]:
    if where == "node":
        return web.on("a1", *words)
    return web.inside(web.instances("web")[0], *words)


def _page(cluster: Cluster, node: str) -> str | None:
    return next(iter(cluster.curl(node, f"http://{VIP}/")), None)


def _first(cluster: Cluster, node: str) -> str | None:
    return next(iter(cluster.dig(node, VIP)), None)
