"""How Mesos-DNS turns names and ids into labels (reference dns §1.2, §1.4)."""

import hashlib
import string
from functools import lru_cache

LABEL_BYTES = 63
RFC952_LABEL_BYTES = 24

_KEPT = string.ascii_lowercase + string.digits
_IN_DOMAIN = frozenset(_KEPT + "-_")
_MAP = {
    **{ord(char): char for char in _KEPT},
    **{ord(char): char.lower() for char in string.ascii_uppercase},
    **{ord(char): "-" for char in "-._"},
}
_Z_BASE_32 = "ybndrfg8ejkmcpqxot1uwisza345h769"
_PAIRS = [high + low for high in _Z_BASE_32 for low in _Z_BASE_32]


class _Labels(dict[int, str | None]):
    """A translation table that deletes what it does not know."""

    def __missing__(self, key: int) -> None:
        return None


_TABLE = _Labels(_MAP)


@lru_cache(maxsize=4096)  # the tasks of one app share their names
def rfc1123_label(text: str) -> str:
    """Return *text* as one label of lower-case letters, digits and inner dashes.

    A name cut at 63 characters is filled up again with what followed the
    dashes at the cut, so that long names differ where their ends differ.
    """
    return _squeezed(text, "-", LABEL_BYTES)


@lru_cache(maxsize=4096)
def rfc952_label(text: str) -> str:
    """Return *text* as one label of at most 24 characters that begins with a letter."""
    return _squeezed(text, "-" + string.digits, RFC952_LABEL_BYTES)


def _squeezed(text: str, unwanted_first: str, limit: int) -> str:
    clean = text.translate(_TABLE).lstrip(unwanted_first)
    cut = clean[:limit]
    head = cut.rstrip("-")
    if len(head) == len(cut):
        return head
    rest = clean[len(cut) :].lstrip("-")
    return head + rest[: limit - len(head)]


@lru_cache(maxsize=256)
def rfc1123_domain(text: str) -> str:
    """Return *text* with each of its dotted parts as a label; parts left empty are dropped."""
    return ".".join(filter(None, map(rfc1123_label, text.split("."))))


@lru_cache(maxsize=256)
def rfc952_domain(text: str) -> str:
    """Return *text* with each of its dotted parts as a label of RFC 952."""
    return ".".join(filter(None, map(rfc952_label, text.split("."))))


def is_domain(text: str) -> bool:
    """Tell whether *text* can be a zone: lower-case labels joined by dots."""
    return len(text) < 200 and all(
        0 < len(part) <= LABEL_BYTES and not set(part) - _IN_DOMAIN for part in text.split(".")
    )


def task_hash(task_id: str) -> str:
    """Return the 5 characters that stand for a task id in a canonical host name."""
    digest = hashlib.sha1(task_id.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:4], "big")
    return _PAIRS[number >> 22] + _PAIRS[number >> 12 & 1023] + _Z_BASE_32[number >> 7 & 31]


def agent_suffix(agent_id: str) -> str:
    """Return the part of an agent id that stands for it in a canonical host name, like ``s0``."""
    return agent_id.rpartition("-")[2].lower()
