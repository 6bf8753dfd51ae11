"""Which namespace has an address, and whether a packet is seen there, as the kernel has it."""

import fcntl
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.netns import call_in
from phalanx.net.isolation.witness import arrived, open_watch

FOUR, SIX = "10.255.77.2", "fd77:77::2"
HIGH = 1024  # the first descriptor that select() does not take
FIND = """
import sys
from phalanx.net.isolation.witness import find_namespace
print(find_namespace(sys.argv[1]))
"""


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def empty() -> Iterator[str]:
    """Yield a namespace with no address, where any may be bound."""
    yield from namespace("e")


@pytest.fixture
def full() -> Iterator[str]:
    """Yield a namespace with the addresses."""
    for name in namespace("f"):
        for address in (FOUR, SIX):
            run("ip", "-n", name, "addr", "add", address, "dev", "lo")
        yield name


def namespace(short: str) -> Iterator[str]:
    name = f"phxtest-{uuid4().hex[:6]}-{short}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        settings = ("net.ipv4.ip_nonlocal_bind=1", "net.ipv6.ip_nonlocal_bind=1")
        run("ip", "netns", "exec", name, "sysctl", "-qw", *settings)
        yield name
    finally:
        run("ip", "netns", "delete", name)


@pytest.fixture
def process(full: str) -> Iterator[int]:
    """Yield the id of a process in the namespace with the addresses."""
    with subprocess.Popen(
        ["ip", "netns", "exec", full, "sh", "-c", "echo; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as made:
        assert made.stdout is not None
        made.stdout.readline()  # it is there
        yield made.pid
        made.kill()


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_an_address_is_found_where_it_is_though_all_may_be_bound(
    empty: str, process: int, address: str
) -> None:
    found = run("ip", "netns", "exec", empty, sys.executable, "-c", FIND, address)

    assert found.strip() == f"/proc/{process}/ns/net"


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_ones_own_namespace_comes_first(full: str, address: str) -> None:
    found = run("ip", "netns", "exec", full, sys.executable, "-c", FIND, address)

    assert found.strip() == "/proc/self/ns/net"


@pytest.mark.parametrize("address", [FOUR, SIX, "fe80::77:2%lo"])
def test_an_address_that_nobody_has_is_nowhere(empty: str, address: str) -> None:
    found = run("ip", "netns", "exec", empty, sys.executable, "-c", FIND, address)

    assert found.strip() == "None"


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * HIGH), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_a_packet_is_seen_by_a_process_with_thousands_of_files(full: str) -> None:
    netns = Path("/run/netns", full)
    with open_watch(netns) as low:
        watch = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH))
    with watch, call_in(netns, lambda: socket.socket(type=socket.SOCK_DGRAM)) as sender:
        sender.bind((FOUR, 0))
        sender.sendto(b"word", (FOUR, 9))

        assert watch.fileno() >= HIGH
        assert arrived(watch, FOUR, FOUR, socket.IPPROTO_UDP, seconds=5.0)
