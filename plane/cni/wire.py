"""One request and one answer, each a JSON line, between plugin and plane; sans I/O."""

from typing import Any

import msgspec

from phalanx.core.error import PhalanxError
from phalanx.net.attachment.error import CniError, Code, cni_error
from phalanx.net.attachment.request import Request, parse_request

LONGEST_LINE = 16 * 1024 * 1024  # a GC lists every attachment of a node


def decode_request(line: bytes) -> Request:
    """Parse a request; raise CniError if it is none."""
    try:
        raw = msgspec.json.decode(line)
        if isinstance(raw, dict) and isinstance(text := raw.get("config_text"), str):
            raw["config"] = msgspec.json.decode(text)  # a launcher hands on what it does not parse
    except (msgspec.DecodeError, RecursionError) as error:
        raise CniError(Code.BAD_ENCODING, f"request: {error}") from error
    return parse_request(raw)


def encode_result(result: dict[str, Any]) -> bytes:
    """Return the answer of a command that was carried out."""
    return msgspec.json.encode({"result": result}) + b"\n"


def encode_error(error: PhalanxError) -> bytes:
    """Return the answer of a command that was refused."""
    return msgspec.json.encode({"error": cni_error(error).as_json()}) + b"\n"
