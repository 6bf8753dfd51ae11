"""``phalanx network check``: what a change of policies would open and close; changes nothing."""

import argparse
import json
import urllib.request
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from phalanx.cli.client import TIMEOUT_SECONDS
from phalanx.cli.policy import read_document
from phalanx.core.error import InvalidError, UnavailableError
from phalanx.master.network.policy import PolicyDocument, parse_tier
from phalanx.master.network.policy import read_document as read_policies
from phalanx.net.feed.record import Heartbeat, Numbered, after, decode
from phalanx.net.isolation.compare import Effect, compare
from phalanx.net.model.view import View


def add_check(verbs: Any) -> None:  # noqa: ANN401 - argparse's class is private
    """Add the verb to those of ``phalanx network``."""
    check = verbs.add_parser("check", help="say what a file of policies would open and close")
    check.add_argument("file", help="as phalanx policy apply takes it; - for standard input")
    check.add_argument("--tier", choices=("network", "cluster"), help="of those of one tier")
    check.add_argument("--json", action="store_true", help="print it as JSON")


def check(given: argparse.Namespace) -> int:
    """Print what would pass and does not, and the other way round; return 0."""
    try:
        document = msgspec.convert(read_document(given.file), PolicyDocument)
    except msgspec.ValidationError as error:
        raise InvalidError(f"{given.file}: {error}") from error
    view = read_view(given.master)
    tier = None if given.tier is None else parse_tier(given.tier)
    policies = read_policies(document, view.policies, view.networks, tier=tier)
    effects = compare(view, msgspec.structs.replace(view, policies=policies))
    if given.json:
        print(json.dumps([_json(effect) for effect in effects], indent=2))
    elif not effects:
        print("nothing that runs or may run now would fare otherwise")
    else:
        table = Table("", "source", "destination", "protocol", "ports", "because")
        for effect in effects:
            row = _json(effect)
            table.add_row(*(row[key] for key in ROW))
        Console().print(table)
    return 0


PATH = "/v1/feed"
ROW = ("change", "source", "destination", "protocol", "ports", "because")


def _json(effect: Effect) -> dict[str, str]:
    policy = effect.verdict.policy
    because = effect.verdict.reason if policy is None else f"{policy.name}: {effect.verdict.reason}"
    return {
        "change": effect.word,
        "source": effect.source,
        "destination": effect.destination,
        "protocol": effect.protocol,
        "ports": "" if effect.ports is None else "{}-{}".format(*effect.ports),
        "because": because,
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
