"""``phalanx network``: virtual networks of a cluster."""

import argparse
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from phalanx.cli.client import add_master_flag, call


def main(arguments: Sequence[str]) -> int:
    """Run one of ``list``, ``create``, ``delete``; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx network", description="Virtual networks.")
    add_master_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="show every network and which node has which subnet")
    listing.add_argument("--json", action="store_true", help="print the registry's own answer")
    create = verbs.add_parser("create", help="make a network; every agent is leased a subnet")
    create.add_argument("name")
    create.add_argument("subnet", help="for example 9.1.0.0/16")
    create.add_argument("--prefix", type=int, default=24, help="length of each agent's subnet")
    create.add_argument("--mtu", type=int, default=1450)
    create.add_argument("--open", action="store_true", help="no wall towards other open networks")
    delete = verbs.add_parser("delete", help="remove a network that nobody uses")
    delete.add_argument("name")
    given = parser.parse_args(arguments)
    if given.verb == "list":
        _list(given.master, as_json=given.json)
    elif given.verb == "create":
        body = {
            "name": given.name,
            "subnet": given.subnet,
            "prefix": given.prefix,
            "mtu": given.mtu,
            "isolated": not given.open,
        }
        made = call(given.master, "POST", "/v1/networks", body)
        print(f"network {made['name']}: {made['subnet']}, VNI {made['vni']}")
    else:
        call(given.master, "DELETE", f"/v1/networks/{given.name}")
        print(f"network {given.name}: deleted")
    return 0


def _list(master: str, *, as_json: bool) -> None:
    answer = call(master, "GET", "/v1/networks")
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    table = Table("network", "subnet", "VNI", "MTU", "isolated", "leases")
    for network in answer["networks"]:
        leases = "\n".join(f"{lease['node']}  {lease['subnet']}" for lease in network["leases"])
        table.add_row(
            network["name"],
            network["subnet"],
            str(network["vni"]),
            str(network["mtu"]),
            "yes" if network["isolated"] else "no",
            leases,
        )
    Console().print(table)
