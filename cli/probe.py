"""A real packet from one container to another, to see whether it comes through."""

import errno
import os
import socket
import struct
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from phalanx.cli.client import opened
from phalanx.core.error import PhalanxError, UnavailableError
from phalanx.core.netns import call_in
from phalanx.net.isolation.witness import arrived, find_namespace, open_watch

SECONDS = 2.0
PAYLOAD = b"phalanx trace"
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
ECHO_REQUEST = {1: 8, 58: 128}


def probe(packet: Mapping[str, Any], *, plane: str, here: str) -> dict[str, Any]:
    """Send the packet that a trace is about; return whether it ``passed``, and ``words``.

    Whether it arrives is seen in the destination's namespace, by that node's plane if it is
    on another than *here*: *plane* asks it. *passed* is None when that can't be told, because
    the source is on another machine, or nobody could watch and the destination stays silent.
    Needs root.
    """
    source, destination = (packet[end]["address"] for end in ("source", "destination"))
    protocol = packet["protocol"]
    target = packet["sent_to"]
    if protocol not in PROTOCOLS:
        return {"passed": None, "words": f"no probe for protocol {protocol}"}
    netns = find_namespace(source)
    if netns is None:
        where = packet["source"]["node"]
        asks = f": probe from node {where}" if where not in (None, here) else ""
        return {"passed": None, "words": f"no namespace of this machine has {source}{asks}"}
    # What comes to a node is seen there before its fence is asked, so nobody watches for it.
    is_container = bool(packet["destination"]["network"])
    there = find_namespace(destination) if is_container else None
    with ExitStack() as stack:
        is_seen: Callable[[], bool] | None = None
        doubt = ""
        if there is not None:
            watch = stack.enter_context(open_watch(there))
            is_seen = partial(arrived, watch, source, destination, protocol, seconds=SECONDS / 4)
        elif is_container and packet["destination"]["node"] not in (None, here):
            try:
                is_seen = stack.enter_context(_distant_watch(plane, packet))
            except PhalanxError as error:
                doubt = f"; nobody watched: {error}"
        fate = _send(netns, source, target["address"], protocol, target["port"])
        try:
            if is_seen is not None:
                has_arrived = is_seen()
                word = "it arrived" if has_arrived else "it did not arrive"
                return {"passed": has_arrived, "words": f"{word}; the sender saw: {fate}"}
        except PhalanxError as error:
            doubt = f"; nobody watched: {error}"
    passed = {"connected": True, "answered": True, "filtered": False}.get(fate)
    return {"passed": passed, "words": f"the sender saw: {fate}{doubt}"}


@contextmanager
def _distant_watch(plane: str, packet: Mapping[str, Any]) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether the packet arrives on another node; both raise PhalanxError."""
    asked = {
        "node": packet["destination"]["node"],
        "source": packet["source"]["address"],
        "destination": packet["destination"]["address"],
        "protocol": packet["protocol"],
    }
    with opened(plane, f"/v1/trace/watch?{urllib.parse.urlencode(asked)}") as answered:
        # That there is an answer says that the watch has begun.

        def is_seen() -> bool:
            match answered():
                case {"arrived": bool(has_arrived)}:
                    return has_arrived
                case {"error": str(words)}:
                    raise UnavailableError(words)
                case other:
                    raise UnavailableError(f"not what a watch answers: {other}")

        yield is_seen


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
