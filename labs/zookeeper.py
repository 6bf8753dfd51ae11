"""ZooKeeper servers for a lab, from Debian's package."""

from collections.abc import Sequence
from pathlib import Path

from phalanx.labs.topology import Node

MAX_SERVERS = 3
CLIENT_PORT = 2181
CLASSPATH = ("/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar")
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def server_nodes(masters: Sequence[Node]) -> Sequence[Node]:
    """Return the master nodes that run a server: an odd number, three at most."""
    count = min(len(masters), MAX_SERVERS)
    return masters[: count if count % 2 else count - 1]


def zk_hosts(servers: Sequence[Node]) -> str:
    """Return the servers as clients spell them."""
    return ",".join(f"{node.address}:{CLIENT_PORT}" for node in servers)


def server_config(servers: Sequence[Node], node: Node, directory: Path) -> str:
    """Return the zoo.cfg of the server on *node*, whose files lie in *directory*."""
    lines = [
        # Short ticks: a session, and with it a dead leader's seat, ends after 2 of them.
        "tickTime=1000",
        "initLimit=20",
        # Servers miss a leader of theirs that is cut off after 2 ticks: sooner than sessions end.
        "syncLimit=2",
        f"dataDir={directory}/data",
        f"clientPort={CLIENT_PORT}",
        f"clientPortAddress={node.address}",
        "admin.enableServer=false",
        "autopurge.purgeInterval=1",
    ]
    if len(servers) > 1:
        lines += [
            f"server.{number}={server.address}:2888:3888"
            for number, server in enumerate(servers, start=1)
        ]
    return "\n".join(lines) + "\n"


def server_number(servers: Sequence[Node], node: Node) -> int:
    """Return the number of the server on *node*, which its ``myid`` file holds."""
    return [server.name for server in servers].index(node.name) + 1


def server_command(directory: Path) -> tuple[str, ...]:
    """Return the command of the server whose files lie in *directory*."""
    return (
        "java",
        "-Xmx64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        # Or a server that is cut off keeps the others for 5 s from electing without it.
        "-Dzookeeper.cnxTimeout=500",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-cp",
        ":".join((str(directory), *CLASSPATH)),
        MAIN,
        str(directory / "zoo.cfg"),
    )


def missing_files() -> Sequence[str]:
    """Return the files of the package that this machine lacks."""
    return [path for path in CLASSPATH if not Path(path).exists()]
