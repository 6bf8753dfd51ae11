"""CPU of short connections, by a VIP and without: both ends in one thread, block by block in turns.

The kernel does the work of a packet in the thread that sends it, so the
thread's own CPU time holds all of a connection's cost. What else the machine
does hardly shows in the least of many blocks.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from phalanx.core.netns import call_in

BLOCKS, CONNECTIONS = 30, 150
BACKLOG = 4096

Ends = tuple[str, int]


def connection_cpu(
    client: Path, server: Path, ways: dict[str, tuple[int, Ends]]
) -> dict[str, float]:
    """Return the CPU µs of a connection with one exchange by each way: its port, whom to call."""
    listening = {
        way: call_in(server, _listener(port)) for way, (port, _) in ways.items()
    }  # each its own: they must not share connections' ports

    def work() -> dict[str, float]:
        least = dict.fromkeys(ways, float("inf"))
        for _ in range(BLOCKS):
            for way, (_, at) in ways.items():
                least[way] = min(least[way], _block(listening[way], at))
        return least

    try:
        return call_in(client, work)
    finally:
        for each in listening.values():
            each.close()


def _listener(port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_server(("", port), backlog=BACKLOG)


def _block(listening: socket.socket, at: Ends) -> float:
    began = time.thread_time()
    for _ in range(CONNECTIONS):
        with socket.create_connection(at) as asking:
            answering, _ = listening.accept()
            with answering:
                asking.sendall(b"?")
                answering.recv(1)
                answering.sendall(b"!")
                asking.recv(1)
    return (time.thread_time() - began) / CONNECTIONS * 1e6
