"""``phalanx policy``: what the walls between networks let through."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from phalanx.cli.client import add_master_flag, call


def main(arguments: Sequence[str]) -> int:
    """Run one of ``list``, ``allow``, ``remove``; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx policy", description="Isolation rules.")
    add_master_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show every rule")
    listing.add_argument("--json", action="store_true", help="print the registry's own answer")
    allow = verbs.add_parser("allow", help="let new connections through, in one direction")
    allow.add_argument("name")
    allow.add_argument("source", help="a network's name or a prefix")
    allow.add_argument("destination", help="a network's name or a prefix")
    allow.add_argument("ports", help="5432 or 8000-8010")
    allow.add_argument("--protocol", choices=("tcp", "udp"), default="tcp")
    allow.add_argument("--reason", default="", help="why, for whoever reads it later")
    remove = verbs.add_parser("remove", help="close what a rule had opened")
    remove.add_argument("name")
    given = parser.parse_args(arguments)
    if given.verb == "list":
        _list(given.master, as_json=given.json)
    elif given.verb == "allow":
        fields = ("name", "source", "destination", "protocol", "ports", "reason")
        call(given.master, "POST", "/v1/policies", {key: getattr(given, key) for key in fields})
        print(f"policy {given.name}: added")
    else:
        call(given.master, "DELETE", f"/v1/policies/{given.name}")
        print(f"policy {given.name}: removed")
    return 0


def _list(master: str, *, as_json: bool) -> None:
    answer = call(master, "GET", "/v1/policies")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    table = Table("policy", "source", "destination", "protocol", "ports", "reason")
    for policy in answer["policies"]:
        table.add_row(
            policy["name"],
            policy["source"],
            policy["destination"],
            policy["protocol"],
            policy["ports"],
            policy["reason"],
        )
    Console().print(table)
