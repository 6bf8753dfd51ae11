"""A lab of one's own, of a name of one's own, and nothing of it left behind."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from phalanx.core.error import NotFoundError
from phalanx.labs.cgroup import find_cgroups
from phalanx.labs.lab import Lab, MakeOutfit
from phalanx.labs.mount import read_mounts
from phalanx.labs.outfit import Bare, ProcessSpec
from phalanx.labs.place import LAB_VARIABLE, LABS, NETNS, NETNS_ETC, Place
from phalanx.labs.process import with_environment
from phalanx.labs.topology import Topology

Traces = Callable[[str], dict[str, list[str]]]


@pytest.fixture
def traces() -> Traces:
    """Return a function that lists everything a lab has on this machine."""

    def look(name: str) -> dict[str, list[str]]:
        mark = f"phx-{name}-"

        def named(directory: Path) -> list[str]:
            found = os.listdir(directory) if directory.exists() else []
            return [name for name in found if name.startswith(mark)]

        return {
            "namespaces": named(NETNS),
            "etc": named(NETNS_ETC),
            "files": [str(p) for p in [LABS / name] if p.exists()],
            "mounts": [
                str(m.path)
                for m in read_mounts()
                if mark in str(m.path) or f"/{name}/" in str(m.path)
            ],
            "cgroups": [str(path) for path in find_cgroups(f"phalanx/{name}")],
            "processes": [str(pid) for pid in with_environment(f"{LAB_VARIABLE}={name}")],
        }

    return look


@pytest.fixture
def name(traces: Traces) -> Iterator[str]:
    """Yield the name of a lab that does not exist; afterwards it must not exist either."""
    name = f"t{uuid4().hex[:7]}"
    yield name
    left = {kind: found for kind, found in traces(name).items() if found}
    try:
        Lab.remove(name, outfit=lambda place, topology: Bare())
    except NotFoundError:
        assert not left
    else:
        pytest.fail(f"the test left its lab behind: {left}")


@pytest.fixture
def web() -> MakeOutfit:
    """Return an outfit with a real HTTP server on every node, and a second process on a1."""

    def outfit(place: Place, topology: Topology) -> Bare:
        def server(address: str) -> ProcessSpec:
            command = (sys.executable, "-m", "http.server", "--bind", address, "8000")
            return ProcessSpec("web", (*command, "--directory", str(place.directory)))

        processes = {node.name: [server(str(node.address))] for node in topology.nodes}
        processes["a1"].append(
            ProcessSpec("idle", (sys.executable, "-c", "import signal; signal.pause()"))
        )
        return Bare(("198.51.100.1",), processes)

    return outfit


@pytest.fixture
def lab(name: str, web: MakeOutfit) -> Iterator[Lab]:
    """Yield a lab that is up, with a web server on every node."""
    lab = Lab.up(name=name, outfit=web)
    try:
        yield lab
    finally:
        lab.down()
