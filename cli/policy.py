"""``phalanx policy``: what may pass the walls between networks, and what may not."""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from phalanx.cli.client import add_master_flag, call
from phalanx.cli.listing import print_tables
from phalanx.core.error import InvalidError

FIELDS = (
    *("name", "source", "destination", "protocol", "ports"),
    *("reason", "tier", "action", "direction"),
)
END = "a network, a prefix, a label such as role=db, an app such as /prod/web, or any"


def main(arguments: Sequence[str]) -> int:
    """Run one of ``list``, ``show``, ``add``, ``remove``, ``apply``; return the exit status.

    ``allow`` is ``add``, as it was called when policies only allowed.
    """
    parser = argparse.ArgumentParser(prog="phalanx policy", description="Isolation rules.")
    add_master_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show every policy, in the order of asking")
    listing.add_argument("--json", action="store_true", help="print the registry's own answer")
    show = verbs.add_parser("show", help="show one policy")
    show.add_argument("name")
    add = verbs.add_parser("add", aliases=["allow"], help="let flows through, or deny them")
    add.add_argument("name")
    add.add_argument("source", help=END)
    add.add_argument("destination", help="likewise")
    add.add_argument("ports", nargs="?", default="", help="5432, 80,8000-8010 or any")
    protocols = ("tcp", "udp", "sctp", "icmp", "icmpv6", "any")
    add.add_argument("--protocol", choices=protocols, default="tcp")
    add.add_argument("--reason", default="", help="why, for whoever reads it later")
    add.add_argument("--tier", choices=("network", "cluster"), default="network")
    add.add_argument("--deny", dest="action", action="store_const", const="deny", default="allow")
    add.add_argument("--direction", choices=("both", "egress", "ingress"), default="both")
    add.add_argument("--replace", action="store_true", help="also if there is one of the name")
    remove = verbs.add_parser("remove", help="take a policy back")
    remove.add_argument("name")
    apply = verbs.add_parser("apply", help="put a file in the place of all policies, at once")
    apply.add_argument("file", help="JSON or TOML with a list of policies; - for standard input")
    apply.add_argument("--tier", choices=("network", "cluster"), help="of those of one tier")
    given = parser.parse_args(arguments)
    match given.verb:
        case "list":
            _list(given.master, as_json=given.json)
        case "show":
            print(json.dumps(call(given.master, "GET", f"/v1/policies/{given.name}"), indent=2))
        case "add" | "allow":
            _add(given)
        case "apply":
            _apply(given)
        case _:
            call(given.master, "DELETE", f"/v1/policies/{given.name}")
            print(f"policy {given.name}: removed")
    return 0


def read_document(file: str) -> Mapping[str, Any]:
    """Return the document in a file, as ``PUT /v1/policies`` takes it.

    It is JSON or TOML; a JSON list is the list of policies. Raises InvalidError.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
        value = tomllib.loads(text) if file.endswith(".toml") else json.loads(text)
    except (OSError, ValueError) as error:
        raise InvalidError(f"{file}: {error}") from error
    if isinstance(value, list):
        return {"policies": value}
    if not isinstance(value, dict):
        raise InvalidError(f"{file}: neither a list of policies nor an object with one")
    return value


def _add(given: argparse.Namespace) -> None:
    body = {key: getattr(given, key) for key in FIELDS}
    if given.replace:
        call(given.master, "PUT", f"/v1/policies/{given.name}", body)
        print(f"policy {given.name}: in place")
    else:
        call(given.master, "POST", "/v1/policies", body)
        print(f"policy {given.name}: added")


def _apply(given: argparse.Namespace) -> None:
    query = f"?tier={given.tier}" if given.tier else ""
    answer = call(given.master, "PUT", f"/v1/policies{query}", read_document(given.file))
    for word, names in answer.items():
        for name in names:
            print(f"policy {name}: {word}")
    if not any(answer.values()):
        print("nothing to change")


def _list(master: str, *, as_json: bool) -> None:
    answer = call(master, "GET", "/v1/policies")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    columns = ("policy", "tier", "action", "source", "destination", "protocol", "ports", "reason")
    table = Table(*columns)
    for policy in answer["policies"]:
        direction = policy["direction"]
        action = policy["action"] + ("" if direction == "both" else f" {direction}")
        values = {**policy, "policy": policy["name"], "action": action}
        table.add_row(*(values[column] for column in columns))
    print_tables(table)
