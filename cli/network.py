"""``phalanx network``: virtual networks of a cluster."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from phalanx.cli.check import add_check, check
from phalanx.cli.client import add_master_flag, call
from phalanx.cli.listing import print_tables


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit status."""
    parser = argparse.ArgumentParser(prog="phalanx network", description="Virtual networks.")
    add_master_flag(parser)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_readers(verbs)
    _add_writers(verbs)
    add_check(verbs)
    given = parser.parse_args(arguments)
    run = {
        "list": _list,
        "check": check,
        "show": _show,
        "create": _create,
        "change": _change,
        "delete": _delete,
    }[given.verb]
    return run(given)


def _add_readers(verbs: Any) -> None:  # noqa: ANN401 - argparse's class is private
    listing = verbs.add_parser("list", help="show every network")
    listing.add_argument("--json", action="store_true", help="print the registry's own answer")
    show = verbs.add_parser("show", help="show one network, and which node is leased what of it")
    show.add_argument("name")
    show.add_argument("--json", action="store_true", help="print the registry's own answer")


def _add_writers(verbs: Any) -> None:  # noqa: ANN401 - as above
    create = verbs.add_parser("create", help="make a network; every agent is leased a part of it")
    create.add_argument("name")
    create.add_argument("subnet", nargs="+", help="9.1.0.0/16, fd00:1::/64, or one of each")
    create.add_argument("--vni", type=int, help="number on the wire (default: the lowest free)")
    change = verbs.add_parser("change", help="change what is given, while containers run")
    change.add_argument("name")
    change.add_argument("--subnet", help="a subnet around all that is leased; none to remove it")
    change.add_argument("--subnet6", help="the same of IPv6")
    wall = change.add_mutually_exclusive_group()
    wall.add_argument("--isolated", action="store_true", help="wall it off from other networks")
    for parser, walls in ((create, create), (change, wall)):
        parser.add_argument("--prefix", type=int, help="length of each agent's IPv4 subnet")
        parser.add_argument("--prefix6", type=int, help="length of each agent's IPv6 subnet")
        parser.add_argument("--mtu", type=int)
        walls.add_argument("--open", action="store_true", help="no wall towards other open ones")
    delete = verbs.add_parser("delete", help="remove a network that nobody uses")
    delete.add_argument("name")


def _create(given: argparse.Namespace) -> int:
    body = _given(given, "name", "prefix", "prefix6", "mtu", "vni")
    for subnet in given.subnet:
        field = "subnet6" if ":" in subnet else "subnet"
        if field in body:
            print(f"{field}: {body[field]} and {subnet}: a network has one of each kind")
            return 2
        body[field] = subnet
    made = call(given.master, "POST", "/v1/networks", {**body, "isolated": not given.open})
    print(f"network {made['name']}: {_subnets(made)}, VNI {made['vni']}")
    return 0


def _change(given: argparse.Namespace) -> int:
    body = _given(given, "subnet", "subnet6", "prefix", "prefix6", "mtu")
    body |= {key: None for key in ("subnet", "subnet6") if body.get(key) == "none"}
    if given.isolated or given.open:
        body["isolated"] = given.isolated
    if not body:
        print("nothing to change is given")
        return 2
    made = call(given.master, "PATCH", f"/v1/networks/{given.name}", body)
    walls = "isolated" if made["isolated"] else "open"
    print(f"network {made['name']}: {_subnets(made)}, MTU {made['mtu']}, {walls}")
    return 0


def _delete(given: argparse.Namespace) -> int:
    call(given.master, "DELETE", f"/v1/networks/{given.name}")
    print(f"network {given.name}: deleted")
    return 0


def _list(given: argparse.Namespace) -> int:
    answer = call(given.master, "GET", "/v1/networks")
    if given.json:
        print(json.dumps(answer, indent=2))
        return 0
    table = Table("network", "subnet", "VNI", "MTU", "isolated", "leases")
    for network in answer["networks"]:
        table.add_row(
            network["name"],
            "\n".join(_each(network)),
            str(network["vni"]),
            str(network["mtu"]),
            "yes" if network["isolated"] else "no",
            "\n".join(_leases(network)),
        )
    print_tables(table)
    return 0


def _show(given: argparse.Namespace) -> int:
    network = call(given.master, "GET", f"/v1/networks/{given.name}")
    if given.json:
        print(json.dumps(network, indent=2))
        return 0
    walls = "isolated" if network["isolated"] else "open"
    print(f"network {network['name']}: VNI {network['vni']}, MTU {network['mtu']}, {walls}")
    for field, length in (("subnet", "prefix"), ("subnet6", "prefix6")):
        if network[field] is not None:
            print(f"  {network[field]}, a /{network[length]} for each agent")
    for lease in _leases(network):
        print(f"  {lease}")
    return 0


def _given(given: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the arguments of these *names* that were given."""
    return {name: value for name in names if (value := getattr(given, name)) is not None}


def _each(item: Mapping[str, Any]) -> list[str]:
    return [item[field] for field in ("subnet", "subnet6") if item[field] is not None]


def _subnets(network: Mapping[str, Any]) -> str:
    return ", ".join(_each(network))


def _leases(network: Mapping[str, Any]) -> list[str]:
    return [f"{lease['node']}  {', '.join(_each(lease))}" for lease in network["leases"]]
