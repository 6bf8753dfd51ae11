"""Where a lab keeps its things, and what they are called."""

import re
from dataclasses import dataclass
from pathlib import Path

from phalanx.core.error import ConfigError

LABS = Path("/run/phalanx/labs")
NETNS = Path("/run/netns")
NETNS_ETC = Path("/etc/netns")
LAB_NAME = re.compile(r"[a-z0-9]{1,8}")

# Every process that a lab starts carries these in its environment, and hands them
# on to what it starts itself: so a lab knows its own, wherever they live.
LAB_VARIABLE = "PHALANX_LAB_NAME"
NODE_VARIABLE = "PHALANX_LAB_NODE"


@dataclass(frozen=True, slots=True)
class Place:
    """The names of everything that belongs to one lab."""

    lab: str

    @property
    def directory(self) -> Path:
        """Return the directory that holds all files of the lab."""
        return LABS / self.lab

    @property
    def record(self) -> Path:
        """Return the file that says what the lab consists of."""
        return self.directory / "lab.json"

    @property
    def relay_ports(self) -> Path:
        """Return the file in which the relay says where it listens."""
        return self.directory / "relay.json"

    @property
    def images(self) -> Path:
        """Return the directory in which agents look for archives of images."""
        return self.directory / "images"

    @property
    def netns_prefix(self) -> str:
        """Return what the name of each of the lab's namespaces begins with."""
        return f"phx-{self.lab}-"

    @property
    def cgroup(self) -> str:
        """Return the lab's cgroup, relative to each hierarchy's root."""
        return f"phalanx/{self.lab}"

    def netns(self, node: str) -> str:
        """Return the name of a node's network namespace."""
        return f"{self.netns_prefix}{node}"

    def netns_path(self, node: str) -> Path:
        """Return the bind mount that keeps a node's network namespace."""
        return NETNS / self.netns(node)

    def netns_etc(self, node: str) -> Path:
        """Return the directory whose files stand in for those of /etc inside the node."""
        return NETNS_ETC / self.netns(node)

    def node(self, node: str) -> Path:
        """Return the directory that holds all files of a node."""
        return self.directory / node

    def log(self, node: str, process: str) -> Path:
        """Return the file to which a process' output goes."""
        return self.node(node) / "log" / f"{process}.log"

    def node_cgroup(self, node: str) -> str:
        """Return the node's cgroup, relative to each hierarchy's root."""
        return f"{self.cgroup}/{node}"


def place_of(lab: str) -> Place:
    """Return the place of the lab called *lab*; raise ConfigError for a name that can't be."""
    if not LAB_NAME.fullmatch(lab):
        raise ConfigError(f"--name: {lab!r}: is not one to eight of a-z and 0-9")
    return Place(lab)
