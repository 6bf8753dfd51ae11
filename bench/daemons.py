"""Daemons of a benchmark on this machine's loopback: master, Marathon, simulated agents."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from phalanx.labs.wait import wait_until
from phalanx.labs.zookeeper import CLASSPATH, MAIN

HOST = "127.0.0.1"
START_SECONDS = 20.0
ZOOKEEPER_MEBIBYTES = 512


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a group of its own; kill the group in the end."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def master(work_dir: Path, *more: str) -> Iterator[int]:
    """Run a master, up when this is entered; yield its port, which nobody else had."""
    port = free_port()
    phalanx = str(Path(sys.executable).with_name("phalanx"))
    command = [phalanx, "master", "--ip", HOST, "--port", str(port), "--work-dir", str(work_dir)]
    with running([*command, "--log-level", "warning", *more]) as process:
        if not wait_until(lambda: is_up(port), seconds=START_SECONDS):
            raise SystemExit("the master does not answer")
        if process.poll() is not None:
            raise SystemExit("the master has ended")
        yield port


@contextmanager
def marathon(work_dir: Path, masters: Sequence[str], *more: str) -> Iterator[tuple[int, int]]:
    """Run a Marathon on the masters at HOST:PORT, leading when this is entered, unless told else.

    Yields its port and its process id.
    """
    port = free_port()
    phalanx = str(Path(sys.executable).with_name("phalanx"))
    command = [phalanx, "marathon", "--master", ",".join(masters), "--work-dir", str(work_dir)]
    where = ["--http-address", HOST, "--http-port", str(port), "--hostname", HOST]
    with running([*command, *where, "--log-level", "warning", *more]) as process:
        if not wait_until(lambda: is_up(port, "/v2/leader"), seconds=START_SECONDS):
            raise SystemExit("Marathon does not answer")
        yield port, process.pid


@contextmanager
def zookeeper(place: Path) -> Iterator[str]:
    """Run one ZooKeeper server with files in *place*, up when this is entered; yield HOST:PORT."""
    port = free_port()
    (place / "data").mkdir(parents=True)
    lines = (f"dataDir={place}/data", f"clientPort={port}", f"clientPortAddress={HOST}")
    more = ("tickTime=1000", "admin.enableServer=false", "4lw.commands.whitelist=ruok")
    (place / "zoo.cfg").write_text("\n".join((*lines, *more)) + "\n")
    classes = ":".join((str(place), *CLASSPATH))
    command = ["java", f"-Xmx{ZOOKEEPER_MEBIBYTES}m", "-cp", classes]
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    with running([*command, quiet, MAIN, str(place / "zoo.cfg")]):
        if not wait_until(lambda: _is_ok(port), seconds=START_SECONDS):
            raise SystemExit("ZooKeeper does not answer")
        yield f"{HOST}:{port}"


def _is_ok(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as connection:
            connection.sendall(b"ruok")
            return connection.recv(16) == b"imok"
    except OSError:
        return False


@contextmanager
def fleet(count: int, ports: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run *count* simulated agents of the masters at *ports*, registered when this is entered."""
    with fleet_of(count, [f"{HOST}:{port}" for port in ports]) as process:
        yield process


@contextmanager
def fleet_of(count: int, masters: Sequence[str], *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run *count* simulated agents of the masters at HOST:PORT, registered when this is entered."""
    module = [sys.executable, "-Im", "phalanx.labs.simulated.command"]
    where = ["--count", str(count), "--master", ",".join(masters)]
    with running([*module, *where, *more]) as process:
        next_report(process)
        yield process


def next_report(process: subprocess.Popen[bytes]) -> Mapping[str, float]:
    """Wait until all simulated agents are (back) there; return when, and how long it took."""
    assert process.stdout is not None  # a pipe, as asked for
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the simulated agents have ended")
    report: Mapping[str, float] = json.loads(line)
    return report


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def is_up(port: int, path: str = "/health") -> bool:
    """Tell whether a daemon at *port* answers."""
    try:
        with urlopen(f"http://{HOST}:{port}{path}", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
