"""``phalanx vip``: virtual IPs as a node balances them, and why."""

import argparse
import json
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from phalanx.cli.client import add_plane_flag, call
from phalanx.cli.listing import print_tables


def main(arguments: Sequence[str]) -> int:
    """Run one of ``list``, ``show``, ``explain``; return the exit status.

    ``explain`` returns 1 when nobody is served by a VIP that was asked for.
    """
    parser = argparse.ArgumentParser(prog="phalanx vip", description="Virtual IPs of a node.")
    add_plane_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show every VIP and how many backends it has")
    listing.add_argument("--problems", action="store_true", help="show what is wrong with labels")
    show = verbs.add_parser("show", help="show the backends of a VIP and what went to each")
    explain = verbs.add_parser("explain", help="say why each task behind a VIP has its weight")
    for verb in (show, explain):
        verb.add_argument("name", help="web, web.marathon, web.marathon:80/tcp, 11.1.2.3 …")
    for verb in (listing, show, explain):
        verb.add_argument("--json", action="store_true", help="print the node's own answer")
    given = parser.parse_args(arguments)
    if given.verb == "list" and given.problems:
        answer = call(given.plane, "GET", "/v1/vip-problems")
    else:
        words = {"name": given.name} if given.verb != "list" else {}
        query = f"?{urllib.parse.urlencode(words)}" if words else ""
        answer = call(given.plane, "GET", f"/v1/services{query}")
    if given.json:
        print(json.dumps(answer, indent=2))
    elif given.verb == "explain":
        print("\n".join(line for vip in answer["services"] for line in explained(vip)))
    elif given.verb == "show":
        print_tables(*(_backends(vip) for vip in answer["services"]))
    elif given.problems:
        print_tables(_problems(answer["problems"]))
    else:
        print_tables(_vips(answer["services"]))
        if problems := call(given.plane, "GET", "/v1/vip-problems")["problems"]:
            print(f"labels with problems: {len(problems)}; 'vip list --problems' shows them")
    if given.verb == "explain":
        return 0 if all(vip["state"] == "serving" for vip in answer["services"]) else 1
    return 0


def explained(vip: Mapping[str, Any]) -> Iterable[str]:
    """Yield lines that say what a VIP does and why each task has its weight."""
    yield f"{_title(vip)}: {vip['state']}" + (f": {vip['reason']}" if vip["reason"] else "")
    if not vip["backends"]:
        yield "  no task is behind it"
    for backend in vip["backends"]:
        where = f"{backend['task']} on {backend['hostname'] or backend['node']}"
        yield f"  {_endpoint(backend)}  weight {backend['weight']}  {where}: {_why(backend)}"


def _why(backend: Mapping[str, Any]) -> str:
    if backend["reason"]:
        return str(backend["reason"])
    state = "it is healthy" if backend["healthy"] else "it runs"
    return f"{state}; {backend['note']}" if backend["note"] else state


def _title(vip: Mapping[str, Any]) -> str:
    host = vip["vip"] or f"{vip['name']}:{vip['port']}"
    address = f" ({vip['address']})" if vip["address"] and vip["name"] else ""
    return f"{host}/{vip['protocol']}{address}"


def _endpoint(backend: Mapping[str, Any]) -> str:
    if backend["ip"] is None:
        return "no address"
    host = f"[{backend['ip']}]" if ":" in backend["ip"] else backend["ip"]
    return f"{host}:{backend['port']}"


def _options(vip: Mapping[str, Any]) -> str:
    affinity = vip["affinity_seconds"]
    return str(vip["scheduler"]) + (f", affinity {affinity} s" if affinity else "")


def _vips(services: Iterable[Mapping[str, Any]]) -> Table:
    table = Table(
        "VIP", "protocol", "address", "backends", "scheduler", "connections", "open", "state"
    )
    for vip in services:
        serving = sum(backend["weight"] > 0 for backend in vip["backends"])
        table.add_row(
            vip["vip"] or f"{vip['name']}:{vip['port']}",
            vip["protocol"],
            vip["address"] or "",
            f"{serving}/{len(vip['backends'])}",
            _options(vip),
            str(vip["connections"]),
            str(vip["active"]),
            vip["state"] if vip["address"] else f"{vip['state']}: {vip['reason']}",
        )
    return table


def _backends(vip: Mapping[str, Any]) -> Table:
    has_bytes = any(backend["bytes_in"] is not None for backend in vip["backends"])
    table = Table(
        *("backend", "weight", "connections", "open"),
        *(("bytes in", "bytes out") if has_bytes else ()),
        *("task", "node", "why"),
        title=f"{_title(vip)}: {vip['state']}, {_options(vip)}",
        title_justify="left",
    )
    for backend in vip["backends"]:
        table.add_row(
            _endpoint(backend),
            str(backend["weight"]),
            _number(backend["connections"]),
            _number(backend["active"]),
            *((_number(backend[way]) for way in ("bytes_in", "bytes_out")) if has_bytes else ()),
            backend["task"],
            backend["hostname"] or backend["node"],
            _why(backend),
        )
    return table


def _problems(problems: Iterable[Mapping[str, Any]]) -> Table:
    table = Table("VIP", "label", "problem", "tasks")
    for each in problems:
        tasks = each["tasks"]
        more = f" and {len(tasks) - 1} more" if len(tasks) > 1 else ""
        table.add_row(
            each["vip"] or "", each["label"] or "", each["reason"], "".join(tasks[:1]) + more
        )
    return table


def _number(number: int | None) -> str:
    return "" if number is None else str(number)
