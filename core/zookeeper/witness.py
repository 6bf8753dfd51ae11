"""End the ZooKeeper session of a process that has died, and its candidacy with it, at once.

A program of its own, with nothing but the standard library, that reads from its
standard input what the session is. The end of that input means that the process
is dead, however it died: nobody else holds the other end. A process that is
stopped, or cut off, is not dead, and its session is left to the servers' clock.
"""

import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

CLOSE = -11  # OpCode.closeSession of ZooKeeper
ASK_SECONDS = 1.0  # for one server to answer
TRY_SECONDS = 3.0  # after which the servers' clock must do
PAUSE_SECONDS = 0.05


class Session(NamedTuple):
    """A session, and the servers that know it."""

    id: int
    password: bytes
    milliseconds: int
    servers: Sequence[tuple[str, int]]


def to_line(session: Session | None) -> str:
    """Return the line that tells a session, or that there is none to end."""
    if session is None:
        return "-\n"
    servers = " ".join(f"{host}|{port}" for host, port in session.servers)
    return f"{session.id} {session.password.hex()} {session.milliseconds} {servers}\n"


def from_line(line: str) -> Session | None:
    """Return the session that a line tells."""
    if line.strip() == "-":
        return None
    number, password, milliseconds, *servers = line.split()
    places = [server.rpartition("|") for server in servers]
    return Session(
        int(number),
        bytes.fromhex(password),
        int(milliseconds),
        [(host, int(port)) for host, _, port in places],
    )


def end(session: Session) -> bool:
    """End a session; tell whether a server said that it is over."""
    give_up = time.monotonic() + TRY_SECONDS
    while True:
        for server in session.servers:
            with suppress(OSError, struct.error):
                _end_at(server, session)
                return True
        if time.monotonic() > give_up:
            return False
        time.sleep(PAUSE_SECONDS)  # waits: between two looks for a server that answers


def _end_at(server: tuple[str, int], session: Session) -> None:
    """Take the session over and close it; one that is over already has the id 0."""
    with socket.create_connection(server, timeout=ASK_SECONDS) as connection:
        connection.sendall(
            _framed(
                struct.pack("!iqiq", 0, 0, session.milliseconds, session.id)
                + struct.pack("!i", len(session.password))
                + session.password
                + b"\0"
            )
        )
        granted = _answer(connection)
        _, _, id = struct.unpack_from("!iiq", granted)
        if id == 0:
            return
        connection.sendall(_framed(struct.pack("!ii", 1, CLOSE)))
        _answer(connection)


def _framed(body: bytes) -> bytes:
    return struct.pack("!i", len(body)) + body


def _answer(connection: socket.socket) -> bytes:
    (length,) = struct.unpack("!i", _exactly(connection, 4))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    read = b""
    while len(read) < length:
        more = connection.recv(length - len(read))
        if not more:
            raise ConnectionResetError("the server has closed the connection")
        read += more
    return read


def main() -> None:
    """Follow what standard input says; when it ends, end the session that it told last."""
    # Whoever ends a service signals all of it: we leave when the process has, not before.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    session = None
    for line in sys.stdin:
        session = from_line(line)
    if session is not None:
        end(session)
    os._exit(0)


if __name__ == "__main__":
    main()
