"""``phalanx trace``: what happens to a packet between two ends, and who decides."""

import argparse
import json
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from phalanx.cli.client import add_plane_flag, call
from phalanx.cli.probe import probe

PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
END = "a task, an app, a node or an address"


def main(arguments: Sequence[str]) -> int:
    """Print what decides about each packet; return 0 if all pass, else 1.

    With ``--probe`` also 1 when a real packet fares otherwise.
    """
    parser = argparse.ArgumentParser(
        prog="phalanx trace",
        description="Which table, element and policy decide about a packet. Sends nothing, but"
        " with --probe.",
    )
    add_plane_flag(parser)
    parser.add_argument("source", help=END)
    parser.add_argument("destination", help=f"{END}, or a VIP by name or address")
    parser.add_argument("port", nargs="?", default="", help="of the destination")
    parser.add_argument(
        "--protocol", choices=("tcp", "udp", "sctp", "icmp", "icmpv6"), default=None,
        help="default: tcp with a port, else icmp",
    )  # fmt: skip
    parser.add_argument(
        "--probe",
        action="store_true",
        help="send one packet from the source's own namespace, on this machine, and watch for it"
        " in the destination's, on whichever node it is",
    )
    parser.add_argument("--json", action="store_true", help="print the node's own answer")
    given = parser.parse_args(arguments)
    protocol = given.protocol or ("tcp" if given.port else "icmp")
    asked = {
        "source": given.source,
        "destination": given.destination,
        "protocol": protocol,
        "port": given.port,
    }
    answer = call(given.plane, "GET", f"/v1/trace?{urllib.parse.urlencode(asked)}")
    agree = True
    if given.probe:
        for packet in answer["packets"]:
            packet["probe"] = probe(packet, plane=given.plane, here=answer["node"])
            agree &= packet["probe"]["passed"] in (None, packet["allowed"])
    if given.json:
        print(json.dumps(answer, indent=2))
    else:
        for packet in answer["packets"]:
            print("\n".join(told(packet)))
    return 0 if agree and all(packet["allowed"] for packet in answer["packets"]) else 1


def told(packet: Mapping[str, Any]) -> Iterator[str]:
    """Yield a packet's story, a line each."""
    source, destination = packet["source"], packet["destination"]
    port = f" port {packet['port']}" if packet["port"] else ""
    protocol = PROTOCOLS.get(packet["protocol"], f"protocol {packet['protocol']}")
    yield f"{_end(source)} -> {_end(destination)}, {protocol}{port}"
    if packet["vip"]:
        yield f"  VIP {packet['vip']} leads here"
    if packet["mapped"]:
        yield f"  mapped port {packet['mapped']} leads here"
    for hop in packet["hops"]:
        yield f"  node {hop['node']}, {hop['table']}, {hop['hook']}:"
        for step in hop["steps"]:
            found = "nothing" if step["element"] is None else f"{{ {step['element']} }}"
            yield f"    {step['set']}: {found}: {step['meaning']}{_seen(step)}"
        if hop["reason"] is not None:
            yield f"    {'passes' if hop['passes'] else 'refused'}: {_because(hop)}"
        if hop["unread"] is not None:
            yield f"    its kernel was not asked: {hop['unread']}"
    word = "passes" if packet["allowed"] else "REFUSED"
    yield f"  {word}: {_because(packet)}"
    if "probe" in packet:
        fate = packet["probe"]["passed"]
        agrees = "" if fate in (None, packet["allowed"]) else ": NOT AS TRACED"
        yield f"  probe: {packet['probe']['words']}{agrees}"


def _because(said: Mapping[str, Any]) -> str:
    """Return who decides, and why if he says so."""
    if said["policy"] is None:
        return str(said["reason"])
    reason = "" if said["reason"] == f"policy {said['policy']}" else f": {said['reason']}"
    return f"policy {said['policy']} of tier {said['tier']}{reason}"


def _end(end: Mapping[str, Any]) -> str:
    parts = [end["address"]]
    if end["task"]:
        parts.append(f"task {end['task']}")
    if end["network"]:
        parts.append(f"network {end['network']}")
    if end["node"]:
        parts.append(f"node {end['node']}")
    return f"{parts[0]} ({', '.join(parts[1:])})" if parts[1:] else parts[0]


def _seen(step: Mapping[str, Any]) -> str:
    if step["in_kernel"] is None:
        return ""
    return " (in the kernel)" if step["in_kernel"] else " (NOT IN THE KERNEL)"
