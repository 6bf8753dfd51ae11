"""dig against the server in a namespace: the replies as an ordinary client sees them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest

SERVE = Path(__file__).parent / "dns_serve.py"
WEB = {"9.0.0.1", "9.0.0.2", "9.0.0.3"}


@dataclass
class Reply:
    """What dig printed, taken apart."""

    text: str
    status: str = field(init=False)
    flags: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.status = found(r"status: (\w+)", self.text)
        self.flags = set(found(r";; flags: ([\w ]*);", self.text).split())

    @property
    def edns(self) -> str:
        return found(r"; EDNS: (.*)", self.text)

    def section(self, name: str) -> list[list[str]]:
        """Return the lines of a section, each as its words."""
        lines = re.search(rf";; {name} SECTION:\n((?:[^\n]+\n)*)", self.text)
        return [line.split() for line in lines[1].splitlines()] if lines else []

    def values(self) -> set[str]:
        return {words[-1] for words in self.section("ANSWER")}


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


def expect(stream: IO[str], line: str) -> None:
    assert stream.readline() == f"{line}\n"


class Node:
    """A namespace with the server in it."""

    def __init__(self, ns: str, process: "subprocess.Popen[str]") -> None:
        self._ns = ns
        self._process = process

    def publish(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("publish\n")
        self._process.stdin.flush()
        expect(self._process.stdout, "published")

    def dig(self, *arguments: str) -> Reply:
        command = ["dig", "@198.51.100.1", "+tries=1", "+time=60", *arguments]
        done = subprocess.run(
            ["ip", "netns", "exec", self._ns, *command], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return Reply(done.stdout)


@pytest.fixture
def silent(ns: str) -> Iterator[Node]:
    """Yield a node whose server has seen no View yet."""
    for address in ("198.51.100.1/32", "198.51.100.2/32"):
        subprocess.run(["ip", "-n", ns, "address", "add", address, "dev", "lo"], check=True)
    with subprocess.Popen(
        ["ip", "netns", "exec", ns, sys.executable, str(SERVE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            expect(process.stdout, "serving")
            yield Node(ns, process)
        finally:
            process.stdin.close()
            process.wait(timeout=60)


@pytest.fixture
def node(silent: Node) -> Node:
    """Return a node whose server has published the cluster."""
    silent.publish()
    return silent


def test_names_answer_over_udp_and_tcp(node: Node) -> None:
    for transport in ("+notcp", "+tcp"):
        for name in ("web.marathon.mesos", "web.marathon.containerip.dcos.thisdcos.directory"):
            reply = node.dig(transport, name)

            assert (reply.status, reply.values()) == ("NOERROR", WEB)
            assert {"qr", "aa", "rd", "ra"} == reply.flags


def test_vip_answers_under_all_its_suffixes(node: Node) -> None:
    for suffix in ("l4lb.thisdcos.directory", "dclb.thisdcos.global"):
        assert node.dig(f"web.marathon.{suffix}").values() == {"11.0.0.7"}


def test_service_answers_with_addresses_beside_it(node: Node) -> None:
    reply = node.dig("_web._tcp.marathon.mesos", "SRV")

    services = reply.section("ANSWER")
    assert {tuple(words[2:7]) for words in services} == {("IN", "SRV", "0", "1", "80")}
    addresses = {words[0]: words[-1] for words in reply.section("ADDITIONAL")}
    assert addresses.keys() == {words[-1] for words in services}
    assert set(addresses.values()) == WEB


def test_case_is_kept(node: Node) -> None:
    reply = node.dig("WeB.maRathon.Mesos")

    assert {words[0] for words in reply.section("ANSWER")} == {"WeB.maRathon.Mesos."}


@pytest.mark.parametrize(
    ("question", "status"),
    [
        (("nosuch.marathon.mesos",), "NXDOMAIN"),
        (("web.marathon.mesos", "AAAA"), "NOERROR"),
        (("web.marathon.mesos", "TYPE1000"), "NOERROR"),
        (("marathon.slave.mesos",), "NOERROR"),
    ],
)
def test_denials_carry_the_apex(node: Node, question: tuple[str, ...], status: str) -> None:
    reply = node.dig(*question)

    assert (reply.status, reply.section("ANSWER")) == (status, [])
    [[owner, ttl, *_]] = reply.section("AUTHORITY")
    assert (owner, ttl) == ("mesos.", "1")


def test_edns_is_spoken(node: Node) -> None:
    assert node.dig("+norec", "+dnssec", "mesos", "SOA").edns == "version: 0, flags: do; udp: 1232"
    assert "EDNS" not in node.dig("+noedns", "mesos", "SOA").text


def test_rfc_8906_oddities(node: Node) -> None:
    version = node.dig("+edns=1", "+noednsneg", "mesos", "SOA")
    assert (version.status, version.section("ANSWER")) == ("BADVERS", [])
    assert version.edns.startswith("version: 0")

    for oddity in ("+ednsopt=100", "+ednsflags=0x80", "+cdflag", "+adflag", "+zflag", "+nocookie"):
        reply = node.dig(oddity, "mesos", "SOA")
        assert reply.status == "NOERROR"
        assert len(reply.section("ANSWER")) == 1
        assert "MBZ" not in reply.text
        assert not {"ad", "cd"} & reply.flags

    assert node.dig("+opcode=15", "+norec", "+header-only").status == "NOTIMP"
    assert node.dig("+header-only", "+nocookie").status == "FORMERR"
    assert "(good)" in found(r"; COOKIE: (.*)", node.dig("+header-only", "+cookie").text)


@pytest.mark.parametrize("size", [[], ["+bufsize=512"], ["+noedns"]])
def test_long_answer_is_cut_over_udp(node: Node, size: list[str]) -> None:
    reply = node.dig("+ignore", *size, "big.marathon.mesos")

    assert "tc" in reply.flags
    assert int(found(r"MSG SIZE\s+rcvd: (\d+)", reply.text)) <= (512 if size else 1232)


def test_client_finds_the_long_answer_over_tcp(node: Node) -> None:
    reply = node.dig("big.marathon.mesos")

    assert len(reply.values()) == 100
    assert "Truncated, retrying in TCP mode" in reply.text


def test_queries_share_a_connection(node: Node) -> None:
    reply = node.dig("+tcp", "+keepopen", "web.marathon.mesos", "leader.mesos", "ready.spartan")

    assert reply.text.count("status: NOERROR") == 3


def test_foreign_name_is_looked_up_upstream(node: Node) -> None:
    for transport in ("+notcp", "+tcp"):
        reply = node.dig(transport, "wEb.Marathon.example")

        assert (reply.status, reply.values()) == ("NOERROR", WEB)
        assert reply.flags == {"qr", "rd", "ra"}
        assert {words[0] for words in reply.section("ANSWER")} == {"wEb.Marathon.example."}
    assert node.dig("nosuch.example").status == "NXDOMAIN"


def test_long_foreign_answer_is_fetched_over_tcp(node: Node) -> None:
    assert "tc" in node.dig("+ignore", "big.marathon.example").flags
    assert len(node.dig("big.marathon.example").values()) == 100


def test_refusing_upstream_is_a_server_failure(node: Node) -> None:
    assert node.dig("www.example.com").status == "SERVFAIL"


def test_zones_wait_for_the_first_view(silent: Node) -> None:
    assert silent.dig("web.marathon.mesos").status == "SERVFAIL"
    assert silent.dig("ready.spartan").values() == {"127.0.0.1"}

    silent.publish()

    assert silent.dig("web.marathon.mesos").values() == WEB
