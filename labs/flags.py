"""The command line of each daemon in a lab: pure, one function a process."""

from collections.abc import Callable, Mapping, Sequence

from phalanx.labs.place import Place
from phalanx.labs.topology import Node, Topology
from phalanx.labs.zookeeper import server_nodes, zk_hosts

Flags = Callable[[Place, Topology, Node], Sequence[str]]

MASTER_PORT = 5050
AGENT_PORT = 5051
MARATHON_PORT = 8080
SESSION_SECONDS = 4  # of ZooKeeper: a killed leader is missed for that long
FEED_PORT = 62081
MESOS_DNS_PORT = 8123
NAMESERVERS = ("198.51.100.1", "198.51.100.2", "198.51.100.3")


def _command(flags: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(f"--{name}={value}" for name, value in flags.items() if value != "")


def _masters(topology: Topology) -> str:
    return ",".join(f"{master.address}:{MASTER_PORT}" for master in topology.masters)


def _zookeeper(topology: Topology, name: str) -> str:
    """Return where candidates called *name* meet; nothing in a lab without ZooKeeper."""
    servers = zk_hosts(server_nodes(topology.masters)) if topology.zookeeper else ""
    return f"zk://{servers}/{name}" if servers else ""


def master_flags(place: Place, topology: Topology, node: Node) -> Sequence[str]:
    """Return the arguments of the master on *node*."""
    return _command(
        {
            "ip": node.address,
            "port": MASTER_PORT,
            # Goes into redirects, and daemons see this machine's /etc/hosts, not the lab's.
            "hostname": node.address,
            "work-dir": place.node(node.name) / "master",
            "cluster": place.lab,
            # Whoever was there a moment ago is back at once, or was killed on purpose.
            "agent-reregister-timeout": "30secs",
            # Unreachable after 10 s instead of Mesos' 75: nobody watches a lab for that long.
            "agent-ping-timeout": "2secs",
            "zk": _zookeeper(topology, "mesos"),
            "zk-session-timeout": f"{SESSION_SECONDS}secs",
        }
    )


def agent_flags(place: Place, topology: Topology, node: Node) -> Sequence[str]:
    """Return the arguments of the agent on *node*."""
    home = place.node(node.name)
    return _command(
        {
            "master": _masters(topology),
            "ip": node.address,
            "port": AGENT_PORT,
            "hostname": node.name,
            "work-dir": home / "agent",
            "runtime-dir": home / "agent-run",
            "network-cni-config-dir": home / "cni/conf",
            "network-cni-plugins-dir": home / "cni/bin",
            "docker-registry": place.images,
            "resources": node.resources,
            "attributes": f"segment:{node.segment}",
            "cgroups-root": place.node_cgroup(node.name),
            "resolv-conf": home / "resolv.conf",
            # A lab's nodes are one machine, and its tasks are root there.
            "host-filesystem": "ro",
        }
    )


def plane_flags(place: Place, topology: Topology, node: Node) -> Sequence[str]:
    """Return the arguments of the plane on *node*.

    One on a master node hears the masters and relays what it hears; any other
    hears the planes on master nodes.
    """
    home = place.node(node.name)
    relays = node in topology.masters
    port = MASTER_PORT if relays else FEED_PORT
    return _command(
        {
            "ip": node.address,
            "source": ",".join(f"http://{m.address}:{port}" for m in topology.masters),
            "socket": home / "plane.sock",
            "cni-socket": home / "cni.sock",
            "cni-config-dir": "" if relays else home / "cni/conf",
            "state-dir": home / "plane",
            "feed-port": FEED_PORT if relays else 0,
            "upstreams": "/dev/null",  # a lab has no way out
            "mesos-dns-port": MESOS_DNS_PORT if relays else 0,
        }
    )


def marathon_flags(place: Place, topology: Topology, node: Node) -> Sequence[str]:
    """Return the arguments of the Marathon on *node*."""
    return _command(
        {
            "master": _masters(topology),
            "http-address": node.address,
            "http-port": MARATHON_PORT,
            "hostname": node.address,
            "work-dir": place.node(node.name) / "marathon",
            "zk": _zookeeper(topology, "marathon"),
            "zk-session-timeout": SESSION_SECONDS * 1000,
        }
    )


def relay_flags(place: Place, topology: Topology, netns: str) -> Sequence[str]:
    """Return the arguments of the relay, which connects from the namespace *netns*."""
    marathons = ",".join(f"{node.address}:{MARATHON_PORT}" for node in topology.masters)
    return _command(
        {
            "netns": netns,
            "ports-file": place.relay_ports,
            "master": _masters(topology),
            "marathon": marathons,
        }
    )
