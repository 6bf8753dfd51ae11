"""``phalanx resolve``: what a name leads to, and why."""

import argparse
import json
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from phalanx.cli.client import add_plane_flag, call

NOTHING = {
    "NOERROR": "no record of this type",
    "NXDOMAIN": "no such name",
    "REFUSED": "not a name of ours, and there is no upstream",
}
STATES = ("task", "framework", "state", "healthy", "node", "node_state")


def main(arguments: Sequence[str]) -> int:
    """Print a name's records; return 0 if there are any and 1 if not."""
    parser = argparse.ArgumentParser(
        prog="phalanx resolve", description="What a name leads to on this node, and why."
    )
    add_plane_flag(parser)
    parser.add_argument("name")
    parser.add_argument("type", nargs="?", default="A", help="A, AAAA, SRV, PTR, …, ANY")
    parser.add_argument(
        "--trace",
        action="store_true",
        help="show zone, task and state behind each record, or what each upstream says",
    )
    parser.add_argument("--json", action="store_true", help="print the node's own answer")
    given = parser.parse_args(arguments)
    asked = urllib.parse.urlencode({"name": given.name, "type": given.type})
    answer = call(given.plane, "GET", f"/v1/resolve?{asked}")
    if given.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(traced(answer) if given.trace else short(answer)))
    return 0 if data_of(answer) else 1


def data_of(answer: Mapping[str, Any]) -> Sequence[str]:
    """Return what a client that asks this node gets, without types."""
    if "replies" in answer:
        ours = answer["replies"][:1]
        return [text.partition(" ")[2] for reply in ours for text in reply["answers"]]
    return [row["data"] for row in answer["answers"]]


def short(answer: Mapping[str, Any]) -> Sequence[str]:
    """Return the records alone; in their place, why there are none."""
    return data_of(answer) or [f"{answer['name']} {answer['type']}: {_nothing(answer)}"]


def traced(answer: Mapping[str, Any]) -> Iterable[str]:
    """Yield lines that say where each record comes from."""
    yield f"{answer['name']} {answer['type']}: {answer['status']}"
    if "replies" in answer:
        yield "zone: none of ours; forwarded"
        for reply in answer["replies"]:
            yield from _reply(reply)
        if not answer["replies"]:
            yield "  no upstream is configured"
        return
    alias = "" if answer["canonical"] == answer["name"] else f", there {answer['canonical']}"
    yield f"zone: {answer['zone']}{alias}"
    for row in answer["answers"]:
        yield f"  {row['type']} {row['data']}  from {_source(row['from'])}"
    if not answer["answers"]:
        yield f"  {_nothing(answer)}"
    for row in answer["left_out"]:
        yield f"  left out: {row['type']} {row['data']}  {row['reason']}: {_source(row['from'])}"
    for source in answer["unnamed"]:
        yield f"  has no name yet: {source['reason']}: {_source(source)}"
    for note in answer["notes"]:
        yield f"  note: {note}"


def _nothing(answer: Mapping[str, Any]) -> str:
    if answer["status"] == "NOERROR" and answer.get("other_types"):
        return f"no record of this type; it has {', '.join(answer['other_types'])}"
    return NOTHING.get(answer["status"]) or str(answer["status"])


def _reply(reply: Mapping[str, Any]) -> Iterable[str]:
    said = reply["error"] or reply["rcode"]
    cached = ", from its cache" if reply["from_cache"] else ""
    yield f"  {reply['server']}: {said} after {reply['milliseconds']} ms{cached}"
    for text in reply["answers"]:
        yield f"    {text}"


def _source(source: Mapping[str, Any]) -> str:
    if source["kind"] != "task":
        return " ".join(str(value) for value in source.values() if value)
    return ", ".join(f"{key} {source[key]}" for key in STATES)
