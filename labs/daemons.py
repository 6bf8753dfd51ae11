"""The outfit of a real cluster: master, plane, Marathon, agent, ZooKeeper, and the relay."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phalanx.core.error import ConfigError
from phalanx.labs import bridge, flags, zookeeper
from phalanx.labs.condition import (
    agents_registered,
    answers,
    file_appears,
    marathon_registered,
    planes_in_sync,
    zookeeper_serves,
)
from phalanx.labs.exec import dressed
from phalanx.labs.mount import remove_directory
from phalanx.labs.outfit import ProcessSpec, Wave, make_directories
from phalanx.labs.place import Place
from phalanx.labs.record import HOST
from phalanx.labs.topology import ROUTER, Node, Role, Topology

PYTHON = (sys.executable, "-Im")


@dataclass(frozen=True, slots=True)
class Daemons:
    """Everything that a cluster of this topology runs.

    *more* are further arguments, by the name of a process.
    """

    place: Place
    topology: Topology
    more: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def nameservers(self) -> Sequence[str]:
        """Return the addresses on which every plane answers DNS."""
        return flags.NAMESERVERS

    def prepare(self, node: Node) -> None:
        """Make directories, install CNI plugins, write resolv.conf and zoo.cfg."""
        home = self.place.node(node.name)
        if node.role is Role.AGENT:
            from phalanx.cni.install import install

            make_directories(home / "agent", home / "agent-run", home / "cni/conf")
            make_directories(self.place.images)
            install(home / "cni/bin")
            config = bridge.bridge_config(home / "agent-run" / bridge.NETWORK)
            (home / "cni/conf" / f"{bridge.NETWORK}.conflist").write_text(config)
        if node.role is not Role.CLIENT:
            lines = "".join(f"nameserver {address}\n" for address in self.nameservers())
            (home / "resolv.conf").write_text(lines)
        if node in self._zookeepers():
            directory = home / "zookeeper"
            make_directories(directory / "data")
            config = zookeeper.server_config(self._zookeepers(), node, directory)
            (directory / "zoo.cfg").write_text(config)
            number = zookeeper.server_number(self._zookeepers(), node)
            (directory / "data/myid").write_text(f"{number}\n")

    def power_off(self, node: Node) -> None:
        """Remove an agent's containers and what it keeps in its runtime directory."""
        if node.role is Role.AGENT:
            from phalanx.agent.cleanup import remove_all

            runtime = self.place.node(node.name) / "agent-run"
            remove_all(runtime, self.place.node_cgroup(node.name))
            remove_directory(runtime)

    def waves(self) -> Sequence[Wave]:
        """Return ZooKeeper, if wanted, and then all the rest at once."""
        netns = self.place.netns_path(ROUTER)
        servers = self._zookeepers()
        waves = []
        if servers:
            if lacking := zookeeper.missing_files():
                raise ConfigError(f"--zk: {lacking[0]}: is missing; install Debian's zookeeper")
            waves.append(
                Wave(
                    {node.name: [self._zookeeper(node)] for node in servers},
                    [zookeeper_serves(netns, node) for node in servers],
                )
            )
        processes: dict[str, Sequence[ProcessSpec]] = {HOST: [self._relay()]}
        processes |= {node.name: self._daemons(node) for node in self.topology.nodes}
        masters = self.topology.masters
        conditions = [
            *(answers(netns, node, flags.MASTER_PORT, "/health", "master") for node in masters),
            agents_registered(self.place, self.topology),
            planes_in_sync(self.place, self.topology),
            marathon_registered(self.place, self.topology),
            file_appears(self.place.relay_ports, "relay"),
        ]
        waves.append(Wave(processes, conditions))
        return waves

    def _zookeepers(self) -> Sequence[Node]:
        return zookeeper.server_nodes(self.topology.masters) if self.topology.zookeeper else ()

    def _zookeeper(self, node: Node) -> ProcessSpec:
        directory = self.place.node(node.name) / "zookeeper"
        return ProcessSpec("zookeeper", zookeeper.server_command(directory))

    def _relay(self) -> ProcessSpec:
        arguments = flags.relay_flags(self.place, self.topology, str(self.place.netns_path(ROUTER)))
        return ProcessSpec("relay", (*PYTHON, "phalanx.labs.relay", *arguments))

    def _daemons(self, node: Node) -> Sequence[ProcessSpec]:
        """Return a node's daemons, in the order in which they are started."""
        table: list[tuple[str, flags.Flags]] = []
        if node.role is Role.MASTER:
            table += [("master", flags.master_flags), ("plane", flags.plane_flags)]
            table += [("marathon", flags.marathon_flags)]
        if node.role is Role.AGENT:
            table += [("plane", flags.plane_flags), ("agent", flags.agent_flags)]
        return [
            ProcessSpec(name, self._command(node, name, arguments)) for name, arguments in table
        ]

    def _command(self, node: Node, name: str, arguments: flags.Flags) -> tuple[str, ...]:
        words = (*arguments(self.place, self.topology, node), *self.more.get(name, ()))
        command = (*PYTHON, "phalanx.cli.main", name, *words)
        if name != "marathon":
            return command
        # It asks agents by name whether apps on their networks are healthy, and mounts nothing.
        return tuple(dressed(self.place.netns_etc(node.name), command))
