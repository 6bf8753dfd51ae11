"""Calls of the command line to a master, a Marathon or a plane, without an event loop."""

import argparse
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

from phalanx.core.error import ConflictError, NotFoundError, PhalanxError, UnavailableError

TIMEOUT_SECONDS = 10.0
ERROR_OF: Mapping[int, type[PhalanxError]] = {404: NotFoundError, 409: ConflictError}


def add_master_flag(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take where the master is, from ``--master`` or ``PHALANX_MASTER``."""
    parser.add_argument(
        "--master",
        metavar="URL",
        default=os.environ.get("PHALANX_MASTER", "http://127.0.0.1:5050"),
        help="a master's HTTP address (default: $PHALANX_MASTER or http://127.0.0.1:5050)",
    )


def add_marathon_flag(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take where Marathon is, from ``--marathon`` or ``PHALANX_MARATHON``."""
    parser.add_argument(
        "--marathon",
        metavar="URL",
        default=os.environ.get("PHALANX_MARATHON", "http://127.0.0.1:8080"),
        help="Marathon's HTTP address (default: $PHALANX_MARATHON or http://127.0.0.1:8080)",
    )


def add_plane_flag(parser: argparse.ArgumentParser) -> None:
    """Let *parser* take where a node's plane is, from ``--plane`` or ``PHALANX_PLANE``."""
    parser.add_argument(
        "--plane",
        metavar="URL",
        default=os.environ.get("PHALANX_PLANE", "http://127.0.0.1:62080"),
        help="the node's own API (default: $PHALANX_PLANE or http://127.0.0.1:62080)",
    )


def call(server: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
    """Send one request; return the JSON of its answer, ``{}`` for an empty one.

    Raises NotFoundError for 404, ConflictError for 409 and UnavailableError for
    anything else but 2xx, with the server's own words.
    """
    with _told(server):
        request = urllib.request.Request(
            _url(server, path),
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            raw = response.read()
    return json.loads(raw) if raw else {}


@contextmanager
def opened(server: str, path: str) -> Iterator[Callable[[], Any]]:
    """Yield, as soon as the head of the answer to a GET is there, what returns its JSON.

    Both raise as ``call``.
    """
    with _told(server):
        answer = urllib.request.urlopen(_url(server, path), timeout=TIMEOUT_SECONDS)

    def body() -> Any:  # noqa: ANN401 - JSON
        with _told(server):
            return json.loads(answer.read())

    with answer:
        yield body


def _url(server: str, path: str) -> str:
    """Return where *path* is; a server may be given as HOST:PORT alone."""
    base = server if "://" in server else f"http://{server}"
    return base.rstrip("/") + path


@contextmanager
def _told(server: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise ERROR_OF.get(error.code, UnavailableError)(_words(error)) from error
    except (OSError, ValueError, HTTPException) as error:
        raise UnavailableError(f"{server}: {getattr(error, 'reason', error)}") from error


def _words(error: urllib.error.HTTPError) -> str:
    raw = error.read()
    try:
        body = json.loads(raw)
        words = str(body["error"] if "error" in body else body["message"])
        details = body.get("details", ())
        if isinstance(details, str):
            return f"{words}: {details}"
        found = [f"{item['path']}: {'; '.join(item['errors'])}" for item in details]
        return "\n  ".join([words, *found])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"status {error.code}: {raw.decode(errors='replace')[:200]}"
