"""Sizes as Mesos spells them in flags: ``4KB``, ``2GB``; 1 KB is 1024 bytes; pure."""

import re

from phalanx.core.error import InvalidError

_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_SIZE = re.compile(r"(\d+)\s*(B|KB|MB|GB|TB)")


def parse_size(text: str) -> int:
    """Return the bytes that *text* says; raise InvalidError for anything else."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidError(f"{text!r}: is no size such as 4KB or 2GB")
    return int(match[1]) * _UNITS[match[2]]
