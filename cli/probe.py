"""A real packet from one container to another, to see whether it comes through."""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from phalanx.core.netns import call_in

T = TypeVar("T")

SECONDS = 2.0
ETH_P_ALL = 3
PAYLOAD = b"phalanx trace"
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
ECHO_REQUEST = {1: 8, 58: 128}


def probe(packet: Mapping[str, Any]) -> dict[str, Any]:
    """Send the packet that a trace is about; return whether it ``passed``, and ``words``.

    *passed* is None when that can't be told: the source is on another machine, or the
    destination is and stays silent. Needs root.
    """
    source, destination = (packet[end]["address"] for end in ("source", "destination"))
    if packet["protocol"] not in PROTOCOLS:
        return {"passed": None, "words": f"no probe for protocol {packet['protocol']}"}
    netns = find_namespace(source)
    if netns is None:
        return {"passed": None, "words": f"no namespace of this machine has {source}"}
    there = find_namespace(destination)
    watch = None if there is None else call_in(there, _watch)
    try:
        fate = _send(netns, source, destination, packet["protocol"], packet["port"])
        if watch is not None and _arrived(watch, source, destination, packet["protocol"]):
            return {"passed": True, "words": f"it arrived; the sender saw: {fate}"}
    finally:
        if watch is not None:
            watch.close()
    if watch is not None:
        return {"passed": False, "words": f"it did not arrive; the sender saw: {fate}"}
    passed = {"connected": True, "answered": True, "filtered": False}.get(fate)
    return {"passed": passed, "words": f"the sender saw: {fate}"}


def find_namespace(address: str) -> Path | None:
    """Return a file of the network namespace that has *address* on a link; None for none."""
    seen: set[int] = set()
    for path in _namespaces():
        with suppress(OSError):  # a process that has ended
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                if call_in(path, lambda: _has(address)):
                    return path
    return None


def _namespaces() -> Iterator[Path]:
    """Yield the namespaces of processes; of this lab's containers only when run on a lab's node."""
    lab = _lab()
    for path in sorted(Path("/proc").glob("[0-9]*/ns/net"), key=lambda path: int(path.parts[2])):
        groups = _text(path.parents[1] / "cgroup") if lab else ""
        if not lab or f"/phalanx/{lab}/" in groups:
            yield path


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""  # of a process that has ended


def _lab() -> str:
    """Return the name of the lab whose node's namespace this is; nothing elsewhere."""
    own = Path("/proc/self/ns/net").stat().st_ino
    places = Path("/run/netns").glob("phx-*-*")
    names = [path.name for path in places if path.exists() and path.stat().st_ino == own]
    return names[0].removeprefix("phx-").rpartition("-")[0] if names else ""


def _has(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        try:
            made.bind((address, 0))
        except OSError:
            return False
        return True


def _watch() -> socket.socket:
    watching = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    watching.setblocking(False)
    return watching


def _send(netns: Path, source: str, destination: str, protocol: int, port: int) -> str:
    """Send one packet; return what its sender hears."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    kind = {6: socket.SOCK_STREAM, 17: socket.SOCK_DGRAM}.get(protocol, socket.SOCK_RAW)
    raw = protocol if kind == socket.SOCK_RAW else 0
    sending = call_in(netns, lambda: socket.socket(family, kind, raw))
    with sending:
        sending.settimeout(SECONDS)
        try:
            sending.bind((source, 0))
            sending.connect((destination, port))
            if protocol == 6:
                return "connected"
            sending.send(PAYLOAD if protocol == 17 else _echo(protocol))
            sending.settimeout(SECONDS / 4)
            sending.recv(2048)
        except TimeoutError:
            return "nothing"
        except ConnectionRefusedError:
            return "a refusal (reset, or no such port)"
        except OSError as error:
            if error.errno in (errno.EHOSTUNREACH, errno.EACCES, errno.ENETUNREACH):
                return "filtered"
            return os.strerror(error.errno or 0)
        return "answered"


def _echo(protocol: int) -> bytes:
    """Return an echo request; the kernel fills in the checksum of ICMPv6."""
    head = struct.pack("!BBHHH", ECHO_REQUEST[protocol], 0, 0, os.getpid() & 0xFFFF, 1)
    if protocol == 58:
        return head + PAYLOAD
    data = head + PAYLOAD + bytes(len(PAYLOAD) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return data[:2] + struct.pack("!H", checksum) + data[4:]


def _arrived(watch: socket.socket, source: str, destination: str, protocol: int) -> bool:
    """Tell whether a packet between the two was seen, from whichever end."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    place: Callable[[bytes], bytes] = (
        (lambda data: data[12:20]) if family == socket.AF_INET else (lambda data: data[8:40])
    )
    number = 9 if family == socket.AF_INET else 6
    until = time.monotonic() + SECONDS / 4
    while (left := until - time.monotonic()) > 0:
        if not select.select([watch], [], [], left)[0]:
            break
        data, address = watch.recvfrom(256)
        is_incoming = address[2] != socket.PACKET_OUTGOING
        if is_incoming and place(data) == ends and data[number] == protocol:
            return True
    return False
