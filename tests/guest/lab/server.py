"""A task of the lab: it answers by its name over TCP and UDP, and is as healthy as it is told.

It runs in a container, where every import costs: nothing but sockets.
"""

import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial

NAME = os.environ["MESOS_TASK_ID"]
HTTP, FAIR, UDP = 80, 81, 53
healthy = threading.Event()
healthy.set()


def bound(kind: int, port: int) -> socket.socket:
    """Return a socket on that port, for both versions of IP."""
    opened = socket.socket(socket.AF_INET6, kind)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind(("::", port))
    return opened


def answer(words: Sequence[str]) -> tuple[int, str]:
    """Return the status and the body for a request line."""
    path = words[1] if len(words) > 1 else "/"
    if path == "/sick":
        healthy.clear()
    if path == "/well":
        healthy.set()
    return (503, "sick") if path == "/health" and not healthy.is_set() else (200, NAME)


def converse(opened: socket.socket) -> None:
    """Answer each request of a connection until the other side closes it."""
    with opened, opened.makefile("rwb") as file:
        while line := file.readline():
            while file.readline().strip():
                pass
            status, body = answer(line.decode().split())
            head = f"HTTP/1.1 {status} -\r\nContent-Length: {len(body) + 1}\r\n\r\n"
            file.write(f"{head}{body}\n".encode())
            file.flush()


def serve(port: int) -> None:
    """Take connections for ever."""
    listening = bound(socket.SOCK_STREAM, port)
    listening.listen(100)
    while True:
        started(partial(converse, listening.accept()[0]))


def echo(port: int) -> None:
    """Answer datagrams for ever."""
    with bound(socket.SOCK_DGRAM, port) as opened:
        while True:
            opened.sendto(f"{NAME}\n".encode(), opened.recvfrom(100)[1])


def started(work: Callable[[], None]) -> None:
    """Run *work* beside everything else."""
    threading.Thread(target=work, daemon=True).start()


started(partial(serve, FAIR))
started(partial(echo, UDP))
serve(HTTP)
