"""Ask HTTP questions inside a lab: from one of its namespaces, or over a unix socket."""

import http.client
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phalanx.core.error import UnavailableError
from phalanx.labs.namespace import tcp_socket

TIMEOUT = 2.0


class _NamespaceConnection(http.client.HTTPConnection):
    def __init__(self, netns: Path | None, host: str, port: int) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._netns = netns

    def connect(self) -> None:
        self.sock = tcp_socket(self._netns)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect((self.host, self.port))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(str(self._path))


def records(netns: Path | None, host: str, port: int, path: str) -> Sequence[Any]:
    """Return the records of a RecordIO answer; raise UnavailableError when none comes."""
    connection = _NamespaceConnection(netns, host, port)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status != 200:
            raise UnavailableError(f"answers {answer.status}")
        found = []
        while size := answer.readline():
            found.append(json.loads(answer.read(int(size))))
        if not found:
            raise UnavailableError("answers without a record")
        return found
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(_words(error)) from error
    finally:
        connection.close()


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _get(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(_words(error)) from error
    finally:
        connection.close()


def ask(netns: Path | None, host: str, port: int, question: str) -> str:
    """Send *question* over TCP; return all that is answered, raise UnavailableError if nothing."""
    try:
        with tcp_socket(netns) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect((host, port))
            connection.sendall(question.encode())
            with connection.makefile("rb") as answer:
                return answer.read().decode(errors="replace")
    except OSError as error:
        raise UnavailableError(_words(error)) from error


def get_status(netns: Path | None, host: str, port: int, path: str) -> int:
    """Return the status of the answer; raise UnavailableError when there is none."""
    return _get(_NamespaceConnection(netns, host, port), path)[0]


def get_json(netns: Path | None, host: str, port: int, path: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of a 200 answer; raise UnavailableError for any other, or none."""
    return _json_of(*_get(_NamespaceConnection(netns, host, port), path))


def get_unix_json(socket_path: Path, path: str) -> Any:  # noqa: ANN401 - JSON
    """Return the JSON of a 200 answer; raise UnavailableError for any other, or none."""
    return _json_of(*_get(_UnixConnection(socket_path), path))


def _json_of(status: int, body: bytes) -> Any:  # noqa: ANN401 - JSON
    if status != 200:
        raise UnavailableError(f"answers {status}")
    try:
        return json.loads(body)
    except ValueError as error:
        raise UnavailableError(f"answers what is not JSON: {body[:40]!r}") from error
