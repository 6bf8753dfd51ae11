"""The host names that offers are made of: a file that an operator edits (reference mesos §5.4)."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from phalanx.core.error import InvalidError

EVERYONE = "*"


def parse_whitelist(text: str) -> frozenset[str] | None:
    """Return the names of a JSON array, or of one name a line; None for everyone.

    ``*`` stands for everyone. Raises InvalidError for JSON that is no array of
    texts.
    """
    names: Sequence[str]
    if text.lstrip().startswith("["):
        try:
            names = msgspec.json.decode(text, type=tuple[str, ...])
        except msgspec.DecodeError as error:
            raise InvalidError(f"whitelist: {error}") from error
    else:
        names = [line.strip() for line in text.splitlines() if line.strip()]
    return None if EVERYONE in names else frozenset(names)


def read_whitelist(path: Path) -> frozenset[str] | None:
    """Read such a file; raise InvalidError when it can't be."""
    try:
        return parse_whitelist(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError(f"whitelist {path}: {error}") from error
