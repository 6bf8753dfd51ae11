"""ZooKeeper servers and masters on addresses of this machine's loopback, to be killed one by one.

All of 127.0.0.0/8 is this machine's, so each server and each master has an
address of its own and the usual port.
"""

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from phalanx.core.config import HostPort, ZooKeeperAddress
from phalanx.core.error import UnavailableError
from phalanx.labs.client import ask, get_json
from phalanx.labs.exec import spawn
from phalanx.labs.flags import MASTER_PORT
from phalanx.labs.process import Birth, birth_of, is_alive, send_signal
from phalanx.labs.topology import Node, Role
from phalanx.labs.wait import wait_until
from phalanx.labs.zookeeper import (
    CLIENT_PORT,
    server_command,
    server_config,
    server_number,
    zk_hosts,
)

START_SECONDS = 60.0


@dataclass(slots=True)
class Ensemble:
    """Three ZooKeeper servers and as many masters, each a process of its own."""

    directory: Path
    net: IPv4Address  # 127.x.y.0: servers are at .1 to .3, masters at .11 and on
    masters: int = 3
    flags: Sequence[str] = ()
    _births: dict[str, Birth] = field(default_factory=dict)

    def __enter__(self) -> Self:
        try:
            for name in ("z1", "z2", "z3"):
                self.start(name)
            if not wait_until(lambda: all(map(self._serves, self.servers)), seconds=START_SECONDS):
                raise UnavailableError("the ZooKeeper servers do not find each other")
            for number in range(1, self.masters + 1):
                self.start(f"m{number}")
            self.await_leader()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill whatever runs."""
        for name in list(self._births):
            self.kill(name)

    @property
    def servers(self) -> Sequence[Node]:
        """Return the ZooKeeper servers."""
        return [self._node(f"z{number}", self.net + number) for number in (1, 2, 3)]

    @property
    def zookeeper(self) -> ZooKeeperAddress:
        """Return where the masters elect."""
        return ZooKeeperAddress(zk_hosts(self.servers), "/mesos")

    @property
    def hosts(self) -> Sequence[HostPort]:
        """Return where the masters are."""
        return [HostPort(str(self.net + 10 + n), MASTER_PORT) for n in range(1, self.masters + 1)]

    def host(self, name: str) -> str:
        """Return the address of a server or a master."""
        offset = 10 if name.startswith("m") else 0
        return str(self.net + offset + int(name[1:]))

    def start(self, name: str) -> None:
        """Start a server or a master, alive or dead before."""
        self.kill(name)
        home = self.directory / name
        home.mkdir(parents=True, exist_ok=True)
        command = self._master(name, home) if name.startswith("m") else self._server(name, home)
        pid = spawn(command, netns=None, log=home / "log", environ=os.environ)
        birth = birth_of(pid)
        if birth is None:
            raise UnavailableError(f"{name} ended at once: {(home / 'log').read_text()[-500:]}")
        self._births[name] = birth

    def kill(self, name: str) -> None:
        """Kill a process at once and wait until it is gone."""
        birth = self._births.pop(name, None)
        if birth is not None and send_signal(birth, signal.SIGKILL):
            wait_until(lambda: not is_alive(birth), seconds=START_SECONDS)

    def wipe(self, name: str) -> None:
        """Kill a server at once and take away all that it has written."""
        self.kill(name)
        shutil.rmtree(self.directory / name / "data")

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process that runs; raise UnavailableError where it has ended."""
        if not send_signal(self._births[name], number):
            raise UnavailableError(f"{name} does not run")

    def is_alive(self, name: str) -> bool:
        """Tell whether a process still runs."""
        return name in self._births and is_alive(self._births[name])

    def pid(self, name: str) -> int:
        """Return the number of a process."""
        return self._births[name].pid

    def leader(self) -> str | None:
        """Return the name of the master that leads and has recovered, as it says itself."""
        for number in range(1, self.masters + 1):
            name = f"m{number}"
            if self.is_alive(name) and self._leads(name):
                return name
        return None

    def await_leader(self, *, other_than: str | None = None) -> str:
        """Wait for a leader; raise UnavailableError when none comes."""
        found: list[str] = []

        def look() -> bool:
            leader = self.leader()
            if leader is not None and leader != other_than:
                found.append(leader)
            return bool(found)

        if not wait_until(look, seconds=START_SECONDS):
            raise UnavailableError("nobody leads")
        return found[0]

    def log(self, name: str) -> str:
        """Return what a process wrote."""
        return (self.directory / name / "log").read_text()

    def _leads(self, name: str) -> bool:
        try:
            state = get_json(None, self.host(name), MASTER_PORT, "/state-summary")
        except UnavailableError:
            return False
        return isinstance(state, dict) and "slaves" in state

    def _serves(self, node: Node) -> bool:
        try:
            return "Mode: " in ask(None, str(node.address), CLIENT_PORT, "srvr")
        except UnavailableError:
            return False

    def _node(self, name: str, address: IPv4Address) -> Node:
        return Node(name=name, role=Role.MASTER, segment="s1", address=address)

    def _server(self, name: str, home: Path) -> Sequence[str]:
        node = next(node for node in self.servers if node.name == name)
        (home / "data").mkdir(exist_ok=True)
        (home / "zoo.cfg").write_text(server_config(self.servers, node, home))
        (home / "data/myid").write_text(f"{server_number(self.servers, node)}\n")
        return server_command(home)

    def _master(self, name: str, home: Path) -> Sequence[str]:
        phalanx = str(Path(sys.executable).with_name("phalanx"))
        address = self.zookeeper
        return (
            *(phalanx, "master", f"--ip={self.host(name)}", f"--hostname={self.host(name)}"),
            *(f"--work_dir={home}", f"--zk=zk://{address.hosts}{address.path}", *self.flags),
        )
