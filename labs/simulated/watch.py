"""``python -m phalanx.labs.simulated.watch``: one look after another at an app of a Marathon.

A process of its own, so that nothing else takes its turns. It looks until its
standard input ends, then prints one JSON list: for each look when it was sent
and answered, by the machine's monotonic clock, how many tasks were healthy then,
and how many there were.
"""

import argparse
import http.client
import json
import threading
import time

import msgspec

HOST = "127.0.0.1"
SECONDS = 10.0


class _App(msgspec.Struct, rename="camel"):
    tasks_healthy: int
    tasks_running: int
    tasks_staged: int


class _Apps(msgspec.Struct):
    apps: list[_App]


_READ = msgspec.json.Decoder(_Apps)

Look = tuple[float, float, int, int]  # sent, answered, healthy, there


def watch(port: int, app: str, every_seconds: float, over: threading.Event) -> list[Look]:
    """Look at *app* every so many seconds until *over*; a look that is late shifts the next."""
    wire = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    looks: list[Look] = []
    due = time.monotonic()
    while not over.wait(max(0.0, due - time.monotonic())):
        sent = time.monotonic()
        due = max(due + every_seconds, sent)
        # The list has counts alone; one app by itself comes with all its tasks.
        wire.request("GET", f"/v2/apps?id={app}&embed=apps.counts")
        (found,) = _READ.decode(wire.getresponse().read()).apps
        there = found.tasks_running + found.tasks_staged
        looks.append((sent, time.monotonic(), found.tasks_healthy, there))
    return looks


def main() -> None:
    """Look until standard input ends, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--app", required=True)
    parser.add_argument("--every", type=float, required=True, help="seconds between two looks")
    arguments = parser.parse_args()
    over = threading.Event()
    threading.Thread(target=_await_end, args=(over,), daemon=True).start()
    print(json.dumps(watch(arguments.port, arguments.app, arguments.every, over)))


def _await_end(over: threading.Event) -> None:
    with open(0, "rb") as ended:
        ended.read()
    over.set()


if __name__ == "__main__":
    main()
