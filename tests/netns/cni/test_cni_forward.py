"""The way of containers through a host's FORWARD chain while plugins come at the same time."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.netns.cni.host import Host, Json
from tests.netns.cni.test_cni_chain import chain

from phalanx.labs.wait import wait_until
from phalanx.net.hostport.forward import LOCK


@contextmanager
def started(host: Host, command: str, config: Json, ns: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a plugin beside the test; it has to end well."""
    program = subprocess.Popen(
        host.enter(host.path(config["type"])),
        env=host.environ(command, ns, "c1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert program.stdin is not None
    program.stdin.write(json.dumps(config).encode())
    program.stdin.close()
    program.stdin = None
    try:
        yield program
    finally:
        output, _ = program.communicate(timeout=60)
    assert program.returncode == 0, output


def is_waiting(program: subprocess.Popen[bytes]) -> bool:
    """Tell whether a program waits for a lock on a file."""
    waiting = [
        line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line
    ]
    return any(words[5] == str(program.pid) for words in waiting)


def test_gc_takes_no_way_from_who_comes_meanwhile(host: Host) -> None:
    host.run("iptables", "-P", "FORWARD", "DROP")
    [settings] = chain(host, ingressPolicy="open", six="")
    settings["cniVersion"] = "1.1.0"
    before, ns = host.netns(), host.netns()
    host.chain("ADD", [settings], before)
    host.chain("DEL", [settings], before)

    with Path(LOCK).open() as lock:
        flock(lock, LOCK_EX)
        valid = [{"containerID": "c1", "ifname": "eth0"}]
        collect = {**settings, "cni.dev/valid-attachments": valid}
        with started(host, "GC", collect, ns) as gc:
            assert wait_until(lambda: is_waiting(gc), seconds=60)
            with started(host, "ADD", settings, ns) as add, closing(lock):
                assert wait_until(lambda: is_waiting(add) or add.poll() is not None, seconds=60)

    assert "-i phxtestbr" in host.run("iptables", "-S")
    assert "-o phxtestbr" in host.run("iptables", "-S")
