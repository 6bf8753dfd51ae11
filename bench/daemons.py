"""Daemons of a benchmark on this machine's loopback: a master, simulated agents."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from phalanx.labs.wait import wait_until

HOST = "127.0.0.1"
START_SECONDS = 20.0


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
def master(work_dir: Path, port: int, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a master at *port*, up when this is entered."""
    phalanx = str(Path(sys.executable).with_name("phalanx"))
    command = [phalanx, "master", "--ip", HOST, "--port", str(port), "--work-dir", str(work_dir)]
    with running([*command, "--log-level", "warning", *more]) as process:
        if not wait_until(lambda: is_up(port), seconds=START_SECONDS):
            raise SystemExit("the master does not answer")
        yield process


@contextmanager
def fleet(count: int, ports: Sequence[int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run *count* simulated agents of the masters at *ports*, registered when this is entered."""
    masters = ",".join(f"{HOST}:{port}" for port in ports)
    module = [sys.executable, "-Im", "phalanx.labs.simulated.command"]
    with running([*module, "--count", str(count), "--master", masters]) as process:
        next_report(process)
        yield process


def next_report(process: subprocess.Popen[bytes]) -> float:
    """Wait until all simulated agents are (back) there; return how long it took, in seconds."""
    assert process.stdout is not None  # a pipe, as asked for
    line = process.stdout.readline()
    if not line:
        raise SystemExit("the simulated agents have ended")
    return float(json.loads(line)["seconds"])


def is_up(port: int) -> bool:
    """Tell whether a master at *port* answers."""
    try:
        with urlopen(f"http://{HOST}:{port}/health", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
