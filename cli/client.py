"""Calls of the command line to a master's registry, without an event loop."""

import argparse
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from phalanx.core.error import UnavailableError

TIMEOUT_SECONDS = 10.0


def add_master_flag(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take where the master is, from ``--master`` or ``PHALANX_MASTER``."""
    parser.add_argument(
        "--master",
        metavar="URL",
        default=os.environ.get("PHALANX_MASTER", "http://127.0.0.1:5050"),
        help="a master's HTTP address (default: $PHALANX_MASTER or http://127.0.0.1:5050)",
    )


def call(
    master: str, method: str, path: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Send one request; return the JSON of its answer, ``{}`` for an empty one.

    Raises UnavailableError with the master's own words for anything but 2xx.
    """
    request = urllib.request.Request(
        f"{master.rstrip('/')}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            raw = response.read()
    except urllib.error.HTTPError as error:
        raise UnavailableError(_words(error)) from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{master}: {getattr(error, 'reason', error)}") from error
    answer: dict[str, Any] = json.loads(raw) if raw else {}
    return answer


def _words(error: urllib.error.HTTPError) -> str:
    raw = error.read()
    try:
        return str(json.loads(raw)["error"])
    except (ValueError, KeyError, TypeError):
        return f"status {error.code}: {raw.decode(errors='replace')[:200]}"
