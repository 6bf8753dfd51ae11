"""What a plane leaves beside its socket for plugins that find nobody there.

It says what the node's networks were when their walls stood last, and where
the leases are, so that a plugin can do the plane's work with the same result.
It lies in /run: after a reboot there is none, as there are no walls.
"""

import fcntl
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from phalanx.net.attachment.bridge import LeasedNetwork, LeasedSubnet

SUFFIX = ".json"  # after the socket's name
LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class StandIn:
    """The leases' directory, the isolation table, and the networks of a node by name."""

    leases: str
    walls: str  # name of the table of family inet
    networks: Mapping[str, LeasedNetwork] = field(default_factory=dict)


def encode_stand_in(stand_in: StandIn, *, interpreter: str = sys.executable) -> str:
    """Return a stand-in as JSON, with the interpreter that knows how to use it."""
    networks = [
        {
            "name": each.name,
            "vni": each.vni,
            "mtu": each.mtu,
            "subnets": [[str(s.prefix), str(s.subnet), str(s.gateway)] for s in each.subnets],
        }
        for each in stand_in.networks.values()
    ]
    return json.dumps(
        {
            "interpreter": interpreter,
            "leases": stand_in.leases,
            "walls": stand_in.walls,
            "networks": networks,
        }
    )


def decode_stand_in(text: str) -> StandIn | None:
    """Return the stand-in of a text, None if it is none: another release may have written it."""
    try:
        raw = json.loads(text)
        networks = [_network(each) for each in raw["networks"]]
        return StandIn(
            str(raw["leases"]), str(raw["walls"]), {each.name: each for each in networks}
        )
    except (ValueError, TypeError, KeyError):
        return None


def load_stand_in(socket: Path) -> StandIn | None:
    """Return what the last plane on a socket left, None if it left nothing that can be read."""
    try:
        return decode_stand_in(socket.with_name(socket.name + SUFFIX).read_text())
    except (OSError, UnicodeDecodeError):
        return None


def save_stand_in(socket: Path, stand_in: StandIn) -> None:
    """Leave a stand-in beside a socket, whole or not at all; raise OSError."""
    path = socket.with_name(socket.name + SUFFIX)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.touch(0o600)
        draft.write_text(encode_stand_in(stand_in))
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise


@contextmanager
def standing_in(socket: Path, *, alone: bool = False) -> Iterator[None]:
    """Hold the lock of those who stand in for a plane, together; or *alone*, as the plane itself.

    What a plane that starts takes for left over may be what another process is
    about to finish. Raises OSError.
    """
    path = socket.with_name(socket.name + LOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _network(raw: Mapping[str, Any]) -> LeasedNetwork:
    subnets = tuple(
        LeasedSubnet(ip_network(prefix), ip_network(subnet), ip_address(gateway))
        for prefix, subnet, gateway in raw["subnets"]
    )
    return LeasedNetwork(str(raw["name"]), int(raw["vni"]), int(raw["mtu"]), subnets)
