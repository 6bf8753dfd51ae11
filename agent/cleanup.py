"""Remove everything that an agent left behind; no agent is needed for it."""

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from phalanx.agent.container.cgroup import Cgroups
from phalanx.agent.docker.request import ENDED, container_name, network_name
from phalanx.agent.exec import run_blocking
from phalanx.agent.files import read_json
from phalanx.agent.layout import Layout
from phalanx.agent.namespace import release_mount
from phalanx.agent.process import Process, is_alive, kill

DELETE_SECONDS = 20.0


def remove_all(runtime_dir: Path, cgroups_root: str, runc: str = "runc") -> None:
    """Kill the agent's supervisors and containers and remove all that they had in the kernel.

    Safe to call again, and when there never was an agent. The agent itself
    must have ended before; networks are let go of without asking their plugins.
    """
    layout = Layout(Path("/"), runtime_dir)
    for place in _children(layout.containers):
        for name in ("supervisor", "started", "switchboard"):
            _kill_group(read_json(place / name))
        release_mount(place / "shm")
    for place in _children(layout.runc):
        command = [runc, "--root", str(layout.runc), "delete", "--force", place.name]
        run_blocking(command, timeout_seconds=DELETE_SECONDS)
    for place in _children(layout.docker):
        _kill_group(read_json(place / "supervisor"))
        _remove_from_engine(place)
    for place in _children(layout.networks):
        release_mount(place / "ns")
    Cgroups(cgroups_root).remove()
    for top in (layout.containers, layout.runc, layout.docker, runtime_dir / "isolators"):
        shutil.rmtree(top, ignore_errors=True)


def _remove_from_engine(place: Path) -> None:
    """Remove a container from the Docker engine that its run directory names, with its network."""
    facts = read_json(place / "facts.json") or {}
    container_id = place.name.removeprefix(ENDED)
    names = [container_name(container_id), network_name(container_id)]
    command = ["docker", "-H", f"unix://{facts.get('socket')}", "rm", "--force", "--volumes"]
    run_blocking([*command, *names], timeout_seconds=DELETE_SECONDS)


def _children(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _kill_group(facts: dict[str, int] | None) -> None:
    """Kill a recorded process, and the group that it leads, if it is still that process."""
    if facts is None:
        return
    process = Process(int(facts["pid"]), int(facts["start_time"]))
    if not is_alive(process):
        return
    with suppress(ProcessLookupError):  # it may end between two looks
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    kill(process)
