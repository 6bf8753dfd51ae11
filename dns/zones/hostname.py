"""How Mesos-DNS turns names and ids into labels (reference dns §1.2, §1.4)."""

import hashlib
import string
from functools import lru_cache

LABEL_BYTES = 63

_KEPT = string.ascii_lowercase + string.digits
_MAP = {
    **{ord(char): char for char in _KEPT},
    **{ord(char): char.lower() for char in string.ascii_uppercase},
    **{ord(char): "-" for char in "-._"},
}
_Z_BASE_32 = "ybndrfg8ejkmcpqxot1uwisza345h769"


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
    clean = text.translate(_TABLE).lstrip("-")
    cut = clean[:LABEL_BYTES]
    head = cut.rstrip("-")
    if len(head) == len(cut):
        return head
    rest = clean[len(cut) :].lstrip("-")
    return head + rest[: LABEL_BYTES - len(head)]


@lru_cache(maxsize=256)
def rfc1123_domain(text: str) -> str:
    """Return *text* with each of its dotted parts as a label; parts left empty are dropped."""
    return ".".join(filter(None, map(rfc1123_label, text.split("."))))


def task_hash(task_id: str) -> str:
    """Return the 5 characters that stand for a task id in a canonical host name."""
    digest = hashlib.sha1(task_id.encode(), usedforsecurity=False).digest()
    number = int.from_bytes(digest[:4], "big")
    return "".join(_Z_BASE_32[number >> shift & 31] for shift in (27, 22, 17, 12, 7))


def agent_suffix(agent_id: str) -> str:
    """Return the part of an agent id that stands for it in a canonical host name, like ``s0``."""
    return agent_id.rpartition("-")[2].lower()
