"""Was a packet seen where it was to go: a look into a container's network namespace."""

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from phalanx.core.netns import call_in
from phalanx.net.rtnl.attribute import decode_attributes
from phalanx.net.rtnl.conversation import Conversation

ETH_P_ALL = 3
RTM_GETADDR = 22
IFADDRMSG = struct.Struct("=BBBBI")  # family, length of the prefix, flags, scope, link
IFA_ADDRESS, IFA_LOCAL = 1, 2
# Of a packet without its link's header: where both addresses lie, and the protocol.
PLACES: dict[int, tuple[slice, int]] = {
    socket.AF_INET: (slice(12, 20), 9),
    socket.AF_INET6: (slice(8, 40), 6),
}


def find_namespace(address: str) -> Path | None:
    """Return a file of the network namespace that has *address* on a link; None for none."""
    own = Path("/proc/self/ns/net")
    if _has(address):
        return own
    seen = {own.stat().st_ino}
    for path in _namespaces():
        with suppress(OSError):  # a process that has ended
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                if call_in(path, lambda: _has(address)):
                    return path
    return None


def _namespaces() -> Iterator[Path]:
    """Yield the namespaces of processes; of its own containers only when run on a lab's node."""
    lab = _lab_node()
    for path in sorted(Path("/proc").glob("[0-9]*/ns/net"), key=lambda path: int(path.parts[2])):
        groups = _text(path.parents[1] / "cgroup") if lab else ""
        if not lab or f"/phalanx/{lab}/" in groups:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # of a process that has ended


def _lab_node() -> str:
    """Return lab and node whose namespace this is, as cgroups name them; nothing elsewhere."""
    own = Path("/proc/self/ns/net").stat().st_ino
    places = Path("/run/netns").glob("phx-*-*")
    names = [path.name for path in places if path.exists() and path.stat().st_ino == own]
    return "/".join(names[0].removeprefix("phx-").rsplit("-", 1)) if names else ""


def _has(address: str) -> bool:
    """Tell whether a link has the address: where ``ip_nonlocal_bind`` is on, any may be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = ip_address(address).packed
    with Conversation() as conversation:
        messages = conversation.dump(RTM_GETADDR, IFADDRMSG.pack(family, 0, 0, 0, 0))
    for message in messages:
        found = dict(decode_attributes(message[IFADDRMSG.size :]))
        if found.get(IFA_LOCAL, found.get(IFA_ADDRESS)) == packed:  # no IFA_LOCAL, no other end
            return True
    return False


def open_watch(netns: Path) -> socket.socket:
    """Return a socket that hears every packet in a namespace from now on."""

    def made() -> socket.socket:
        watching = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        watching.setblocking(False)
        return watching

    return call_in(netns, made)


def arrived(
    watch: socket.socket, source: str, destination: str, protocol: int, *, seconds: float
) -> bool:
    """Tell whether a packet between the two came in while *watch* was open, or comes in time."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    place, number = PLACES[family]
    waits = select.poll()  # select() takes no descriptor above 1023
    waits.register(watch, select.POLLIN)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if not waits.poll(left * 1000):
            break
        data, address = watch.recvfrom(256)
        is_incoming = address[2] != socket.PACKET_OUTGOING
        if is_incoming and data[place] == ends and data[number] == protocol:
            return True
    return False
