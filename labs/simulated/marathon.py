"""A client of Marathon for benchmarks: requests, and one that goes on asking and times it."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

HOST = "127.0.0.1"
SECONDS = 120.0
PAUSE_SECONDS = 0.02
SETTLE_SECONDS = 0.1
NO_PORTS: dict[str, Any] = {"portDefinitions": [], "cpus": 0.01, "mem": 16, "cmd": "sleep 1000"}


class Client:
    """One connection to a Marathon."""

    def __init__(self, port: int) -> None:
        self._wire = http.client.HTTPConnection(HOST, port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Make one request; return status and answer."""
        data = None if body is None else json.dumps(body)
        self._wire.request(method, path, data)
        answer = self._wire.getresponse()
        said = answer.read()
        return answer.status, json.loads(said) if said else None

    def change(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - any JSON
        """Change something, waiting while too much is being deployed; return the answer."""
        while True:
            status, answer = self.ask(method, path, body)
            if status < 300:
                return answer
            if status != 403:
                raise SystemExit(f"{method} {path}: {status} {answer}")
            time.sleep(PAUSE_SECONDS)  # waits: another deployment has to end first

    def settle(self, seconds: float) -> None:
        """Wait until nothing is being deployed."""
        deadline = time.monotonic() + seconds
        while self.ask("GET", "/v2/deployments")[1]:
            if time.monotonic() > deadline:
                queue = self.ask("GET", "/v2/queue")[1]
                raise SystemExit(
                    f"not deployed after {seconds:g} s; waiting: {len(queue['queue'])}"
                )
            time.sleep(SETTLE_SECONDS)  # waits: between two looks at the deployments


@contextmanager
def asking(port: int, paths: Sequence[str]) -> Iterator[list[float]]:
    """Ask for *paths* in turn all the while; collect how long each answer took, in seconds."""
    taken: list[float] = []
    over = threading.Event()

    def run() -> None:
        client = Client(port)
        for path in cycle(paths):
            if over.wait(PAUSE_SECONDS):
                return
            began = time.monotonic()
            status, answer = client.ask("GET", path)
            taken.append(time.monotonic() - began)
            if status != 200:
                raise SystemExit(f"GET {path}: {status} {answer}")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield taken
    finally:
        over.set()
        thread.join()
