"""From the call that opens or closes a wall to the first packet that fares so, on every node."""

import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from claim import Bound, Figure
from lb_lab import cluster, deployed

from phalanx.core.netns import call_in
from phalanx.labs.demo.cluster import Cluster
from phalanx.labs.simulated.framework import quantile
from phalanx.net.isolation.witness import find_namespace

AGENTS, ROUNDS, PORT = 4, 40, 9000
GAP_SECONDS = 0.001  # between two rows of packets
QUIET_SECONDS, MOST_SECONDS = 0.3, 10.0
POLICY = {"name": "bench", "source": "role=web", "destination": "role=store",
          "protocol": "udp", "ports": str(PORT)}  # fmt: skip


def measure() -> Sequence[Figure]:
    """Send from a container to one of another network on every node of a lab, all the time."""
    opened: list[float] = []
    closed: list[float] = []
    with cluster(AGENTS, "policy") as lab, ExitStack() as stack:
        lab.master("POST", "/v1/networks", {"name": "red", "subnet": "10.140.0.0/16"})
        for name, network in (("web", "dcos"), ("store", "red")):
            deployed(lab, sleeper(name, network))
        streams = [stack.enter_context(stream(*ends)) for ends in pairs(lab)]
        for _ in range(ROUNDS):
            began = time.monotonic()
            lab.master("POST", "/v1/policies", POLICY)
            opened += [at - began for at in first_arrivals(streams)]
            began = time.monotonic()
            lab.master("DELETE", f"/v1/policies/{POLICY['name']}")
            closed += [max(at - began, 0.0) for at in last_arrivals(streams)]
    return [
        Figure(f"{word}, {share}", "s", quantile(times, part), Bound.OURS_AT_MOST, 1.0)
        for word, times in (
            (f"POST to the first packet, each of {AGENTS} nodes", opened),
            ("DELETE to the last packet, likewise", closed),
        )
        for share, part in (("median", 0.5), ("99 %", 0.99))
    ]


def sleeper(name: str, network: str) -> dict[str, object]:
    """Return an app with an instance on each node that does nothing."""
    return {
        "id": f"/{name}",
        "cmd": "exec sleep 3600",
        "instances": AGENTS,
        "cpus": 0.05,
        "mem": 16,
        "labels": {"role": name},
        "constraints": [["hostname", "UNIQUE"]],
        "networks": [{"mode": "container", "name": network}],
    }


def pairs(lab: Cluster) -> Iterator[tuple[str, str]]:
    """Yield the addresses of each node's web container and of a store's on the next node."""
    webs, stores = (
        sorted(lab.instances(name), key=lambda each: each.node) for name in ("web", "store")
    )
    for web, store in zip(webs, [*stores[1:], stores[0]], strict=True):
        yield web.address, store.address


@contextmanager
def stream(source: str, destination: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a socket in each of two containers, the first connected to the second."""
    ends = []
    for address, port in ((source, 0), (destination, PORT)):
        place = find_namespace(address)
        if place is None:
            raise SystemExit(f"no namespace has {address}")
        one = call_in(place, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        one.bind((address, port))
        one.setblocking(False)
        ends.append(one)
    with ends[0] as sender, ends[1] as receiver:
        sender.connect((destination, PORT))
        yield sender, receiver


Streams = Sequence[tuple[socket.socket, socket.socket]]


def arrivals(streams: Streams) -> Iterator[tuple[float, set[int]]]:
    """Send on all streams again and again; yield when, and on which of them packets arrived."""
    numbers = {receiver.fileno(): number for number, (_, receiver) in enumerate(streams)}
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        for sender, _ in streams:
            try:
                sender.send(b"?")
            except OSError:
                continue  # the refusal of an earlier one
        ready, _, _ = select.select(list(numbers), [], [], GAP_SECONDS)
        for descriptor in ready:
            streams[numbers[descriptor]][1].recv(16)
        yield time.monotonic(), {numbers[each] for each in ready}
    raise SystemExit("a change is not in force everywhere")


def first_arrivals(streams: Streams) -> list[float]:
    """Return when a packet first came through each stream."""
    found: dict[int, float] = {}
    for at, numbers in arrivals(streams):
        for number in numbers:
            found.setdefault(number, at)
        if len(found) == len(streams):
            return list(found.values())
    return []


def last_arrivals(streams: Streams) -> list[float]:
    """Return when a packet last came through each stream."""
    found = dict.fromkeys(range(len(streams)), time.monotonic())
    for at, numbers in arrivals(streams):
        found |= dict.fromkeys(numbers, at)
        if all(at - last > QUIET_SECONDS for last in found.values()):
            break
    return list(found.values())
