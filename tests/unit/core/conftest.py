"""A real ZooKeeper server on loopback, for whatever needs one."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

JARS = "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-nop.jar"
SERVER = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield HOST:PORT of a fresh server."""
    assert shutil.which("java"), "these tests need Java and Debian's zookeeper package"
    folder = tmp_path_factory.mktemp("zookeeper")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "zoo.cfg").write_text(
        f"tickTime=200\ndataDir={folder}/data\nclientPort={port}\n"
        "clientPortAddress=127.0.0.1\nadmin.enableServer=false\n4lw.commands.whitelist=ruok\n"
        "maxSessionTimeout=60000\n"
    )
    server = subprocess.Popen(
        ["java", "-Xmx128m", "-cp", JARS, SERVER, str(folder / "zoo.cfg")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_server(Path(folder), port, server)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _await_server(folder: Path, port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert server.poll() is None, f"ZooKeeper ended; its configuration is {folder}/zoo.cfg"
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"ruok")
                if connection.recv(16) == b"imok":
                    return
        except OSError:
            time.sleep(0.05)  # waits: between two looks at a server that starts
    raise AssertionError("ZooKeeper did not answer within 30 s")
