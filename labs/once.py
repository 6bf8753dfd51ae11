"""Run one command on a cluster and show what it wrote: a whole framework in the standard library.

    python3 labs/once.py MASTER COMMAND

MASTER is HOST:PORT of a Mesos master, ours or another's. It needs nothing of Phalanx.
"""

import http.client
import json
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

API = "/api/v1/scheduler"
ENDS = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST")
RESOURCES = [
    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
    {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
]


def post(master: str, call: Json, stream: str | None = None) -> http.client.HTTPResponse:
    """Send a call; its answer is open, and is a stream of events for SUBSCRIBE."""
    wire = http.client.HTTPConnection(master)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if stream is not None:
        headers["Mesos-Stream-Id"] = stream
    wire.request("POST", API, json.dumps(call), headers)
    response = wire.getresponse()
    if response.status not in (200, 202):
        raise SystemExit(f"{call['type']}: {response.status} {response.read().decode()}")
    return response


def events(response: http.client.HTTPResponse) -> Iterator[Json]:
    """Yield the events of a stream: each is its length, a line feed and JSON."""
    while length := response.readline():
        yield json.loads(response.read(int(length)))


def show(offer: Json, framework: str, task: str) -> None:
    """Print what a task wrote, as its agent shows it."""
    address = offer["url"]["address"]
    path = f"/frameworks/{framework}/executors/{task}/runs/latest/stdout"
    wire = http.client.HTTPConnection(address["ip"], address["port"])
    wire.request("GET", "/files/download?path=" + urllib.parse.quote(path))
    print(wire.getresponse().read().decode(), end="")


def main(master: str, command: str) -> int:
    """Subscribe, launch on the first offer, follow the task to its end, and leave."""
    info = {"user": "root", "name": "once"}
    stream = post(master, {"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
    stream_id = stream.getheader("Mesos-Stream-Id")
    offer: Json = {}
    for event in events(stream):
        match event["type"]:
            case "SUBSCRIBED":
                framework = event["subscribed"]["framework_id"]
            case "OFFERS" if not offer:
                offer = event["offers"]["offers"][0]
                task = {
                    "name": "once",
                    "task_id": {"value": "once"},
                    "agent_id": offer["agent_id"],
                    "resources": RESOURCES,
                    "command": {"value": command},
                }
                launch = {"type": "LAUNCH", "launch": {"task_infos": [task]}}
                accept = {"offer_ids": [offer["id"]], "operations": [launch]}
                call: Json = {"type": "ACCEPT", "framework_id": framework, "accept": accept}
                post(master, call, stream_id)
            case "UPDATE":
                status = event["update"]["status"]
                print(status["state"], status.get("message", ""), file=sys.stderr)
                if "uuid" in status:
                    told = {name: status[name] for name in ("agent_id", "task_id", "uuid")}
                    call = {"type": "ACKNOWLEDGE", "framework_id": framework, "acknowledge": told}
                    post(master, call, stream_id)
                if status["state"] in ENDS:
                    show(offer, framework["value"], "once")
                    post(master, {"type": "TEARDOWN", "framework_id": framework}, stream_id)
                    return 0 if status["state"] == "TASK_FINISHED" else 1
            case "ERROR":
                raise SystemExit(event["error"]["message"])
    raise SystemExit("the master ended the stream")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
