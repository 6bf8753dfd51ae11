"""``phalanx network check``: what a change of policies and networks would open and close.

It changes nothing.
"""

import argparse
import json
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from rich.table import Table

from phalanx.cli.client import TIMEOUT_SECONDS
from phalanx.cli.listing import print_tables
from phalanx.cli.policy import read_document
from phalanx.core.error import ConflictError, InvalidError, UnavailableError
from phalanx.master.network.definition import (
    Ground,
    NetworkChange,
    NetworkSpec,
    changed_network,
    new_network,
)
from phalanx.master.network.policy import PolicyDocument, PolicySpec, parse_tier
from phalanx.master.network.policy import read_document as read_policies
from phalanx.net.feed.record import Heartbeat, Numbered, after, decode
from phalanx.net.isolation.compare import Effect, compare
from phalanx.net.model.objects import Network
from phalanx.net.model.selector import App, Label, container_addresses, parse_selector
from phalanx.net.model.view import View
from phalanx.net.nft.element import render_ports


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked about: all policies as they shall be, if given, and changes of networks."""

    policies: tuple[PolicySpec, ...] | None = None
    networks: tuple[dict[str, Any], ...] = ()


def add_check(verbs: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add the verb to those of ``phalanx network``."""
    check = verbs.add_parser("check", help="say what a file would open and close")
    check.add_argument(
        "file",
        help="policies as phalanx policy apply takes them, and a list of networks: new ones,"
        ' what is to be otherwise of those there are, or "delete": true; - for standard input',
    )
    check.add_argument("--tier", choices=("network", "cluster"), help="of those of one tier")
    check.add_argument("--json", action="store_true", help="print it as JSON")


def check(given: argparse.Namespace) -> int:
    """Print what would pass and does not, and the other way round; return 0."""
    try:
        document = msgspec.convert(read_document(given.file), Document)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{given.file}: {error}") from error
    view = read_view(given.master)
    tier = None if given.tier is None else parse_tier(given.tier)
    networks = changed_networks(view, document.networks)
    policies = view.policies
    if document.policies is not None:
        wanted = PolicyDocument(document.policies)
        policies = read_policies(wanted, view.policies, networks, tier=tier)
    after = msgspec.structs.replace(view, networks=networks, policies=policies)
    effects = compare(view, after)
    if given.json:
        print(json.dumps([_json(effect) for effect in effects], indent=2))
    elif not effects:
        print("nothing that runs or may run now would fare otherwise")
    else:
        table = Table("", "source", "destination", "protocol", "ports", "because")
        for effect in effects:
            row = _json(effect)
            table.add_row(*(row[key] for key in ROW))
        print_tables(table)
    if not given.json:
        for text, names in idle_selectors(view, after).items():
            print(f"{text}, of policy {', '.join(names)}, selects nothing that runs now")
    return 0


def idle_selectors(before: View, after: View) -> Mapping[str, Sequence[str]]:
    """Return labels and apps that select no container, with the new policies that name them."""
    found: dict[str, list[str]] = {}
    for name, policy in after.policies.items():
        if before.policies.get(name) == policy:
            continue
        for text in dict.fromkeys((policy.source, policy.destination)):
            selector = parse_selector(text)
            if isinstance(selector, Label | App) and not any(
                selector.matches(task) and any(container_addresses(task, after))
                for task in after.tasks.values()
            ):
                found.setdefault(text, []).append(name)
    return found


PATH = "/v1/feed"
ROW = ("change", "source", "destination", "protocol", "ports", "because")


def changed_networks(view: View, changes: Sequence[Mapping[str, Any]]) -> Mapping[str, Network]:
    """Return the networks of *view* after *changes*; raise InvalidError or ConflictError.

    One that tasks are on can't be deleted. Where VIPs lie in this cluster is the
    master's to know: that is not looked at.
    """
    found = dict(view.networks)
    nodes = [node.address for node in view.nodes.values()]
    for number, change in enumerate(changes):
        name = change.get("name")
        try:
            if change.get("delete") is True:
                if name not in found:
                    raise InvalidError(f"no network {name!r} to delete")
                if using := users(view, name):
                    raise ConflictError(f"network {name!r} is used by {using}")
                del found[name]
            elif name in found:
                rest = {key: value for key, value in change.items() if key != "name"}
                leases = [each for each in view.subnets.values() if each.network == name]
                found[name] = changed_network(
                    found[name],
                    msgspec.convert(rest, NetworkChange),
                    found,
                    ground=Ground(),
                    nodes=nodes,
                    leases=leases,
                )
            else:
                spec = msgspec.convert(change, NetworkSpec)
                found[spec.name] = new_network(spec, found, ground=Ground(), nodes=nodes)
        except (msgspec.ValidationError, InvalidError) as error:
            raise InvalidError(f"networks[{number}]: {error}") from error
        except ConflictError as error:
            raise ConflictError(f"networks[{number}]: {error}") from error
    return found


def users(view: View, network: str) -> str:
    """Return the names of the tasks on a network, and how many they are; empty when none is."""
    tasks = [t.name for t in view.tasks.values() if network in (*t.networks, *t.networks6)]
    names = sorted(set(tasks))
    more = ", …" if len(names) > 10 else ""
    return f"{', '.join(names[:10])}{more}: {len(tasks)} in all" if tasks else ""


def _json(effect: Effect) -> dict[str, str]:
    policy = effect.verdict.policy
    because = effect.verdict.reason
    if policy is not None:
        because = f"policy {policy.name}" + (f": {policy.reason}" if policy.reason else "")
    return {
        "change": effect.word,
        "source": effect.source,
        "destination": effect.destination,
        "protocol": effect.protocol,
        "ports": "" if effect.ports is None else render_ports(*effect.ports),
        "because": because,
        "policy": "" if policy is None else policy.name,
        "tier": "" if policy is None else policy.tier.value,
    }


def read_view(master: str) -> View:
    """Return the View that a master publishes; raise UnavailableError."""
    numbered: Numbered | None = None
    try:
        with urllib.request.urlopen(f"{master}{PATH}?once=yes", timeout=TIMEOUT_SECONDS) as answer:
            while length := answer.readline():
                record = decode(answer.read(int(length)))
                if isinstance(record, Heartbeat):
                    break  # of a master that tells news for ever
                numbered = after(numbered, record)
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{master}: {getattr(error, 'reason', error)}") from error
    if numbered is None:
        raise UnavailableError(f"{master}: it knows no cluster yet")
    return numbered.view
